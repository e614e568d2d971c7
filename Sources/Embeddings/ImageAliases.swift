import Hashing
public import Redis
public import Segmentation

/// Clients' own names for images: `<tenant, name> -> SHA-256 of the image file`.
///
/// A name leads to content and is never content: to store another image under a name changes where the name leads, and
/// nothing that others hold. Names of one tenant are unknown to all others.
///
/// ```text
/// kirie:alias:<SHA-256 of tenant, a zero byte, name>     the image's 64 digits, with a time to live
/// ```
/// The names are hashed because they are of any length and any bytes.
public struct ImageAliases: Sendable {
    private let redis: RedisClient
    private let namespace: String

    /// The aliases of a namespace.
    public init(_ redis: RedisClient, namespace: String = "kirie") {
        self.redis = redis
        self.namespace = namespace
    }

    /// Lets a name lead to an image for a time.
    public func set(
        _ name: String, tenant: String = "", to image: ImageDigest, timeToLive: Duration
    ) async throws(RedisError) {
        try await redis.set(key(name, tenant), .string(image.hexadecimal), expiry: timeToLive)
    }

    /// Where a name leads; nil where it leads nowhere.
    public func image(_ name: String, tenant: String = "") async throws(RedisError) -> ImageDigest? {
        try await redis.get(key(name, tenant)).flatMap { ImageDigest($0.string) }
    }

    /// Forgets a name; returns whether it was known.
    @discardableResult
    public func remove(_ name: String, tenant: String = "") async throws(RedisError) -> Bool {
        try await redis.remove([key(name, tenant)]) > 0
    }

    private func key(_ name: String, _ tenant: String) -> String {
        var hash = SHA256()
        hash.update(tenant.utf8)
        hash.update(CollectionOfOne(0))
        hash.update(name.utf8)
        return "\(namespace):alias:\(ImageDigest(bytes: hash.finalize().bytes))"
    }
}

extension ImageDigest {
    /// The digest of an image file's bytes.
    public init(ofFile bytes: UnsafeRawBufferPointer) {
        self.init(bytes: SHA256.hash(bytes).bytes)
    }
}

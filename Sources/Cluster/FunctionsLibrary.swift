internal import CFunctionsLibrary
public import Redis

/// The cluster's protocol as it is loaded into Redis: `Resources/kirie`.
public struct FunctionsLibrary: Sendable, Hashable {
    /// Which language the functions speak.
    public let protocolNumber: Int
    /// Which edition of the library it is.
    public let revision: Int

    /// What this program was built with.
    public static let own = FunctionsLibrary(protocolNumber: 1, revision: 10)

    /// The library's source: the parts in `Resources/kirie`, put together.
    public static var source: String { String(cString: kirie_functions_library()) }

    /// The library in Redis; nil where none is loaded.
    public static func loaded(in redis: RedisClient) async throws(ClusterError) -> FunctionsLibrary? {
        do {
            let replies = try await redis.sendToEveryPrimary(.callReadOnly("kirie_version", keys: []))
            let found = replies.compactMap { FunctionsLibrary($0) }
            return found.min { ($0.protocolNumber, $0.revision) < ($1.protocolNumber, $1.revision) }
        } catch {
            if case .server(let refusal, _) = error, refusal.message.contains("Function not found") { return nil }
            throw ClusterError(error)
        }
    }

    /// Sees to it that Redis can be worked with.
    ///
    /// Its version, its memory policy, and this library or a newer one of the same protocol on every primary. Each primary is
    /// looked at for itself, and a newer library is never replaced.
    ///
    /// - Throws: ``ClusterError/memoryPolicy(found:server:)``, ``ClusterError/serverTooOld(found:)``,
    ///   ``ClusterError/otherProtocol(found:expected:)``.
    public static func ensure(in redis: RedisClient) async throws(ClusterError) {
        try await checkServer(redis)
        redis.keepFunctions(source)
        do throws(RedisError) {
            try await redis.loadFunctions(source, asking: .callReadOnly("kirie_version", keys: [])) { reply in
                guard let found = FunctionsLibrary(reply) else { return true }
                return (found.protocolNumber, found.revision) < (own.protocolNumber, own.revision)
            }
        } catch {
            if case .server(let refusal, "FUNCTION") = error, refusal.code == "NOPERM" {
                throw .setUpForbidden(server: "\(redis.url)")
            }
            throw ClusterError(error)
        }
        // What is there now is this library or one that speaks more.
        if let found = try await loaded(in: redis), found.protocolNumber != own.protocolNumber {
            throw .otherProtocol(found: found.protocolNumber, expected: own.protocolNumber)
        }
    }

    init(protocolNumber: Int, revision: Int) {
        self.protocolNumber = protocolNumber
        self.revision = revision
    }

    /// Takes the reply of `kirie_version`; nil where it is none.
    private init?(_ reply: RedisValue) {
        guard let parts = reply.array, parts.count == 2, let number = parts[0].integer, let revision = parts[1].integer
        else { return nil }
        self.init(protocolNumber: number, revision: revision)
    }

    /// Sees to it that Redis has functions at all: it says at the login how old it is.
    static func checkVersion(_ redis: RedisClient) throws(ClusterError) {
        guard let version = redis.greeting["version"],
            let major = version.split(separator: ".").first.flatMap({ Int($0) }), major < 7
        else { return }
        throw .serverTooOld(found: version)
    }

    /// Sees to it that Redis evicts no jobs, as far as this user may ask: under `allkeys-*` it evicts whatever it likes.
    ///
    /// - Throws: ``ClusterError/memoryPolicy(found:server:)``, ``ClusterError/serverTooOld(found:)``.
    package static func checkServer(_ redis: RedisClient) async throws(ClusterError) {
        try checkVersion(redis)
        let sections: ([[String: String]], [[String: String]])
        do {
            sections = (try await redis.info("server"), try await redis.info("memory"))
        } catch {
            // A user without the right to ask is no reason to stop: who set up the rights has looked at the settings.
            if error.serverCode == "NOPERM" { return }
            throw ClusterError(error)
        }
        for server in sections.0 {
            let version = server["redis_version"] ?? "unknown"
            if let major = version.split(separator: ".").first.flatMap({ Int($0) }), major < 7 {
                throw .serverTooOld(found: version)
            }
        }
        for memory in sections.1 {
            if let policy = memory["maxmemory_policy"], policy.hasPrefix("allkeys") {
                throw .memoryPolicy(found: policy, server: "\(redis.url)")
            }
        }
    }
}

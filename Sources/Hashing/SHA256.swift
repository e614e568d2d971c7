internal import CCrypto

/// The SHA-256 of bytes that come in pieces (FIPS 180-4), computed by libcrypto on the processor's own instructions.
///
/// ```swift
/// var hash = SHA256()
/// hash.update(piece)
/// let digest = hash.finalize()
/// ```
public struct SHA256: ~Copyable {
    /// 32 bytes, the most significant first.
    public struct Digest: Hashable, Sendable {
        /// The bytes.
        public let bytes: [UInt8]
    }

    private let context: OpaquePointer

    /// A hash of no bytes so far.
    public init() {
        guard let context = EVP_MD_CTX_new() else { preconditionFailure("no memory for the context of a hash") }
        self.context = context
        Self.expect(EVP_DigestInit_ex(context, EVP_sha256(), nil))
    }

    deinit { EVP_MD_CTX_free(context) }

    /// Goes on with these bytes.
    public mutating func update(_ bytes: UnsafeRawBufferPointer) {
        Self.expect(EVP_DigestUpdate(context, bytes.baseAddress, bytes.count))
    }

    /// Goes on with these bytes.
    public mutating func update(_ bytes: some Sequence<UInt8>) {
        let viewed: Void? = bytes.withContiguousStorageIfAvailable { update(UnsafeRawBufferPointer($0)) }
        if viewed == nil { Array(bytes).withUnsafeBytes { update($0) } }
    }

    /// The digest of all that came.
    public consuming func finalize() -> Digest {
        let bytes = [UInt8](unsafeUninitializedCapacity: 32) { buffer, count in
            Self.expect(EVP_DigestFinal_ex(context, buffer.baseAddress, nil))
            count = 32
        }
        return Digest(bytes: bytes)
    }

    /// The digest of bytes that are there as a whole.
    public static func hash(_ bytes: UnsafeRawBufferPointer) -> Digest {
        var hash = SHA256()
        hash.update(bytes)
        return hash.finalize()
    }

    /// The digest of bytes that are there as a whole.
    public static func hash(_ bytes: some Sequence<UInt8>) -> Digest {
        var hash = SHA256()
        hash.update(bytes)
        return hash.finalize()
    }

    /// libcrypto refuses these calls only where it was built without SHA-256: nothing from outside can bring that about.
    private static func expect(_ result: Int32) { precondition(result == 1, "libcrypto has no SHA-256") }
}

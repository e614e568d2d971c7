import Glibc

/// Bytes in one piece that somebody else may own: the value of a key as the parser left it, or memory that is sent
/// from where it lies.
///
/// An immutable object: handing it on copies nothing. Two are equal when their bytes are.
///
/// `@unchecked Sendable`: the memory is written before the object exists and never again.
public final class RedisBytes: @unchecked Sendable {
    private enum Owner {
        case malloc
        case object(any AnyObject & Sendable)
    }

    private let memory: UnsafeRawBufferPointer
    private let owner: Owner

    /// The number of bytes.
    public var count: Int { memory.count }

    /// Copies bytes.
    public convenience init(_ bytes: some Collection<UInt8>) {
        self.init(count: bytes.count) { memory in
            memory.copyBytes(from: bytes)
        }
    }

    /// Copies the UTF-8 form of a text.
    public convenience init(_ text: String) { self.init(Array(text.utf8)) }

    /// Takes memory of `count` bytes, 64-byte aligned, that `initialize` writes in full.
    public init<Failure: Error>(
        count: Int, initializingWith initialize: (UnsafeMutableRawBufferPointer) throws(Failure) -> Void
    ) throws(Failure) {
        var raw: UnsafeMutableRawPointer?
        let status = posix_memalign(&raw, 64, max(count, 1))
        guard status == 0, let raw else { preconditionFailure("no memory for \(count) bytes") }
        let writable = UnsafeMutableRawBufferPointer(start: raw, count: count)
        memory = UnsafeRawBufferPointer(writable)
        owner = .malloc
        try initialize(writable)
    }

    /// Refers to memory that `owner` keeps valid and unchanged as long as it lives; nothing is copied.
    public init(borrowing memory: UnsafeRawBufferPointer, from owner: any AnyObject & Sendable) {
        self.memory = memory
        self.owner = .object(owner)
    }

    /// Takes over memory that came from `malloc`.
    init(taking memory: UnsafeMutableRawPointer, count: Int) {
        self.memory = UnsafeRawBufferPointer(start: memory, count: count)
        owner = .malloc
    }

    deinit {
        if case .malloc = owner { free(UnsafeMutableRawPointer(mutating: memory.baseAddress)) }
    }

    /// Calls `body` with the bytes; the pointer is valid during the call only and need not be aligned.
    public func withUnsafeBytes<Result, Failure: Error>(
        _ body: (UnsafeRawBufferPointer) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        defer { withExtendedLifetime(self) {} }
        return try body(memory)
    }

    /// A copy as an array.
    public var array: [UInt8] { withUnsafeBytes { Array($0) } }

    /// The bytes as text; what is no UTF-8 becomes U+FFFD.
    public var string: String { withUnsafeBytes { String(decoding: $0, as: UTF8.self) } }
}

extension RedisBytes: Hashable {
    /// Whether both hold the same bytes.
    public static func == (left: RedisBytes, right: RedisBytes) -> Bool {
        guard left !== right else { return true }
        guard left.count == right.count else { return false }
        return left.withUnsafeBytes { l in
            right.withUnsafeBytes { r in
                guard let l = l.baseAddress, let r = r.baseAddress else { return true }
                return memcmp(l, r, left.count) == 0
            }
        }
    }

    /// Feeds the bytes.
    public func hash(into hasher: inout Hasher) {
        withUnsafeBytes { hasher.combine(bytes: $0) }
    }
}

extension RedisBytes: CustomStringConvertible {
    /// The length alone: values are images and embeddings, and have no place in a log.
    public var description: String { "\(count) bytes" }
}

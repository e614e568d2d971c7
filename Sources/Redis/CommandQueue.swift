/// What one connection was asked and still owes, as a value without a socket that the channel obeys.
///
/// Commands stand in the order in which their bytes go out, and so in the order in which their answers come in.
/// ```text
///            handed to the system              not yet
///  |------------------------------------|-------------------|
///  ^ entry 0 ....... ^ entry 1 ......   ^ handedOver        ^ accepted        (offsets in the stream of bytes)
/// ```
/// An entry is a command or a pipeline. It may have run when the bytes of its first command were handed over in full.
struct CommandQueue: Sendable {
    /// Who waits for an entry.
    enum Waiter: Sendable {
        case one(UnsafeContinuation<Result<RedisValue, RedisError>, Never>)
        case all(UnsafeContinuation<Result<[RedisValue], RedisError>, Never>)

        func fail(_ error: RedisError) {
            switch self {
            case .one(let continuation): continuation.resume(returning: .failure(error))
            case .all(let continuation): continuation.resume(returning: .failure(error))
            }
        }
    }

    /// An entry that is complete.
    struct Completion: Sendable {
        fileprivate let waiter: Waiter
        fileprivate let replies: [RedisValue]

        func resume() {
            switch waiter {
            case .one(let continuation): continuation.resume(returning: .success(replies.first ?? .null))
            case .all(let continuation): continuation.resume(returning: .success(replies))
            }
        }
    }

    /// A command or pipeline under way.
    struct Entry: Sendable {
        let name: String
        let expected: Int
        let deadline: UInt64
        let timeout: Duration
        let waiter: Waiter
        fileprivate var replies: [RedisValue] = []
        fileprivate var mayHaveRunFrom: UInt64 = 0

        init(name: String, expected: Int, deadline: UInt64, timeout: Duration, waiter: Waiter) {
            self.name = name
            self.expected = expected
            self.deadline = deadline
            self.timeout = timeout
            self.waiter = waiter
        }
    }

    private var entries: [Entry?] = []
    private var head = 0
    private var accepted: UInt64 = 0
    /// Bytes that the system has taken, or is being given at this moment.
    var handedOver: UInt64 = 0

    /// The entry whose answer comes next.
    var oldest: Entry? { head < entries.count ? entries[head] : nil }

    /// Adds an entry whose encoding has `byteCount` bytes, the first command ending at `firstCommandEnd`.
    mutating func append(_ entry: Entry, byteCount: Int, firstCommandEnd: Int) {
        var entry = entry
        entry.mayHaveRunFrom = accepted + UInt64(firstCommandEnd)
        accepted += UInt64(byteCount)
        entries.append(entry)
    }

    /// Gives the oldest entry an answer; returns false when nobody waits for one.
    mutating func receive(_ reply: RedisValue, completing completions: inout [Completion]) -> Bool {
        guard head < entries.count, let expected = entries[head]?.expected else { return false }
        entries[head]?.replies.append(reply)
        if let entry = entries[head], entry.replies.count == expected {
            completions.append(Completion(waiter: entry.waiter, replies: entry.replies))
            entries[head] = nil
            head += 1
            if head == entries.count {
                entries.removeAll(keepingCapacity: true)
                head = 0
            } else if head > 1024, head > entries.count / 2 {
                entries.removeFirst(head)
                head = 0
            }
        }
        return true
    }

    /// Empties the queue: every entry, and whether the server may have run some of it.
    mutating func drain() -> [(entry: Entry, mayHaveRun: Bool)] {
        let left = entries[head...].compactMap { $0 }
        entries = []
        head = 0
        return left.map { ($0, handedOver >= $0.mayHaveRunFrom) }
    }
}

import HTTPTypes
import Hummingbird
import NIOCore
import Synchronization

/// Reads the bodies of requests within bounds of bytes, of time, and of memory in all of them together.
struct BodyReader: Sendable {
    /// A body may take so long and, beyond it, as long as its bytes take at ``slowest``.
    static let patience: Duration = .seconds(20)
    /// Bytes a second; whoever sends less keeps memory for nothing.
    static let slowest = 16_384

    let budget: ByteBudget

    /// The whole body.
    ///
    /// - Throws: ``Problem``: it is larger than `limit`, comes too slowly or there is no memory for it now.
    func bytes(of request: Request, atMost limit: Int, what: String) async throws -> [UInt8] {
        var bytes: [UInt8] = []
        try await forEachChunk(of: request, atMost: limit, what: what) { chunk in
            bytes.append(contentsOf: chunk.readableBytesView)
        }
        return bytes
    }

    /// Hands on the body chunk by chunk.
    func forEachChunk(
        of request: Request, atMost limit: Int, what: String, holding isHeld: Bool = true,
        _ take: (ByteBuffer) async throws -> Void
    ) async throws {
        let announced = request.headers[.contentLength].flatMap { Int($0) }
        if let announced, announced > limit { throw Self.tooLarge(announced, limit, what) }
        let clock = ContinuousClock()
        let start = clock.now
        var received = 0
        let share = budget.share()
        for try await chunk in request.body {
            if Task.isCancelled { throw CancellationError() }
            received += chunk.readableBytes
            if received > limit { throw Self.tooLarge(received, limit, what) }
            if isHeld, !share.add(chunk.readableBytes) {
                throw Problem(
                    .serviceUnavailable, "busy",
                    "so many large requests are being read that there is no memory for \(what)",
                    retryAfter: .seconds(1))
            }
            let allowed = Self.patience + .milliseconds(received * 1000 / Self.slowest)
            if clock.now - start > allowed {
                throw Problem(
                    .requestTimeout, "too-slow", "\(what) came at less than \(Self.slowest) bytes a second",
                    headers: [.connection: "close"])
            }
            try await take(chunk)
        }
    }

    private static func tooLarge(_ bytes: Int, _ limit: Int, _ what: String) -> Problem {
        // What follows of the body is not read: the connection is of no more use.
        Problem(
            .contentTooLarge, "too-large", "\(what): \(bytes) bytes or more; at most \(limit) are taken",
            headers: [.connection: "close"])
    }
}

/// Bytes of all bodies that are in memory at a time.
final class ByteBudget: Sendable {
    private let limit: Int
    /// Guards the sum.
    private let used = Mutex(0)

    init(limit: Int) { self.limit = limit }

    /// What one request holds; given back when nobody has it any more.
    func share() -> Share { Share(self) }

    final class Share: Sendable {
        private let budget: ByteBudget
        private let held = Mutex(0)

        fileprivate init(_ budget: ByteBudget) { self.budget = budget }

        /// Takes more; false where there is no more.
        func add(_ bytes: Int) -> Bool {
            let fits = budget.used.withLock { used in
                guard used + bytes <= budget.limit else { return false }
                used += bytes
                return true
            }
            if fits { held.withLock { $0 += bytes } }
            return fits
        }

        deinit {
            let bytes = held.withLock { $0 }
            budget.used.withLock { $0 -= bytes }
        }
    }
}

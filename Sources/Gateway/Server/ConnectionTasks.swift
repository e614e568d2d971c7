import HTTPTypes
import Hummingbird
import HummingbirdCore
import Logging
import NIOCore

/// Runs the tasks of a connection on the thread that reads and writes it.
///
/// Else each step from the socket to the handler and back wakes a thread of the concurrency pool: a click is read, asked
/// and written in a few microseconds of work, and would spend most of its time on being handed from thread to thread.
/// Work that takes long is not for this thread, which has other connections: see ``Elsewhere``.
struct ConnectionTasks<Base: ServerChildChannel>: ServerChildChannel {
    private let base: Base

    init(_ base: Base) { self.base = base }

    func setup(channel: any Channel, logger: Logger) -> EventLoopFuture<Base.Value> {
        base.setup(channel: channel, logger: logger)
    }

    func handle(value: Base.Value, logger: Logger) async {
        await withTaskExecutorPreference(EventLoopTaskExecutor(value.channel.eventLoop)) {
            await base.handle(value: value, logger: logger)
        }
    }
}

/// Runs what tasks do between two suspensions on an event loop (SE-0417).
final class EventLoopTaskExecutor: TaskExecutor {
    private let eventLoop: any EventLoop

    init(_ eventLoop: any EventLoop) { self.eventLoop = eventLoop }

    func enqueue(_ job: consuming ExecutorJob) {
        let job = UnownedJob(job)
        eventLoop.execute { job.runSynchronously(on: self.asUnownedTaskExecutor()) }
    }
}

/// Work that would keep a connection's thread from its other connections.
enum Elsewhere {
    /// Bytes from which reading or writing JSON, or hashing, is such work: about a millisecond.
    static let bytes = 256 << 10

    /// Runs `body` on the concurrency pool where it has as many bytes before it, else where the caller runs.
    static func run<Value: Sendable>(for count: Int, _ body: @Sendable () async throws -> Value) async throws -> Value {
        guard count >= bytes else { return try await body() }
        return try await withTaskExecutorPreference(globalConcurrentExecutor, operation: body)
    }
}

/// Answers requests with large bodies on the concurrency pool.
struct LargeBodiesMiddleware<Context: RequestContext>: RouterMiddleware {
    func handle(
        _ request: Request, context: Context, next: (Request, Context) async throws -> Response
    ) async throws -> Response {
        // What comes in chunks does not say how much it is.
        let count = request.headers[.contentLength].flatMap(Int.init)
        let isLarge = count.map { $0 >= Elsewhere.bytes } ?? (request.headers[.transferEncoding] != nil)
        guard isLarge else { return try await next(request, context) }
        return try await withTaskExecutorPreference(globalConcurrentExecutor) { try await next(request, context) }
    }
}

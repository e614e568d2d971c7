import CKernels
import Glibc

/// The threads that share one piece of arithmetic.
///
/// A process makes one pool and passes it down, so that two models never fight over the cores. Calls from several
/// threads at once are served together; a call from inside a body runs on the calling thread alone, which makes
/// nesting safe and keeps the number of running threads at ``threadCount``.
///
/// `@unchecked Sendable`: `mutex` protects `batches`, `isShutDown` and `placed`; a batch's counters are touched only under it.
public final class ThreadPool: @unchecked Sendable {
    /// How many threads work on one call, the caller among them.
    public let threadCount: Int

    /// No threads but the caller's.
    public static let inline = ThreadPool(threadCount: 1)

    private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    private let workArrived = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
    private let batchFinished = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
    private var batches: [Batch] = []
    private var threads: [pthread_t] = []
    private var isShutDown = false
    private let isPinned: Bool
    /// Threads that have found their processor; guarded by `mutex`.
    private var placed = 0

    /// The processors that this process may run on.
    public static var availableProcessors: Int { Int(kirie_available_processors()) }

    /// A pool of `threadCount` threads, of which the caller of ``parallel(_:_:)`` is one.
    ///
    /// - Parameters:
    ///   - threadCount: at least 1; 1 makes a pool without threads of its own.
    ///   - isPinned: whether each thread of the pool stays on one processor, the second on the second of those that the
    ///     process may use, and so on. Callers stay where they are: they are the process's, not the pool's.
    public init(threadCount: Int = ThreadPool.availableProcessors, isPinned: Bool = false) {
        self.threadCount = max(1, threadCount)
        self.isPinned = isPinned
        pthread_mutex_init(mutex, nil)
        pthread_cond_init(workArrived, nil)
        pthread_cond_init(batchFinished, nil)
        for _ in 1..<self.threadCount {
            var thread = pthread_t()
            // The thread holds the pool unowned: deinit joins it before the memory goes.
            let pool = Unmanaged.passUnretained(self).toOpaque()
            if pthread_create(&thread, nil, { runWorker($0) }, pool) == 0 { threads.append(thread) }
        }
    }

    deinit {
        pthread_mutex_lock(mutex)
        isShutDown = true
        pthread_cond_broadcast(workArrived)
        pthread_mutex_unlock(mutex)
        for thread in threads { pthread_join(thread, nil) }
        pthread_cond_destroy(workArrived)
        pthread_cond_destroy(batchFinished)
        pthread_mutex_destroy(mutex)
        workArrived.deallocate()
        batchFinished.deallocate()
        mutex.deallocate()
    }

    /// Calls `body` once for every index below `count`, on all threads of the pool, and returns when all are done.
    ///
    /// `body` runs on several threads at once and must write to memory of its index only. The order is open; results
    /// that must not depend on the number of threads must not depend on the order.
    public func parallel(_ count: Int, _ body: (Int) -> Void) {
        guard count > 1, !threads.isEmpty, !WorkerMark.isSet else {
            for index in 0..<max(0, count) { body(index) }
            return
        }
        withoutActuallyEscaping(body) { body in
            // Threads reach the closure through this address and let go of it within each call, so that none of them
            // holds it when the last call has ended.
            withUnsafePointer(to: body) { body in
                let batch = Batch(count: count, body: body)
                pthread_mutex_lock(mutex)
                batches.append(batch)
                pthread_cond_broadcast(workArrived)
                WorkerMark.set(true)
                while let index = batch.takeIndex() { run(index, of: batch) }
                WorkerMark.set(false)
                while batch.unfinished > 0 { pthread_cond_wait(batchFinished, mutex) }
                batches.removeAll { $0 === batch }
                pthread_mutex_unlock(mutex)
            }
        }
    }

    /// Runs one index with the mutex released; called and left with the mutex held.
    private func run(_ index: Int, of batch: Batch) {
        pthread_mutex_unlock(mutex)
        batch.call(index)
        pthread_mutex_lock(mutex)
        batch.unfinished -= 1
        if batch.unfinished == 0 { pthread_cond_broadcast(batchFinished) }
    }

    fileprivate func serve() {
        WorkerMark.set(true)
        pthread_mutex_lock(mutex)
        placed += 1
        if isPinned { _ = kirie_pin_thread(Int32(placed)) }
        while !isShutDown {
            var worked = false
            for batch in batches {
                guard let index = batch.takeIndex() else { continue }
                run(index, of: batch)
                worked = true
                break
            }
            if !worked { pthread_cond_wait(workArrived, mutex) }
        }
        pthread_mutex_unlock(mutex)
    }
}

/// One call of ``ThreadPool/parallel(_:_:)``: its body and how far it has come; guarded by the pool's mutex.
private final class Batch {
    let count: Int
    var next = 0
    var unfinished: Int
    /// Valid until `unfinished` is 0.
    private let body: UnsafePointer<(Int) -> Void>

    init(count: Int, body: UnsafePointer<(Int) -> Void>) {
        self.count = count
        self.body = body
        unfinished = count
    }

    /// Calls the body; not inlined, so that the closure is released before the call is counted as finished.
    @inline(never)
    func call(_ index: Int) { body.pointee(index) }

    func takeIndex() -> Int? {
        guard next < count else { return nil }
        defer { next += 1 }
        return next
    }
}

private func runWorker(_ pool: UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? {
    guard let pool else { return nil }
    Unmanaged<ThreadPool>.fromOpaque(pool).takeUnretainedValue().serve()
    return nil
}

/// Marks a thread that is inside a parallel body, so that a nested call runs inline.
private enum WorkerMark {
    private static let key: pthread_key_t = {
        var key = pthread_key_t()
        pthread_key_create(&key, nil)
        return key
    }()

    static var isSet: Bool { pthread_getspecific(key) != nil }

    static func set(_ isWorking: Bool) {
        pthread_setspecific(key, isWorking ? UnsafeRawPointer(bitPattern: 1) : nil)
    }
}

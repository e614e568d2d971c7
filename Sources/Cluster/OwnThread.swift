import Dispatch
import Processes
import Synchronization

/// A thread of its own for a task: whatever the task's functions do that belongs to no actor runs there, one piece after
/// another, so that they may compute or wait without taking one of the few threads of Swift's cooperative pool.
///
/// ```swift
/// await withTaskExecutorPreference(OwnThread()) { … }
/// ```
/// The next piece of work is mostly there before the thread has gone to sleep; an answer that comes on another thread
/// wakes this one and no other.
package final class OwnThread: TaskExecutor {
    private struct State: Sendable {
        var jobs: [@Sendable () -> Void] = []
        var isClosed = false
    }

    /// The line of work and whether there will be more, without a cycle back to the owner.
    private final class Line: Sendable {
        /// Guards the jobs that wait.
        let state = Mutex(State())
        let signal = DispatchSemaphore(value: 0)

        func serve() {
            while true {
                signal.wait()
                let (job, isClosed) = state.withLock { state in
                    (state.jobs.isEmpty ? nil : state.jobs.removeFirst(), state.isClosed)
                }
                if let job { job() } else if isClosed { return }
            }
        }
    }

    private let line = Line()

    /// Starts the thread.
    package init() {
        let line = line
        // Dispatch waits for a thread to become free where the system has none left.
        if !BackgroundThread.start({ line.serve() }) { DispatchQueue.global().async { line.serve() } }
    }

    deinit {
        line.state.withLock { $0.isClosed = true }
        line.signal.signal()
    }

    /// Runs a piece of a task after those that came before.
    package func enqueue(_ job: consuming ExecutorJob) {
        let job = UnownedJob(job)
        line.state.withLock { $0.jobs.append { job.runSynchronously(on: self.asUnownedTaskExecutor()) } }
        line.signal.signal()
    }
}

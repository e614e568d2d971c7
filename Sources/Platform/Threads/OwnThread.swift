import Dispatch
import Glibc

/// A thread of its own for a task: whatever the task's functions do that belongs to no actor runs there, one piece after
/// another, so that they may compute or wait without taking one of the few threads of Swift's cooperative pool.
///
/// ```swift
/// await withTaskExecutorPreference(OwnThread()) { await work() }
/// ```
/// An answer that comes on another thread wakes this one and no other.
package final class OwnThread: TaskExecutor {
    private let line = ThreadLine()

    /// Starts the thread; with a `niceness` it gives way to the process's others by so much.
    package init(niceness: Int32 = 0) {
        let line = line
        if niceness > 0 {
            // Of Linux's threads each has its own.
            let which = Int32(PRIO_PROCESS.rawValue)
            line.append { setpriority(which, 0, getpriority(which, 0) + niceness) }
        }
        // Dispatch waits for a thread to become free where the system has none left.
        if !line.startThread() { DispatchQueue.global().async { line.serve() } }
    }

    deinit { line.close() }

    /// Runs a piece of a task after those that came before.
    package func enqueue(_ job: consuming ExecutorJob) {
        let job = UnownedJob(job)
        line.append { job.runSynchronously(on: self.asUnownedTaskExecutor()) }
    }
}

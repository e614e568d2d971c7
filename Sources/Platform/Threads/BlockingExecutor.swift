import Dispatch

/// Where an actor runs whose calls wait in the kernel (files, pipes, terminals): on a thread outside Swift's cooperative
/// pool, one call after another.
///
/// ```swift
/// actor Pages {
///     private let thread = BlockingExecutor()
///     nonisolated var unownedExecutor: UnownedSerialExecutor { thread.asUnownedSerialExecutor() }
/// }
/// ```
package final class BlockingExecutor: SerialExecutor {
    // A private serial queue gets a thread whenever it has work, however many others wait.
    private let queue = DispatchQueue(label: "kirie.blocking")

    /// An executor that holds no thread while it has nothing to do.
    package init() {}

    /// Runs a piece of an actor after those that came before.
    package func enqueue(_ job: consuming ExecutorJob) {
        let job = UnownedJob(job)
        queue.async { job.runSynchronously(on: self.asUnownedSerialExecutor()) }
    }
}

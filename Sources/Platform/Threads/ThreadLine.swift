import Dispatch
import Synchronization

/// Work in line for threads of its own, outside Swift's cooperative pool: first come, first served.
///
/// Threads hold the line and not its owner, so an owner that goes can ``close()`` it; they end when nothing is left in it.
package final class ThreadLine: Sendable {
    private struct State: Sendable {
        var work: [@Sendable () -> Void] = []
        var isClosed = false
    }

    /// Guards the work that waits.
    private let state = Mutex(State())
    private let signal = DispatchSemaphore(value: 0)

    /// A line that nobody serves yet.
    package init() {}

    /// Starts a thread that serves the line; returns false where the system has none left.
    package func startThread() -> Bool { BackgroundThread.start { self.serve() } }

    /// Puts work in line.
    package func append(_ work: @escaping @Sendable () -> Void) {
        state.withLock { $0.work.append(work) }
        signal.signal()
    }

    /// Lets the threads end after the work that is in line.
    package func close() {
        state.withLock { $0.isClosed = true }
        signal.signal()
    }

    /// Works on the calling thread until the line is closed and empty.
    package func serve() {
        while true {
            signal.wait()
            let (work, isClosed) = state.withLock { state in
                (state.work.isEmpty ? nil : state.work.removeFirst(), state.isClosed)
            }
            if let work {
                work()
            } else if isClosed {
                // The next thread is to see it too.
                signal.signal()
                return
            }
        }
    }
}

import Platform
import Synchronization

/// A place where a process runs that is started again whenever it ends, as a supervisor would.
final class WorkerSlot: Sendable {
    private struct State: Sendable {
        var process: ChildProcess?
        var name = ""
        var generation = 0
        var isOver = false
    }

    /// What every name of the place begins with.
    let name: String
    private let begin: @Sendable (String) async throws -> ChildProcess
    /// Guards which process runs.
    private let state = Mutex(State())

    /// A slot whose processes `begin` starts, each under the name given, which is new each time.
    init(_ name: String, _ begin: @escaping @Sendable (String) async throws -> ChildProcess) {
        self.name = name
        self.begin = begin
    }

    /// How often it was started.
    var starts: Int { state.withLock { $0.generation } }

    /// The running process and its name.
    var current: (name: String, process: ChildProcess)? {
        state.withLock { state in
            guard let process = state.process, process.isRunning else { return nil }
            return (state.name, process)
        }
    }

    /// Runs until ``close()``.
    func keepRunning() async throws {
        while true {
            let next: String? = state.withLock { state in
                guard !state.isOver else { return nil }
                state.generation += 1
                state.name = "\(name)-\(state.generation)"
                return state.name
            }
            guard let next else { return }
            let process = try await begin(next)
            let isOver = state.withLock { state in
                state.process = process
                return state.isOver
            }
            if isOver { process.signal(9) }
            await process.waitForExit()
        }
    }

    /// Kills what runs, for good.
    func close() {
        let process = state.withLock { state in
            state.isOver = true
            return state.process
        }
        process?.signal(9)
    }
}

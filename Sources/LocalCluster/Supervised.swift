import Platform
import Synchronization
import Terminals
import UnixSignals

/// A child process that is started again when it ends by itself.
package final class Supervised: Sendable {
    private struct State: Sendable {
        var process: ChildProcess?
        var isStopping = false
        var failures = 0
    }

    package let name: String
    private let program: String
    private let arguments: [String]
    private let log: String
    private let beforeRestart: @Sendable () async throws -> Void
    /// Guards the process that runs now.
    private let state = Mutex(State())

    /// A program that does not run yet, and whose output will be added to the file `log`.
    ///
    /// - Parameters:
    ///   - name: what it is called in complaints.
    ///   - program: its path.
    ///   - arguments: what it is told.
    ///   - log: the path of the file.
    ///   - beforeRestart: what is done before it is started again; while that fails, it is not.
    package init(
        name: String, program: String, arguments: [String], log: String,
        beforeRestart: @escaping @Sendable () async throws -> Void = {}
    ) {
        self.beforeRestart = beforeRestart
        self.name = name
        self.program = program
        self.arguments = arguments
        self.log = log
    }

    /// How often in a row it ended soon after its start.
    package var failures: Int { state.withLock { $0.failures } }

    /// Starts it, and again after a pause that doubles up to ten seconds; a process that ran for half a minute was well.
    package func keepRunning() async {
        while true {
            let began = ContinuousClock.now
            let process: ChildProcess
            do {
                guard let started = try start() else { return }
                process = started
            } catch {
                Terminal.complain("kirie up: \(name): \(error)")
                return
            }
            let exit = await process.waitForExit()
            if state.withLock({ $0.isStopping }) || Task.isCancelled { return }
            let wasWell = ContinuousClock.now - began > .seconds(30)
            var pause = nextPause(afterRunningWell: wasWell)
            Terminal.complain("kirie up: \(name) ended with \(exit) (see \(log)); starting it again in \(pause)")
            try? await Task.sleep(for: pause)
            while true {
                if state.withLock({ $0.isStopping }) || Task.isCancelled { return }
                do {
                    try await beforeRestart()
                    break
                } catch {
                    pause = nextPause(afterRunningWell: false)
                    Terminal.complain("kirie up: \(name) is not started: \(error); trying again in \(pause)")
                    try? await Task.sleep(for: pause)
                }
            }
        }
    }

    /// Doubles with each failure in a row.
    private func nextPause(afterRunningWell wasWell: Bool) -> Duration {
        let failures = state.withLock { state in
            state.failures = wasWell ? 0 : min(state.failures + 1, 7)
            return state.failures
        }
        return min(.milliseconds(50 << failures), .seconds(10))
    }

    /// Sends SIGTERM and returns when it has ended.
    package func stop() async {
        let process = state.withLock { state in
            state.isStopping = true
            return state.process
        }
        process?.signal(15)
        await process?.waitForExit()
    }

    /// Sends SIGKILL.
    package func kill() { state.withLock { $0.process }?.signal(9) }

    private func start() throws -> ChildProcess? {
        try state.withLock { state in
            if state.isStopping { return nil }
            var options = ChildProcess.Options(output: .file(log))
            options.hasOwnGroup = true
            options.signalWhenOrphaned = 15
            let process = try ChildProcess.start(program, arguments, options)
            state.process = process
            return process
        }
    }
}

/// SIGINT and SIGTERM as events; the process does not end of them any more.
package final class StopSignals: Sendable {
    private let raised = Atomic<Int>(0)
    private let stream: AsyncStream<Void>
    private let continuation: AsyncStream<Void>.Continuation

    private init() { (stream, continuation) = AsyncStream.makeStream() }

    /// From here on the signals are caught.
    package static func trapped() async -> StopSignals {
        let signals = StopSignals()
        let sequence = await UnixSignalsSequence(trapping: .sigint, .sigterm)
        Task {
            for await _ in sequence {
                signals.raised.wrappingAdd(1, ordering: .relaxed)
                signals.continuation.yield()
            }
        }
        return signals
    }

    /// Whether one came.
    package var wasRaised: Bool { raised.load(ordering: .relaxed) > 0 }

    /// Returns with the next signal that was not returned for yet, or when the task is cancelled.
    package func next() async {
        for await _ in stream { return }
    }
}

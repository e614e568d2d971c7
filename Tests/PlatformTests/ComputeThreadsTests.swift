import Dispatch
import Platform
import RedisTesting
import Testing

@Suite struct ComputeThreadsTests {
    @Test func whatIsComputedComesBack() async {
        let threads = ComputeThreads(count: 2)
        let answers = await withTaskGroup(of: Int?.self, returning: Int.self) { group in
            for index in 0..<100 { group.addTask { await threads.run { index * index } } }
            return await group.reduce(0) { $0 + ($1 ?? 0) }
        }
        #expect(answers == (0..<100).reduce(0) { $0 + $1 * $1 })
    }

    /// The thread cannot be stopped; the one who waits need not wait for it.
    @Test func aCancelledTaskDoesNotWait() async throws {
        let threads = ComputeThreads(count: 1)
        let (began, ends) = (DispatchSemaphore(value: 0), DispatchSemaphore(value: 0))
        let task = Task {
            await threads.run {
                began.signal()
                ends.wait()
                return 1
            }
        }
        try await eventually("the work began") { began.wait(timeout: .now()) == .success }
        task.cancel()
        #expect(try await within(.hang) { await task.value } == nil)
        // What waits behind it is done when the thread is free.
        async let next = threads.run { 2 }
        ends.signal()
        #expect(await next == 2)
    }

    @Test func workThatWasCancelledBeforeItsTurnIsNotDone() async throws {
        let threads = ComputeThreads(count: 1)
        let ends = DispatchSemaphore(value: 0)
        let tally = Tally()
        let first = Task { await threads.run { ends.wait() } }
        let second = Task { await threads.run { tally.add() } }
        second.cancel()
        #expect(await second.value == nil)
        ends.signal()
        _ = await first.value
        _ = await threads.run {}
        #expect(tally.value == 0)
    }
}

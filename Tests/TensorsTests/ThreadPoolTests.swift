import Glibc
import Synchronization
import Tensors
import Testing

@Suite struct ThreadPoolTests {
    @Test(arguments: [1, 2, 5]) func everyIndexRunsOnce(threads: Int) {
        let pool = ThreadPool(threadCount: threads)
        for count in [0, 1, 2, 1000] {
            let seen = Mutex([Int](repeating: 0, count: count))
            pool.parallel(count) { index in seen.withLock { $0[index] += 1 } }
            #expect(seen.withLock { $0 } == [Int](repeating: 1, count: count))
        }
    }

    @Test func nestedCallsRunInline() {
        let pool = ThreadPool(threadCount: 3)
        let sum = Atomic(0)
        pool.parallel(20) { _ in pool.parallel(20) { _ in sum.add(1, ordering: .relaxed) } }
        #expect(sum.load(ordering: .relaxed) == 400)
    }

    @Test func manyCallersShareOnePool() async {
        let pool = ThreadPool(threadCount: 3)
        await withTaskGroup(of: Int.self) { group in
            for caller in 0..<16 {
                group.addTask {
                    let sum = Atomic(0)
                    for _ in 0..<50 { pool.parallel(10) { index in sum.add(index + caller, ordering: .relaxed) } }
                    return sum.load(ordering: .relaxed) - 50 * (45 + 10 * caller)
                }
            }
            for await difference in group { #expect(difference == 0) }
        }
    }

    @Test func aPinnedPoolsThreadStaysOnOneProcessor() {
        let pool = ThreadPool(threadCount: 2, isPinned: true)
        let arrived = Atomic(0)
        let processors = Mutex<[Int]>([])
        let deadline = ContinuousClock.now + .seconds(900)
        // Two bodies that wait for each other: neither thread can do both.
        pool.parallel(2) { _ in
            arrived.add(1, ordering: .relaxed)
            while arrived.load(ordering: .relaxed) < 2, ContinuousClock.now < deadline { sched_yield() }
            processors.withLock { $0.append(ThreadPool.availableProcessors) }
        }
        #expect(processors.withLock { $0.sorted() } == [1, ThreadPool.availableProcessors])
    }

    @Test func scratchNestsAndIsAligned() {
        Scratch.withFloats(100) { outer in
            outer.update(repeating: 1, count: 100)
            Scratch.withFloats(50) { inner in
                inner.update(repeating: 2, count: 50)
                #expect(Int(bitPattern: inner) % 64 == 0 && Int(bitPattern: outer) % 64 == 0)
            }
            #expect((0..<100).allSatisfy { outer[$0] == 1 })
        }
    }
}

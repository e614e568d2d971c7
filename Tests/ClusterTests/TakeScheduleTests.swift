import Cluster
import Testing

@Suite struct TakeScheduleTests {
    private let start = ContinuousClock.now

    private func idle(_ count: Int = 4) -> TakeSchedule {
        var schedule = TakeSchedule(partitions: count, poll: .seconds(1), patience: .milliseconds(20), now: start)
        for _ in 0..<count { _ = schedule.next(now: start) }
        return schedule
    }

    @Test func everythingIsLookedAtOnceAtTheStart() {
        var schedule = TakeSchedule(partitions: 3, poll: .seconds(1), patience: .milliseconds(20), now: start)
        for index in 0..<3 { #expect(schedule.next(now: start) == .take(Partition(index), age: .zero)) }
        #expect(schedule.next(now: start) == .wait(until: start + .seconds(1)))
    }

    @Test func ownPartitionIsLookedAtWhenItsBellRings() {
        var schedule = idle()
        let later = start + .milliseconds(100)
        schedule.wake(Partition(2), now: later)
        #expect(schedule.next(now: later) == .take(Partition(2), age: .zero))
        #expect(schedule.next(now: later) == .wait(until: start + .seconds(1)))
    }

    @Test func partitionsOfOthersAreLeftToThemForAWhile() {
        var schedule = idle()
        schedule.own([Partition(0)], now: start)
        schedule.wake(Partition(3), now: start)
        #expect(schedule.next(now: start) == .wait(until: start + .milliseconds(20)))
        let later = start + .milliseconds(20)
        #expect(schedule.next(now: later) == .take(Partition(3), age: .milliseconds(20)))
    }

    @Test func whatCameWhileTheyWaitedIsLookedAtWhenItIsOldEnough() {
        var schedule = idle()
        schedule.own([Partition(0)], now: start)
        for wait in [0, 15] { schedule.wake(Partition(3), now: start + .milliseconds(wait)) }
        let looks = [20, 35].map { start + .milliseconds($0) }
        for look in looks {
            #expect(schedule.next(now: look - .milliseconds(1)) == .wait(until: look))
            #expect(schedule.next(now: look) == .take(Partition(3), age: .milliseconds(20)))
        }
        #expect(schedule.next(now: looks[1]) == .wait(until: start + .seconds(1)))
    }

    @Test func aLookThatCouldNotTellAllIsRepeated() {
        var schedule = idle()
        for wait in [30, 50] { schedule.look(into: Partition(2), by: start + .milliseconds(wait)) }
        let later = start + .milliseconds(30)
        #expect(schedule.next(now: start) == .wait(until: later))
        #expect(schedule.next(now: later) == .take(Partition(2), age: .zero))
        #expect(schedule.next(now: later) == .wait(until: start + .seconds(1)))
    }

    @Test func ownPartitionsComeBeforeThoseOfOthers() {
        var schedule = idle()
        schedule.own([Partition(3)], now: start)
        let later = start + .seconds(2)
        #expect(schedule.next(now: later) == .take(Partition(3), age: .zero))
        #expect(schedule.next(now: later) == .take(Partition(0), age: .milliseconds(20)))
    }

    @Test func aNewShareIsLookedAtAtOnce() {
        var schedule = idle()
        schedule.own([], now: start)
        schedule.own([Partition(1)], now: start)
        #expect(schedule.next(now: start) == .take(Partition(1), age: .zero))
    }

    @Test func busyPartitionsTakeTurns() {
        var schedule = idle()
        for partition in [Partition(1), Partition(2)] { schedule.wake(partition, now: start) }
        var seen: [Int] = []
        for _ in 0..<4 {
            guard case .take(let partition, _) = schedule.next(now: start) else { break }
            seen.append(partition.index)
            schedule.lookAgain(partition, now: start)
        }
        #expect(seen == [1, 2, 1, 2])
    }

    /// Who has the earliest turn goes first, whatever the order of the partitions; clicks before the rest, but for one look
    /// of nine.
    @Test func turnsOfTenantsComeBeforeTheOrderOfPartitions() {
        var schedule = idle(3)
        func look() -> Int? {
            guard case .take(let partition, _) = schedule.next(now: start) else { return nil }
            return partition.index
        }
        let hints = [
            TurnHint(interactive: 30, bulk: 1), TurnHint(interactive: 20, bulk: 5), TurnHint(interactive: nil, bulk: 3),
        ]
        for (index, hint) in hints.enumerated() { schedule.note(hint, for: Partition(index)) }
        var order: [Int] = []
        for _ in 0..<18 {
            for index in 0..<3 { schedule.lookAgain(Partition(index), now: start) }
            if let index = look() { order.append(index) }
        }
        #expect(order == Array(repeating: 1, count: 8) + [0] + Array(repeating: 1, count: 8) + [0])
        // What is new is looked at before all of them.
        schedule.wake(Partition(2), now: start)
        #expect(look() == 2)
        schedule.note(nil, for: Partition(2))
        for index in 0..<3 { schedule.lookAgain(Partition(index), now: start) }
        #expect(look() == 1, "work without turns waits for its place")
    }
}

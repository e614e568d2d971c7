/// The cores of one machine, and the threads that share them as Linux has them do.
///
/// Its scheduler (EEVDF, since 6.6; <https://docs.kernel.org/scheduler/sched-eevdf.html>) has a thread that is woken go ahead
/// at once of one that has had its core for a slice, and takes a core from a thread only at a tick of the clock. So where
/// more threads want to compute than there are cores, a step of half a millisecond is hardly ever interrupted, and one of
/// four mostly, for a whole tick; shares that are fair at every moment would make both a little longer. Measured beside two
/// programs that always compute, on two cores: 6 % of steps of half a millisecond, 16 % of those of two and 64 % of those of
/// four took four milliseconds more.
package struct SharedProcessor<Token> {
    private struct Thread {
        /// Milliseconds of a core that it still needs.
        var left: Double
        /// Milliseconds of a core until it has had its slice.
        var slice: Double
        let token: Token
        /// Which of the works of several threads it belongs to.
        let group: Int?
    }

    private struct Core {
        var current: Thread?
        /// Those who wait for it, the next one first.
        var waiting: [Thread] = []
        /// When the first of these began to wait.
        var waitingSince = 0.0
        /// When its clock ticks first.
        let phase: Double
        /// Whether its thread has come to the end of a step, and may go on with another in what is left of its slice.
        var isHandedOver = false
        /// That rest, in milliseconds.
        var slice = 0.0
        /// When its thread was given it.
        var given = -Double.infinity

        mutating func wait(_ thread: Thread, now: Double) {
            if waiting.isEmpty { waitingSince = now }
            waiting.insert(thread, at: 0)
        }

        mutating func run(_ thread: Thread, now: Double) {
            current = thread
            given = now
            isHandedOver = false
        }
    }

    /// Milliseconds between two ticks of a core's clock: 250 a second, as distributions build their kernels.
    private static var tick: Double { 4 }
    /// Who is woken by a thread that ends its step waits on that thread's core already when it does: it goes ahead of one
    /// that has had the core for no longer than a message takes.
    private static var handover: Double { 0.1 }
    /// So long a thread has a core to itself: 0.7 ms, twice that with two cores, at most four times.
    private let slice: Double

    package let cores: Double
    private var all: [Core]
    /// Threads that are left of the works of several.
    private var groups: [Int: Int] = [:]
    private var nextGroup = 0
    private var updated = 0.0
    /// Of which state an announced end speaks: an older one is void.
    package private(set) var version = 0
    /// Core-milliseconds that were used.
    package private(set) var used = 0.0

    package init(cores: Int) {
        self.cores = Double(cores)
        slice = 0.7 * Double(1 + (Int.bitWidth - 1 - min(8, max(1, cores)).leadingZeroBitCount))
        all = (0..<max(1, cores)).map { Core(phase: Self.tick * Double($0) / Double(max(1, cores))) }
    }

    /// When the first thread is done or gives way, if nothing changes before.
    package var end: Double? {
        var end: Double?
        for core in all {
            guard let thread = core.current else { continue }
            end = min(end ?? .infinity, updated + max(0, thread.left))
            if let due = due(core) { end = min(end ?? .infinity, max(updated, due)) }
        }
        return end
    }

    /// When a core's thread gives way to one that waits.
    private func due(_ core: Core) -> Double? {
        guard !core.waiting.isEmpty, let thread = core.current else { return nil }
        let earliest = max(updated + max(0, thread.slice), core.waitingSince)
        return core.phase + ((earliest - core.phase) / Self.tick).rounded(.up) * Self.tick
    }

    /// Has somebody compute.
    ///
    /// - Parameters:
    ///   - time: milliseconds, each thread.
    ///   - threads: how many.
    ///   - token: told when all of them are done.
    ///   - continues: whether it is the next step of a thread that has just ended one, and not of one that was woken.
    ///   - now: the time.
    package mutating func add(_ time: Double, threads: Int, token: Token, continues: Bool = false, now: Double) {
        advance(to: now)
        version += 1
        let count = max(1, min(threads, all.count))
        var group: Int?
        if count > 1 {
            group = nextGroup
            groups[nextGroup] = count
            nextGroup += 1
        }
        for number in 0..<count {
            let thread = Thread(left: time, slice: slice, token: token, group: group)
            if continues, number == 0, let core = all.firstIndex(where: \.isHandedOver) {
                all[core].run(
                    Thread(left: time, slice: all[core].slice, token: token, group: group), now: now)
            } else {
                place(thread, now: now)
            }
        }
    }

    /// Gives a thread that was woken a core, or has it wait for one.
    private mutating func place(_ thread: Thread, now: Double) {
        if let free = all.firstIndex(where: { $0.current == nil && !$0.isHandedOver })
            ?? all.firstIndex(where: { $0.current == nil })
        {
            return all[free].run(thread, now: now)
        }
        var core = 0
        for other in all.indices.dropFirst() {
            let (one, best) = (all[other], all[core])
            if (one.waiting.count, one.current?.slice ?? 0) < (best.waiting.count, best.current?.slice ?? 0) {
                core = other
            }
        }
        if let current = all[core].current, current.slice <= 0 || now - all[core].given <= Self.handover {
            all[core].wait(renewed(current), now: now)
            all[core].run(thread, now: now)
        } else {
            all[core].wait(thread, now: now)
        }
    }

    /// A thread that has had slices, and has a part of the next one before it.
    private func renewed(_ thread: Thread) -> Thread {
        var renewed = thread
        renewed.slice = slice - (-thread.slice).truncatingRemainder(dividingBy: slice)
        return renewed
    }

    /// Those that are done by now; their cores are free for their next steps until ``dispatch(now:)``.
    package mutating func takeDone(now: Double) -> [Token] {
        advance(to: now)
        version += 1
        var done: [Token] = []
        for index in all.indices {
            guard let thread = all[index].current else { continue }
            if thread.left <= 1e-9 {
                all[index].current = nil
                all[index].isHandedOver = true
                all[index].slice = thread.slice
                if let group = thread.group {
                    groups[group, default: 1] -= 1
                    guard groups[group] == 0 else { continue }
                    groups[group] = nil
                }
                done.append(thread.token)
            } else if let due = due(all[index]), due <= now + 1e-9 {
                let next = all[index].waiting.removeFirst()
                all[index].waiting.append(renewed(thread))
                all[index].waitingSince = now
                all[index].run(next, now: now)
            }
        }
        return done
    }

    /// Gives cores that are free to those who wait, of whichever core.
    package mutating func dispatch(now: Double) {
        for index in all.indices where all[index].current == nil {
            all[index].isHandedOver = false
            var from = index
            for other in all.indices where all[index].waiting.isEmpty {
                if all[other].waiting.count > all[from].waiting.count { from = other }
            }
            guard !all[from].waiting.isEmpty else { continue }
            let next = all[from].waiting.removeFirst()
            all[index].run(next, now: now)
        }
    }

    /// Stops what a process computes that is killed.
    package mutating func stop(now: Double, _ isStopped: (Token) -> Bool) {
        advance(to: now)
        version += 1
        for index in all.indices {
            all[index].waiting.removeAll { isStopped($0.token) }
            if let thread = all[index].current, isStopped(thread.token) { all[index].current = nil }
        }
    }

    private mutating func advance(to now: Double) {
        let time = now - updated
        updated = now
        guard time > 0 else { return }
        for index in all.indices where all[index].current != nil {
            all[index].current?.left -= time
            all[index].current?.slice -= time
            used += time
        }
    }
}

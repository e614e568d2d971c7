/// The cores of one machine, which those who compute on it share.
///
/// Each task wants some threads. Where all of them together want no more than there is, each goes at its own pace; where
/// they want more, every thread gets the same share, as the kernel's scheduler gives it, and a task whose threads wait
/// for each other goes at the pace of one. Who comes while all cores are taken waits until one of those who have them has used
/// up its slice.
package struct SharedProcessor<Token> {
    private struct Work {
        /// Until when it waits for a core.
        let start: Double
        /// Milliseconds that are left of it, were it alone.
        var left: Double
        let threads: Double
        let token: Token
    }

    package let cores: Double
    /// How long a thread keeps its core from others, in milliseconds.
    private let slice: Double
    private var works: [Work] = []
    private var updated = 0.0
    /// Of which state an announced end speaks: an older one is void.
    package private(set) var version = 0
    /// Core-milliseconds that were used.
    package private(set) var used = 0.0

    package init(cores: Double, slice: Double = 0) {
        self.cores = cores
        self.slice = slice
    }

    /// Threads that have a core or a share of one.
    private var wanted: Double { works.reduce(0) { $0 + ($1.start <= updated ? $1.threads : 0) } }

    private var pace: Double {
        let wanted = wanted
        return wanted <= cores ? 1 : cores / wanted
    }

    /// When the first of all is done, or has waited for its core, if nothing changes before.
    package var end: Double? {
        let start = works.lazy.map(\.start).filter { [updated] in $0 > updated }.min()
        guard let least = works.lazy.filter({ [updated] in $0.start <= updated }).map(\.left).min() else { return start }
        return min(start ?? .infinity, updated + max(0, least) / pace)
    }

    package mutating func add(_ time: Double, threads: Double, token: Token, now: Double) {
        advance(to: now)
        // The first slice that ends of as many as there are cores, each at some place of its own.
        let wait = wanted >= cores ? slice / (cores + 1) : 0
        works.append(Work(start: now + wait, left: time, threads: min(threads, cores), token: token))
        version += 1
    }

    /// Those that are done by now, in the order in which they came.
    package mutating func takeDone(now: Double) -> [Token] {
        advance(to: now)
        version += 1
        var done: [Token] = []
        works.removeAll { work in
            guard work.left <= 1e-9 else { return false }
            done.append(work.token)
            return true
        }
        return done
    }

    /// Stops what a process computes that is killed.
    package mutating func stop(now: Double, _ isStopped: (Token) -> Bool) {
        advance(to: now)
        version += 1
        works.removeAll { isStopped($0.token) }
    }

    private mutating func advance(to now: Double) {
        // Until each in its turn begins, the others have the cores.
        for start in works.map(\.start).filter({ [updated] in $0 > updated && $0 < now }).sorted() { run(until: start) }
        run(until: now)
    }

    private mutating func run(until now: Double) {
        let time = now - updated
        if time > 0, !works.isEmpty {
            used += time * min(wanted, cores)
            let done = time * pace
            for index in works.indices where works[index].start <= updated { works[index].left -= done }
        }
        updated = now
    }
}

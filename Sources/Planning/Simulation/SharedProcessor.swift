/// The cores of one machine, which those who compute on it share.
///
/// Each task wants some threads. Where all of them together want no more than there is, each goes at its own pace; where
/// they want more, every thread gets the same share, as the kernel's scheduler gives it, and a task whose threads wait
/// for each other goes at the pace of one.
package struct SharedProcessor<Token> {
    private struct Work {
        /// Milliseconds that are left of it, were it alone.
        var left: Double
        let threads: Double
        let token: Token
    }

    package let cores: Double
    private var works: [Work] = []
    private var updated = 0.0
    /// Of which state an announced end speaks: an older one is void.
    package private(set) var version = 0
    /// Core-milliseconds that were used.
    package private(set) var used = 0.0

    package init(cores: Double) { self.cores = cores }

    private var wanted: Double { works.reduce(0) { $0 + $1.threads } }

    private var pace: Double {
        let wanted = wanted
        return wanted <= cores ? 1 : cores / wanted
    }

    /// When the first of all is done, if nothing changes before.
    package var end: Double? {
        guard let least = works.lazy.map(\.left).min() else { return nil }
        return updated + max(0, least) / pace
    }

    package mutating func add(_ time: Double, threads: Double, token: Token, now: Double) {
        advance(to: now)
        works.append(Work(left: time, threads: min(threads, cores), token: token))
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
        let time = now - updated
        updated = now
        guard time > 0, !works.isEmpty else { return }
        used += time * min(wanted, cores)
        let done = time * pace
        for index in works.indices { works[index].left -= done }
    }
}

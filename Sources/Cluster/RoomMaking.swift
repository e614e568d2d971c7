import Redis

extension RedisValue {
    /// The error of a Redis that has no memory left for what was asked; nil for any other reply.
    var outOfMemory: ClusterError? {
        error.flatMap { ClusterError(refusal: $0) }.flatMap { $0.isOutOfMemory ? $0 : nil }
    }
}

/// Under `maxmemory-policy noeviction` Redis drops nothing by itself: who is told that it is full has what no job needs
/// dropped, and asks again.
extension Broker {
    /// Does something that Redis may refuse for want of memory, and makes room as often as there is something to drop.
    ///
    /// - Parameters:
    ///   - partition: where room is made first.
    ///   - body: what is done, again after each room that was made: to do it twice must be the same as once.
    ///   - whenFull: what is done where nothing can be dropped any more; nil for nothing.
    /// - Returns: what `body` returns, or `whenFull` in its place.
    /// - Throws: what `body` or `whenFull` throws: ``ClusterError/backpressure(reason:retryAfter:)`` where Redis is
    ///   full of what jobs need.
    func makingRoom<Answer>(
        for partition: Partition, _ body: () async throws(ClusterError) -> Answer,
        whenFull: (() async throws(ClusterError) -> Answer)? = nil
    ) async throws(ClusterError) -> Answer {
        // What is dropped doubles, so that a large request in a Redis of small things needs few rounds.
        var count = 8
        while true {
            do throws(ClusterError) {
                return try await body()
            } catch {
                guard error.isOutOfMemory else { throw error }
                if try await makeRoom(first: partition, count: count) {
                    count = min(count * 2, 1024)
                    continue
                }
                guard let whenFull else { throw error }
                return try await whenFull()
            }
        }
    }

    /// Drops the pictures and embeddings that were of no use for the longest time: in this partition, or else in the first
    /// of the others that has any; returns whether anything was dropped.
    func makeRoom(first partition: Partition, count: Int) async throws(ClusterError) -> Bool {
        for place in [partition] + partitions.filter({ $0 != partition }) {
            do throws(ClusterError) {
                let reply = try await call("kirie_room", in: place, [.integer(count)], repetition: .safe)
                if reply.array?.first?.integer ?? 0 > 0 { return true }
            } catch {
                // Users whose rights were written down for an older library have others make room.
                guard case .redis(let cause) = error, cause.serverCode == "NOPERM" else { throw error }
                return false
            }
        }
        return false
    }
}

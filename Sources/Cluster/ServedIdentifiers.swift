import Segmentation
import Synchronization

/// Under which identifiers a worker takes work, and in which order it asks for them.
///
/// An encoder makes the embeddings of its own arithmetic and, for jobs that do not say which, those of the family; a decoder
/// takes the jobs of each arithmetic of its weights. A take asks for one identifier, and nearly always all work goes under
/// the same: the one that brought work last is asked for first, so that a click costs one call; the others come when that
/// brings nothing, or a moment later where they were asked for just now, and from time to time where more is queued, so that
/// no one waits behind another for ever.
final class ServedIdentifiers: Sendable {
    /// Between two looks at the others in a partition that has nothing under the usual one.
    static let pauseWhenIdle: Duration = .milliseconds(50)
    /// The same in a partition where more is queued: to ask there for one sets the entries of others aside.
    static let pauseWhenBusy: Duration = .seconds(1)

    private struct Place {
        var looked: ContinuousClock.Instant?
        var hasMore = false
    }

    private struct State {
        var latest: ModelIdentifier
        var places: [Partition: Place] = [:]
    }

    private let others: [ModelIdentifier]
    private let announced: ModelIdentifier
    /// Guards what was found where.
    private let state: Mutex<State>

    /// - Parameters:
    ///   - announced: the identifier of the heartbeats.
    ///   - others: under which work is taken as well.
    init(_ announced: ModelIdentifier, others: [ModelIdentifier]) {
        self.announced = announced
        self.others = others.filter { $0 != announced }
        state = Mutex(State(latest: announced))
    }

    /// All of them.
    var all: [ModelIdentifier] { [announced] + others }

    /// Asks for one after the other until one brings work.
    func take<Work>(
        in partition: Partition, now: ContinuousClock.Instant = .now,
        _ ask: (ModelIdentifier) async throws(ClusterError) -> Taken<Work>
    ) async throws(ClusterError) -> Taken<Work> {
        if others.isEmpty { return try await ask(announced) }
        if let taken = try await take(first(in: partition, now: now), in: partition, ask) { return taken }
        let (models, pause) = rest(in: partition, now: now)
        if pause > .zero { return .later(pause) }
        return try await take(models, in: partition, ask) ?? .idle
    }

    private func take<Work>(
        _ models: [ModelIdentifier], in partition: Partition,
        _ ask: (ModelIdentifier) async throws(ClusterError) -> Taken<Work>
    ) async throws(ClusterError) -> Taken<Work>? {
        for model in models {
            let taken = try await ask(model)
            switch taken {
            case .idle: continue
            case .again, .later: return taken
            case .work(_, let isLast):
                state.withLock { state in
                    state.latest = model
                    state.places[partition, default: Place()].hasMore = !isLast
                }
                return taken
            }
        }
        return nil
    }

    /// The one that brought work last; now and then, where more is queued, the others before it.
    private func first(in partition: Partition, now: ContinuousClock.Instant) -> [ModelIdentifier] {
        state.withLock { state in
            guard let place = state.places[partition], place.hasMore, let looked = place.looked,
                now - looked >= Self.pauseWhenBusy
            else { return [state.latest] }
            state.places[partition]?.looked = now
            return all.filter { $0 != state.latest } + [state.latest]
        }
    }

    /// The others, where there was nothing under that one, or after what time: they were asked for just now.
    private func rest(
        in partition: Partition, now: ContinuousClock.Instant
    ) -> (models: [ModelIdentifier], pause: Duration) {
        state.withLock { state in
            if let looked = state.places[partition]?.looked, now - looked < Self.pauseWhenIdle {
                return ([], Self.pauseWhenIdle - (now - looked))
            }
            state.places[partition, default: Place()].looked = now
            return (all.filter { $0 != state.latest }, .zero)
        }
    }
}

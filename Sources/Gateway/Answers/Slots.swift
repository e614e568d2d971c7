import Cluster
import Synchronization

/// The newest job of each slot: a page asks for the mask under its pointer, and only for where it is now.
///
/// A job whose slot has a newer one is cancelled, which drops it from its queue; one that is being decoded is finished, and
/// nobody waits for it.
final class Slots: Sendable {
    private struct Holder {
        let token: Int
        let supersede: @Sendable () -> Void
    }
    private struct State {
        var next = 0
        var holders: [String: Holder] = [:]
    }
    /// Guards who holds which slot.
    private let state = Mutex(State())

    /// Runs `body` as the newest of a slot; when a newer one comes, `supersede` is called once.
    ///
    /// `name` is the slot's with its caller's, so that nobody drops another's jobs.
    func holding<Value>(
        _ name: String?, supersede: @escaping @Sendable () -> Void, _ body: () async throws -> Value
    ) async rethrows -> Value {
        guard let name else { return try await body() }
        let (token, earlier) = state.withLock { state in
            state.next += 1
            let earlier = state.holders.updateValue(Holder(token: state.next, supersede: supersede), forKey: name)
            return (state.next, earlier)
        }
        earlier?.supersede()
        defer {
            state.withLock { state in
                if state.holders[name]?.token == token { state.holders[name] = nil }
            }
        }
        return try await body()
    }
}

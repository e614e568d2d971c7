import Embeddings
import Synchronization

/// Values that a worker found out and may be asked for again, bounded by bytes; the least recently used go first.
///
/// Only what its key decides altogether is remembered here, so nothing that it holds is ever out of date.
final class RememberedValues<Key: Hashable & Sendable, Value: Sendable>: Sendable {
    /// Guards the values.
    private let values: Mutex<LeastRecentlyUsed<Key, Value>>

    /// - Parameter byteLimit: what values may take together.
    init(byteLimit: Int) { values = Mutex(LeastRecentlyUsed(limit: byteLimit)) }

    /// A value that is held.
    func value(for key: Key) -> Value? { values.withLock { $0.value(for: key) } }

    /// Holds a value.
    ///
    /// - Parameters:
    ///   - value: what its key decides.
    ///   - key: what it is asked for by.
    ///   - bytes: about what it takes.
    func remember(_ value: Value, for key: Key, bytes: Int) {
        values.withLock { _ = $0.insert(value, for: key, cost: bytes) }
    }
}

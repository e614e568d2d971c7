import Synchronization

/// A value that several tasks share, such as what the first of them decides.
final class Locked<Value: Sendable>: Sendable {
    /// Guards the value.
    private let state: Mutex<Value>

    init(_ value: Value) { state = Mutex(value) }

    /// The value as it is.
    var value: Value { state.withLock { $0 } }

    /// Changes the value.
    func change<Result: Sendable>(_ body: (inout Value) -> Result) -> Result { state.withLock { body(&$0) } }
}

extension Locked {
    /// Sets a value where there is none; returns whether it did.
    func setIfNil<Wrapped>(_ new: Wrapped) -> Bool where Value == Wrapped? {
        change { value in
            guard value == nil else { return false }
            value = new
            return true
        }
    }
}

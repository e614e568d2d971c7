import Synchronization

/// A number that tasks count up together.
public final class Tally: Sendable {
    private let count = Atomic(0)

    /// Starts at 0.
    public init() {}

    /// The number.
    public var value: Int { count.load(ordering: .sequentiallyConsistent) }

    /// One more.
    public func add() { count.add(1, ordering: .sequentiallyConsistent) }
}

/// Times the parts of a piece of work.
public struct Stopwatch: Sendable {
    /// What was timed.
    public private(set) var milliseconds: [String: Double] = [:]
    private let clock = ContinuousClock()

    /// A watch that has timed nothing.
    public init() {}

    /// Adds the time that `body` takes to a part.
    public mutating func time<Result>(_ part: String, _ body: () throws -> Result) rethrows -> Result {
        let start = clock.now
        defer {
            let passed = (clock.now - start) / .microseconds(1)
            milliseconds[part, default: 0] += passed.rounded() / 1000
        }
        return try body()
    }
}

extension Duration {
    /// After which a test takes it for certain that what it waits for will not come.
    ///
    /// A test's verdict must not depend on how busy the machine is; this is only there so that a hang becomes a failure,
    /// and longer than anything takes beside other work.
    public static let hang: Duration = .seconds(900)
}

/// Asks again and again until a condition holds.
///
/// For what cannot announce itself, such as a counter inside redis-server; where there is an event, wait for that.
///
/// - Throws: ``NeverHappened`` when the time is over.
public func eventually(
    _ what: String, within limit: Duration = .hang, _ condition: () async throws -> Bool
) async throws {
    let deadline = ContinuousClock.now + limit
    while try await !condition() {
        guard ContinuousClock.now < deadline else { throw NeverHappened(description: "within \(limit) never: \(what)") }
        try await Task.sleep(for: .milliseconds(3))
    }
}

/// Fails when `body` takes longer than it may; a test that hangs becomes one that fails.
public func within<Answer: Sendable>(
    _ limit: Duration, _ what: String = "the end", _ body: @escaping @Sendable () async throws -> Answer
) async throws -> Answer {
    try await withThrowingTaskGroup(of: Answer.self) { group in
        group.addTask { try await body() }
        group.addTask {
            try await Task.sleep(for: limit)
            throw NeverHappened(description: "within \(limit) never: \(what)")
        }
        defer { group.cancelAll() }
        guard let answer = try await group.next() else { throw NeverHappened(description: what) }
        return answer
    }
}

/// What a test waited for did not come.
public struct NeverHappened: Error, CustomStringConvertible {
    /// What it was.
    public let description: String

    /// The news that something did not come.
    public init(description: String) { self.description = description }
}

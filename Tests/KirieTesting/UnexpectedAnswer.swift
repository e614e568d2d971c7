/// The cluster did not answer what a test builds on.
package struct UnexpectedAnswer: Error, CustomStringConvertible {
    /// What it answered instead.
    package let description: String

    package init(description: String) { self.description = description }
}

public import Platform

/// Everything mode cannot be run as it was asked for.
public struct EverythingFault: ReportableError, Sendable, Hashable {
    /// The parameter, by its published name.
    public let parameter: String
    /// What is wrong with it.
    public let reason: String

    /// A parameter, and what is wrong with it.
    public init(parameter: String, reason: String) {
        self.parameter = parameter
        self.reason = reason
    }

    /// Where it is wrong, and why.
    public var report: ErrorReport { ErrorReport(.input, "everything-parameters", at: parameter, reason) }

    /// The report in one line.
    public var description: String { report.text }
}

package import Platform

/// A plan, or a file of figures, that makes no sense, or a load that cannot be carried.
package struct PlanError: ReportableError, Sendable {
    /// Which kind of fault, for programs.
    package enum Kind: String, Sendable {
        case unreadable = "unreadable-plan"
        case wrongPlan = "wrong-plan"
        case wrongFigures = "wrong-figures"
        case impossible = "impossible-plan"
        case usage = "wrong-usage"
    }

    package let kind: Kind
    package let place: String
    package let reason: String
    package let remedy: String

    /// - Parameters:
    ///   - kind: which kind of fault.
    ///   - place: the file, and the field in it.
    ///   - reason: what is wrong.
    ///   - remedy: what to do.
    package init(_ kind: Kind, at place: String, _ reason: String, remedy: String) {
        self.kind = kind
        self.place = place
        self.reason = reason
        self.remedy = remedy
    }

    /// What there is to say of it.
    package var report: ErrorReport {
        ErrorReport(kind == .usage ? .usage : .input, kind.rawValue, at: place, reason, remedy: remedy)
    }

    /// The report in one line.
    package var description: String { report.text }
}

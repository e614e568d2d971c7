/// Who has to do something after an error.
///
/// The status with which a command ends follows from it, and that of an HTTP answer.
public enum ErrorClass: String, Sendable, Hashable, CaseIterable {
    /// How something was asked for makes no sense: a command line, an address, a setting.
    case usage
    /// What was handed over cannot be used: a picture, a prompt, a file of weights, a job line.
    case input
    /// What was named is not there.
    case notFound
    /// Nothing is wrong with what was asked, and the same may succeed later: the cluster is full, or Redis is away.
    case comeBackLater
    /// The fault lies here, or with the machine.
    case ours

    /// What a command ends with: 2 for usage, 75 (`EX_TEMPFAIL` of sysexits.h) for what may succeed later, else 1.
    public var exitStatus: Int32 {
        switch self {
        case .usage: 2
        case .comeBackLater: 75
        case .input, .notFound, .ours: 1
        }
    }
}

/// What there is to say of an error: of which class it is, where it was met, why, and what to do about it.
///
/// ```swift
/// let report = ErrorReport(
///     .input, "truncated-picture", at: "photo.png", "the file ends after 500 bytes", remedy: "copy it again")
/// print(report.text)  // photo.png: the file ends after 500 bytes: copy it again
/// ```
public struct ErrorReport: Sendable {
    /// Who has to do something.
    public var errorClass: ErrorClass
    /// The kind of fault for programs: lower-case words with hyphens, which stay when the text is put better.
    public var code: String
    /// Where: a file, a line, a field, a server; nil where the reason says it.
    public var place: String?
    /// What is wrong.
    public var reason: String
    /// What to do about it; nil where the reason says it.
    public var remedy: String?
    /// After what time to come back, where that is known.
    public var retryAfter: Duration?
    /// The error behind this one.
    public var cause: (any Error)?

    /// Makes a report; see the properties.
    public init(
        _ errorClass: ErrorClass, _ code: String, at place: String? = nil, _ reason: String, remedy: String? = nil,
        retryAfter: Duration? = nil, cause: (any Error)? = nil
    ) {
        self.errorClass = errorClass
        self.code = code
        self.place = place
        self.reason = reason
        self.remedy = remedy
        self.retryAfter = retryAfter
        self.cause = cause
    }

    /// One line for people: place, reason, remedy.
    public var text: String { [place, reason, remedy].compactMap(\.self).joined(separator: ": ") }
}

/// An error that is fit to be shown to whoever asked.
public protocol ReportableError: Error, CustomStringConvertible {
    /// What there is to say of it.
    var report: ErrorReport { get }
}

extension ErrorReport {
    /// What there is to say of any error: its own report, or that it is a fault of ours.
    public init(of error: any Error) {
        if let error = error as? any ReportableError {
            self = error.report
        } else {
            self.init(.ours, "unexpected", "\(error)", cause: error)
        }
    }
}

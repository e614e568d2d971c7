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

    /// More masks stay, or of more runs, than there is memory for.
    package static func tooManyRuns(bytes: Int, limit: Int) -> EverythingFault {
        EverythingFault(
            parameter: "box_nms_thresh",
            reason: "the masks that stay take \(bytes >> 20) MB as runs, and \(limit >> 20) MB are held: let fewer "
                + "stay by a lower box_nms_thresh, a higher pred_iou_thresh or stability_score_thresh, or fewer points")
    }

    /// Where it is wrong, and why.
    public var report: ErrorReport { ErrorReport(.input, "everything-parameters", at: parameter, reason) }

    /// The report in one line.
    public var description: String { report.text }
}

package import Cluster
package import Platform
package import Segmentation

/// A job that is ready to be sent, with its picture.
package struct JobRequest: Sendable {
    /// Where it came from, in the words of whoever submits it.
    package let place: JobPlace
    /// What is to be cut out.
    package let line: JobLine
    /// The picture; nil for one that is in the cluster.
    package let picture: Picture?
    /// What the cluster is handed.
    package let job: Job
    /// What is wrong with some of its prompts, which are answered with errors in their places.
    package let faults: [FittedPrompts.Remark]
}

extension JobRequest {
    /// The same job under an id of its own, to be done once more.
    package var renamed: JobRequest {
        var job = job
        job.id = Job.makeIdentifier()
        return JobRequest(place: place, line: line, picture: picture, job: job, faults: faults)
    }
}

/// A line or a picture that makes no job.
package struct UnusableJob: ReportableError, Sendable {
    /// The id that it has, as far as it can be read.
    package var id: String?
    /// Where it came from.
    package let place: JobPlace
    /// What its answer is told by.
    package var origin: JobOrigin
    /// Which part of it is wrong, such as `prompts[0]`; nil where that is not known, empty for all of it.
    package let field: String?
    /// What is wrong.
    package let reason: String

    /// Place, field, reason.
    package var description: String { "\(place.prefix)\((field ?? "").isEmpty ? "" : "\(field ?? ""): ")\(reason)" }
    /// The field, and what is wrong with it.
    package var report: ErrorReport {
        ErrorReport(.input, "unusable-job", at: field.flatMap { $0.isEmpty ? nil : $0 }, reason)
    }
}

/// Where a job came from, in the words of whoever submitted it.
package enum JobPlace: Sendable {
    /// A line of a jobs file.
    case line(Int, file: String)
    /// A picture that was named by hand.
    case image(String)
    /// A request that came alone.
    case request

    /// The line's number.
    package var number: Int? { if case .line(let number, _) = self { number } else { nil } }

    /// What a complaint begins with.
    package var prefix: String {
        switch self {
        case .line(let number, let file): "\(file): line \(number): "
        case .image, .request: ""
        }
    }
}

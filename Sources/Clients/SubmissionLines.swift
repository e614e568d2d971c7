import Cluster
package import JSON

extension SubmissionEvent {
    /// The JSON line that tells of it; nil for what is told in another way.
    package var line: JSONValue? {
        switch self {
        case .unusable(let job): JobReports.unusable(job)
        case .submitted(let reference, let state, let isNew, let request):
            JobReports.submitted(reference, state, isNew: isNew, request.line.origin, faults: request.faults)
        case .refused(let request, let reason, _, let time):
            JobReports.refused(request.job.id, request.place, request.line.origin, reason, retryAfter: time)
        case .ended(let ending, let answer, let origin, let files, let fault):
            JobReports.ended(ending, answer, origin: origin, files: files, fileError: fault)
        case .faultyPrompt, .followed, .read, .waiting: nil
        }
    }
}

import Cluster
import Redis
import Segmentation

/// The JSON lines that speak of jobs.
enum JobReports {
    /// A job that was submitted and is not waited for.
    ///
    /// - Parameter faults: why some of its prompts will have no masks.
    static func submitted(
        _ reference: JobReference, _ state: JobState, isNew: Bool, _ origin: JobOrigin, faults: [FittedPrompts.Remark]
    ) -> JSONLine {
        let errors = faults.map { JSONLine.object([("prompt", .whole($0.prompt)), ("error", .text($0.text))]) }
        return .object(
            [
                ("id", .text(reference.id)), ("state", .text(state.rawValue)),
                ("partition", .whole(reference.partition.index)),
            ] + (isNew ? [] : [("known", true)]) + origin.lines + (errors.isEmpty ? [] : [("errors", .list(errors))]))
    }

    /// A job that the cluster had no room for.
    static func refused(
        _ id: String?, _ place: JobPlace, _ origin: JobOrigin, _ reason: String, retryAfter: Duration
    ) -> JSONLine {
        .object(
            [("id", JSONLine(id)), ("state", "refused")] + place.members + origin.lines + [
                ("error", .text(reason)), ("retry_after_ms", .whole(Int((retryAfter / .milliseconds(1)).rounded(.up)))),
            ])
    }

    /// A line or picture that is no job, or one that the cluster did not take.
    static func unusable(
        _ id: String?, _ place: JobPlace, _ origin: JobOrigin, field: String?, _ reason: String
    ) -> JSONLine {
        .object(
            (id.map { [("id", .text($0))] } ?? []) + place.members + origin.lines
                + (field.map { [("field", .text($0))] } ?? []) + [("error", .text(reason))])
    }

    /// A job that is still on its way.
    static func open(_ reference: JobReference, _ origin: JobOrigin = JobOrigin()) -> JSONLine {
        .object(
            [("id", .text(reference.id)), ("state", "open"), ("partition", .whole(reference.partition.index))]
                + origin.lines)
    }

    /// An id that nobody knows, or no longer.
    static func unknown(_ id: String, _ origin: JobOrigin = JobOrigin()) -> JSONLine {
        .object(
            [("id", .text(id)), ("state", "unknown")] + origin.lines
                + [("error", "there is no such job, or no longer")])
    }

    /// How a job ended, with its answer.
    ///
    /// - Parameters:
    ///   - answer: its result, taken apart.
    ///   - origin: what whoever waits knows himself; beyond it, what the cluster says.
    static func ended(
        _ ending: JobEnding, _ answer: JobAnswer?, origin: JobOrigin = JobOrigin(), files: [String]? = nil,
        fileError: String? = nil
    ) -> JSONLine {
        guard let state = ending.state else { return unknown(ending.reference.id, origin) }
        let origin = origin.or(ending.origin).or(answer?.origin)
        var members: [(String, JSONLine)] = [("id", .text(ending.reference.id)), ("state", .text(state.rawValue))]
        members += origin.lines
        if let files { members.append(("files", .list(files.map(JSONLine.text)))) }
        if let fileError { members.append(("file_error", .text(fileError))) }
        if state == .done {
            // The result has its time, and this job may have been done before somebody asked.
            members += answer?.lines ?? [("error", "the result is no longer there")]
        } else {
            members.append(("error", .text(ending.error ?? defaultReason(state))))
        }
        return .object(members)
    }

    /// Where a job stands.
    static func status(_ status: JobStatus) -> JSONLine {
        var members: [(String, JSONLine)] = [
            ("id", .text(status.reference.id)), ("state", .text(status.state.rawValue)),
            ("partition", .whole(status.reference.partition.index)), ("lane", .text(status.lane.rawValue)),
            ("image", .text(status.image.hexadecimal)), ("attempts", .whole(status.attempts)),
            ("submitted", .text(Figures.timestamp(status.submitted))),
        ]
        if let started = status.started {
            members.append(("started", .text(Figures.timestamp(started))))
            members.append(("wait_ms", JSONLine(milliseconds: .microseconds(started - status.submitted))))
        }
        if let finished = status.finished {
            members.append(("finished", .text(Figures.timestamp(finished))))
            members.append(("total_ms", JSONLine(milliseconds: .microseconds(finished - status.submitted))))
        }
        if let worker = status.worker { members.append(("worker", .text(worker))) }
        if let error = status.error { members.append(("error", .text(error))) }
        members += status.origin.lines
        return .object(members)
    }

    private static func defaultReason(_ state: JobState) -> String {
        switch state {
        case .cancelled: "it was cancelled"
        case .expired: "its deadline passed"
        default: "no reason was given"
        }
    }
}

/// The result of a job, taken apart at its outermost members.
struct JobAnswer {
    /// Where the job came from, as the worker says.
    let origin: JobOrigin
    /// Whether some of the job's prompts could not be answered.
    let hasErrors: Bool
    /// The members to be shown, the origin aside.
    let lines: [(String, JSONLine)]

    init(_ result: RedisBytes) {
        guard let members = JSONText.members(of: result.array) else {
            origin = JobOrigin()
            hasErrors = false
            lines = [("result", .text(result.string))]
            return
        }
        origin = JobOrigin(members: members)
        hasErrors = members.contains { $0.name == "errors" && $0.value.bytes != Array("[]".utf8) }
        lines = members.filter { !JobOrigin.names.contains($0.name) }.map { ($0.name, $0.value.line) }
    }
}

extension JobOrigin {
    /// What is known, as members of a line.
    var lines: [(String, JSONLine)] { members.map { ($0.name, $0.value.line) } }
}

extension JSONText {
    /// On one line: an end of line inside JSON is white space between tokens, which others may write.
    fileprivate var line: JSONLine { .written(bytes.map { $0 == 0x0A || $0 == 0x0D ? 0x20 : $0 }) }
}

/// Where a job came from, in the words of whoever submitted it.
enum JobPlace: Sendable {
    /// A line of a jobs file.
    case line(Int, file: String)
    /// A picture that was named on the command line.
    case image(String)

    /// What an origin does not say.
    fileprivate var members: [(String, JSONLine)] {
        switch self {
        case .line: []
        case .image(let path): [("image", .text(path))]
        }
    }

    /// The line's number.
    var number: Int? { if case .line(let number, _) = self { number } else { nil } }

    /// What a complaint begins with.
    var prefix: String {
        switch self {
        case .line(let number, let file): "\(file): line \(number): "
        case .image: ""
        }
    }
}

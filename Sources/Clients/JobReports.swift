package import Cluster
package import JSON
import Platform
package import Redis
package import Segmentation

/// The JSON lines that speak of jobs.
package enum JobReports {
    /// A job that was submitted and is not waited for; `faults` say which of its prompts will have no masks, and why.
    package static func submitted(
        _ reference: JobReference, _ state: JobState, isNew: Bool, _ origin: JobOrigin, faults: [FittedPrompts.Remark]
    ) -> JSONValue {
        let errors = faults.map { JSONValue.object([("prompt", .integer($0.prompt)), ("error", .string($0.text))]) }
        return .object(
            [
                ("id", .string(reference.id)), ("state", .string(state.rawValue)),
                ("partition", .integer(reference.partition.index)),
            ] + (isNew ? [] : [("known", true)]) + origin.lines + (errors.isEmpty ? [] : [("errors", .array(errors))]))
    }

    /// A job that the cluster had no room for.
    package static func refused(
        _ id: String?, _ place: JobPlace, _ origin: JobOrigin, _ reason: String, retryAfter: Duration
    ) -> JSONValue {
        .object(
            [("id", JSONValue(id)), ("state", "refused")] + place.members + origin.lines + [
                ("error", .string(reason)),
                ("retry_after_ms", .integer(Int((retryAfter / .milliseconds(1)).rounded(.up)))),
            ])
    }

    /// A line or picture that is no job, or one that the cluster did not take.
    package static func unusable(_ job: UnusableJob) -> JSONValue {
        .object(
            (job.id.map { [("id", .string($0))] } ?? []) + job.place.members + job.origin.lines
                + (job.field.map { [("field", .string($0))] } ?? []) + [("error", .string(job.reason))])
    }

    /// A job that is still on its way.
    package static func open(_ reference: JobReference, _ origin: JobOrigin = JobOrigin()) -> JSONValue {
        .object(
            [("id", .string(reference.id)), ("state", "open"), ("partition", .integer(reference.partition.index))]
                + origin.lines)
    }

    /// An id that nobody knows, or no longer.
    package static func unknown(_ id: String, _ origin: JobOrigin = JobOrigin()) -> JSONValue {
        .object(
            [("id", .string(id)), ("state", "unknown")] + origin.lines
                + [("error", "there is no such job, or no longer")])
    }

    /// How a job ended, with its answer.
    ///
    /// - Parameters:
    ///   - ending: what the cluster says of the job.
    ///   - answer: its result, taken apart; nil where it has none or none that can be read.
    ///   - origin: what whoever waits knows himself; what it leaves out is taken from the cluster's word, and then from
    ///     the result.
    ///   - files: the masks that were written; nil where none were asked for.
    ///   - fileError: why they could not be written.
    /// - Returns: a line with `id`, `state`, what is known of the origin, `files`, and the answer of a job that is
    ///   done; `error` where there is none.
    package static func ended(
        _ ending: JobEnding, _ answer: JobAnswer?, origin: JobOrigin = JobOrigin(), files: [String]? = nil,
        fileError: String? = nil
    ) -> JSONValue {
        guard let state = ending.state else { return unknown(ending.reference.id, origin) }
        let origin = origin.or(ending.origin).or(answer?.origin)
        var members: [JSONValue.Member] = [("id", .string(ending.reference.id)), ("state", .string(state.rawValue))]
        members += origin.lines
        if let files { members.append(("files", .array(files.map(JSONValue.string)))) }
        if let fileError { members.append(("file_error", .string(fileError))) }
        if state == .done {
            // The result has its time, and this job may have been done before somebody asked.
            members += answer?.lines ?? [("error", "the result is no longer there")]
        } else {
            members.append(("error", .string(ending.error ?? defaultReason(state))))
        }
        return .object(members)
    }

    /// Where a job stands.
    package static func status(_ status: JobStatus) -> JSONValue {
        var members: [JSONValue.Member] = [
            ("id", .string(status.reference.id)), ("state", .string(status.state.rawValue)),
            ("partition", .integer(status.reference.partition.index)), ("lane", .string(status.lane.rawValue)),
            ("image", .string(status.image.hexadecimal)), ("attempts", .integer(status.attempts)),
            ("submitted", .string(Timestamp.text(status.submitted))),
        ]
        if let started = status.started {
            members.append(("started", .string(Timestamp.text(started))))
            members.append(("wait_ms", JSONValue(milliseconds: .microseconds(started - status.submitted))))
        }
        if let finished = status.finished {
            members.append(("finished", .string(Timestamp.text(finished))))
            members.append(("total_ms", JSONValue(milliseconds: .microseconds(finished - status.submitted))))
        }
        if let parts = status.parts {
            members.append(("parts", .object([("done", .integer(parts.done)), ("all", .integer(parts.all))])))
        }
        if let worker = status.worker { members.append(("worker", .string(worker))) }
        if let error = status.error { members.append(("error", .string(error))) }
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
package struct JobAnswer {
    /// Where the job came from, as the worker says.
    package let origin: JobOrigin
    /// Whether some of the job's prompts could not be answered.
    package let hasErrors: Bool
    /// The members to be shown, the origin aside.
    package let lines: [JSONValue.Member]

    package init(_ result: RedisBytes) {
        guard let members = JSONText.members(of: result.array) else {
            origin = JobOrigin()
            hasErrors = false
            lines = [("result", .string(result.string))]
            return
        }
        origin = JobOrigin(members: members)
        hasErrors = members.contains { $0.name == "errors" && $0.value.bytes != Array("[]".utf8) }
        lines = members.filter { !JobOrigin.names.contains($0.name) }.map { ($0.name, $0.value.line) }
    }
}

extension JobOrigin {
    /// What is known, as members of a line.
    package var lines: [JSONValue.Member] { members.map { ($0.name, $0.value.line) } }
}

extension JSONText {
    /// On one line: an end of line inside JSON is white space between tokens, which others may write.
    fileprivate var line: JSONValue { .verbatim(bytes.map { $0 == 0x0A || $0 == 0x0D ? 0x20 : $0 }) }
}

extension JobPlace {
    /// What an origin does not say.
    fileprivate var members: [JSONValue.Member] {
        switch self {
        case .line, .request: []
        case .image(let path): [("image", .string(path))]
        }
    }
}

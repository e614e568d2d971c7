import Cluster
import Redis
import Segmentation

/// The JSON lines that speak of jobs.
enum JobReports {
    /// A job that was submitted and is not waited for.
    static func submitted(_ reference: JobReference, _ state: JobState, isNew: Bool) -> JSONLine {
        .object(
            [
                ("id", .text(reference.id)), ("state", .text(state.rawValue)),
                ("partition", .whole(reference.partition.index)),
            ] + (isNew ? [] : [("known", true)]))
    }

    /// A job that the cluster had no room for.
    static func refused(_ id: String?, _ place: JobPlace, _ reason: String, retryAfter: Duration) -> JSONLine {
        .object(
            [("id", JSONLine(id)), ("state", "refused")] + place.members + [
                ("error", .text(reason)), ("retry_after_ms", .whole(Int((retryAfter / .milliseconds(1)).rounded(.up)))),
            ])
    }

    /// A line or picture that is no job.
    static func unusable(_ place: JobPlace, field: String?, _ reason: String) -> JSONLine {
        .object(place.members + (field.map { [("field", .text($0))] } ?? []) + [("error", .text(reason))])
    }

    /// A job that is still on its way.
    static func open(_ reference: JobReference) -> JSONLine {
        .object([
            ("id", .text(reference.id)), ("state", "open"), ("partition", .whole(reference.partition.index)),
        ])
    }

    /// An id that nobody knows, or no longer.
    static func unknown(_ id: String) -> JSONLine {
        .object([("id", .text(id)), ("state", "unknown"), ("error", "there is no such job, or no longer")])
    }

    /// How a job ended, with its answer.
    static func ended(_ ending: JobEnding, files: [String]? = nil, fileError: String? = nil) -> JSONLine {
        guard let state = ending.state else { return unknown(ending.reference.id) }
        var members: [(String, JSONLine)] = [("id", .text(ending.reference.id)), ("state", .text(state.rawValue))]
        if let files { members.append(("files", .list(files.map(JSONLine.text)))) }
        if let fileError { members.append(("file_error", .text(fileError))) }
        if state == .done {
            guard let result = ending.result else {
                // The result has its time, and this job was done before somebody asked.
                members.append(("error", "the result is no longer there"))
                return .object(members)
            }
            return spliced(members, result)
        }
        members.append(("error", .text(ending.error ?? defaultReason(state))))
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
        return .object(members)
    }

    private static func defaultReason(_ state: JobState) -> String {
        switch state {
        case .cancelled: "it was cancelled"
        case .expired: "its deadline passed"
        default: "no reason was given"
        }
    }

    /// The members, and those of the answer's object behind them.
    private static func spliced(_ members: [(String, JSONLine)], _ result: RedisBytes) -> JSONLine {
        let isBlank: (UInt8) -> Bool = { $0 == 0x20 || $0 == 0x0A || $0 == 0x0D || $0 == 0x09 }
        // A line end inside JSON is white space between tokens: workers of others may write it.
        var json = result.array.map { $0 == 0x0A || $0 == 0x0D ? 0x20 : $0 }[...]
        while let first = json.first, isBlank(first) { json.removeFirst() }
        while let last = json.last, isBlank(last) { json.removeLast() }
        guard json.first == UInt8(ascii: "{"), json.last == UInt8(ascii: "}") else {
            return .object(members + [("result", .text(result.string))])
        }
        let inner = json.dropFirst().dropLast()
        var head = JSONLine.object(members).line
        head.removeLast(2)  // the brace and the end of line
        if inner.contains(where: { !isBlank($0) }) { head.append(UInt8(ascii: ",")) }
        return .written(head + inner + [UInt8(ascii: "}")])
    }
}

/// Where a job came from, in the words of whoever submitted it.
enum JobPlace: Sendable {
    /// A line of a jobs file.
    case line(Int, file: String)
    /// A picture that was named on the command line.
    case image(String)

    fileprivate var members: [(String, JSONLine)] {
        switch self {
        case .line(let number, _): [("line", .whole(number))]
        case .image(let path): [("image", .text(path))]
        }
    }

    /// What a complaint begins with.
    var prefix: String {
        switch self {
        case .line(let number, let file): "\(file): line \(number): "
        case .image: ""
        }
    }
}

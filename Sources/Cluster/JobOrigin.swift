public import JSON
import Redis
package import Segmentation

/// Where a job came from, in its submitter's words: what an answer is told by, whoever waits for it.
///
/// It travels behind the job line, and comes back at the head of the answer:
///
/// ```json
/// {"id":"a1","state":"done","path":"photos/a.jpg","line":12,"meta":{"shelf":4},"image":{"width":1024,"height":768},
///  "model":"kirie-tiny","precision":"fp32","timings_ms":{},"masks":[]}
/// ```
public struct JobOrigin: Sendable, Hashable {
    /// The picture's path as it was given; nil for a picture without one.
    public var path: String?
    /// The job's line in its file, counted from 1.
    public var line: Int?
    /// The user's own value, to the byte.
    public var meta: JSONText?
    /// `traceparent` of W3C's trace context: for the workers' logs, not for the answer.
    public var trace: String?

    /// The most that `meta` may take, in bytes.
    public static let largestMeta = 16 << 10
    /// Stands between a job line and the note behind it: RFC 7464's record separator, which no JSON contains.
    package static let separator: UInt8 = 0x1E

    /// An origin of its parts.
    public init(path: String? = nil, line: Int? = nil, meta: JSONText? = nil, trace: String? = nil) {
        self.path = path
        self.line = line
        self.meta = meta
        self.trace = trace
    }

    /// Reads what ``encoded`` wrote; other members, and what is none, are passed over.
    public init(note: some Collection<UInt8>) {
        self.init(members: JSONText.members(of: note) ?? [])
    }

    /// Takes those of an object's members that it knows.
    package init(members: [(name: String, value: JSONText)]) {
        for (name, value) in members {
            switch name {
            case "path": path = value.string
            case "line": line = value.wholeNumber
            case "meta": meta = value
            case "trace": trace = value.string
            default: break
            }
        }
    }

    /// The names of its members.
    package static let names: Set<String> = ["path", "line", "meta"]

    /// Whether nothing is known.
    public var isEmpty: Bool { self == JobOrigin() }

    /// Its members as JSON, in the order in which they are shown.
    package var members: [(name: String, value: JSONText)] {
        var members: [(String, JSONText)] = []
        if let path { members.append(("path", .quoting(path))) }
        if let line, let number = JSONText("\(line)".utf8) { members.append(("line", number)) }
        if let meta { members.append(("meta", meta)) }
        return members
    }

    /// One object of JSON.
    package var encoded: [UInt8] {
        var writer = JSONWriter()
        writer.object { writer in
            for (name, value) in members { writer.member(name) { $0.written(value.bytes) } }
            if let trace { writer.member("trace") { $0.string(trace) } }
        }
        return writer.bytes
    }

    /// What is known here, and what `other` knows beyond it.
    public func or(_ other: JobOrigin?) -> JobOrigin {
        JobOrigin(
            path: path ?? other?.path, line: line ?? other?.line, meta: meta ?? other?.meta,
            trace: trace ?? other?.trace)
    }
}

extension Broker {
    /// Where jobs came from whose lines are still there: those that have not ended, and dead ones.
    package func origins(_ references: [JobReference]) async throws(ClusterError) -> [JobOrigin] {
        // The note stands at the end; a path has at most 4096 bytes, of which each may take six.
        let longest = JobOrigin.largestMeta + 32 << 10
        let replies = try await callAll(
            references.map {
                RedisCommand(
                    "GETRANGE", .string("\(keys.prefix($0.partition))line:\($0.name)"), .integer(-longest), .integer(-1)
                )
            })
        return replies.map { reply in
            guard let tail = reply.bytes?.array, let mark = tail.lastIndex(of: JobOrigin.separator) else {
                return JobOrigin()
            }
            return JobOrigin(note: tail[(mark + 1)...])
        }
    }

    /// The traces of jobs that wait for an embedding, the oldest sixteen of them: for logs.
    ///
    /// - Parameter key: of the embedding.
    /// - Returns: ids of jobs, each with its `traceparent`; jobs without one are left out.
    /// - Throws: `ClusterError` where Redis is away.
    package func traces(
        waitingFor key: EmbeddingKey
    ) async throws(ClusterError) -> [(job: String, trace: String)] {
        let partition = partition(of: key.image)
        let name = "\(keys.prefix(partition))waiting:\(key)"
        let replies = try await callAll([RedisCommand("ZRANGE", .string(name), .integer(0), .integer(15))])
        let jobs = (replies.first?.array ?? []).compactMap(\.string)
        if jobs.isEmpty { return [] }
        let origins = try await origins(jobs.map { JobReference(name: $0, partition: partition) })
        return zip(jobs, origins).compactMap { job, origin in origin.trace.map { (job, $0) } }
    }
}

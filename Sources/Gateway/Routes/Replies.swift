import Clients
import Cluster
import FoundationEssentials
import HTTPTypes
import Hummingbird
import JSON
import NIOCore
import Redis
import Segmentation

/// Answers as HTTP has them.
enum Replies {
    /// A JSON object.
    static func json(_ value: JSONValue, status: HTTPResponse.Status = .ok, headers: HTTPFields = [:]) -> Response {
        json(value.line, status: status, headers: headers)
    }

    /// JSON that is there already.
    static func json(_ bytes: [UInt8], status: HTTPResponse.Status = .ok, headers: HTTPFields = [:]) -> Response {
        var response = Response(
            status: status, headers: headers, body: ResponseBody(byteBuffer: ByteBuffer(bytes: bytes)))
        response.headers[.contentType] = "application/json"
        if response.headers[.cacheControl] == nil { response.headers[.cacheControl] = "no-store" }
        return response
    }

    /// A file.
    static func bytes(_ bytes: some Sequence<UInt8>, type: String, headers: HTTPFields = [:]) -> Response {
        var response = Response(status: .ok, headers: headers, body: ResponseBody(byteBuffer: ByteBuffer(bytes: bytes)))
        response.headers[.contentType] = type
        return response
    }

    /// A job that goes on: 202, with its address.
    static func accepted(_ reference: JobReference, _ state: JobState, _ request: JobRequest, isAsked: Bool) -> Response
    {
        var headers: HTTPFields = [.location: "/v1/jobs/\(Self.escaped(reference.id))"]
        if isAsked { headers[.preferenceApplied] = "respond-async" }
        return json(
            JobReports.submitted(reference, state, isNew: true, request.line.origin, faults: request.faults),
            status: .accepted, headers: headers)
    }

    /// The line that `submit --wait` prints of a job that is done, from the result as its worker wrote it.
    ///
    /// - Parameters:
    ///   - reference: which job.
    ///   - result: one object of JSON.
    ///   - isKept: whether logits, where there are any, stay in it.
    /// - Returns: the line with its end.
    /// - Throws: `EncodingError` where a score is no number.
    static func answer(_ reference: JobReference, _ result: RedisBytes, keepingLogits isKept: Bool) throws -> [UInt8] {
        var line = Array(#"{"id":"\#(reference.id)","state":"done""#.utf8)
        let rest: [UInt8]
        if isKept {
            rest = result.array
        } else {
            rest = try withoutLogits(result)
        }
        // A result is one JSON object; one that a worker in another language wrote may have more lines.
        guard let open = rest.firstIndex(of: UInt8(ascii: "{")) else {
            return line + Array(#","error":"the result is no JSON"}"#.utf8) + [0x0A]
        }
        let tail = rest[(open + 1)...].drop { $0 == 0x20 || $0 == 0x0A || $0 == 0x0D || $0 == 0x09 }
        if tail.first != UInt8(ascii: "}") { line.append(UInt8(ascii: ",")) }
        line += tail.map { $0 == 0x0A || $0 == 0x0D ? 0x20 : $0 }
        line.append(0x0A)
        return line
    }

    /// A result without what only a later prompt needs; one that is no ``Answer`` has none.
    private static func withoutLogits(_ result: RedisBytes) throws -> [UInt8] {
        let bytes = result.array
        guard var answer = try? JSONDecoder().decode(Answer.self, from: Data(bytes)) else { return bytes }
        for index in answer.masks.indices { answer.masks[index].logits = nil }
        return try answer.encoded(first: JobOrigin(members: JSONText.members(of: bytes) ?? []).members)
    }

    /// The tag of what never changes: a job has one result, a picture one content.
    static func tag(_ parts: String...) -> String {
        "\"" + parts.joined(separator: ".").filter { $0 != "\"" && $0.isASCII } + "\""
    }

    /// 304 where the client has it already.
    static func notModified(_ request: Request, tag: String) -> Response? {
        guard let header = request.headers[.ifNoneMatch] else { return nil }
        let tags = header.split(separator: ",").map {
            $0.drop { $0 == " " }.replacing("W/", with: "").filter { $0 != " " }
        }
        guard tags.contains(where: { $0 == tag || $0 == "*" }) else { return nil }
        return Response(status: .notModified, headers: [.eTag: tag, .cacheControl: immutable])
    }

    /// What clients may keep for good, and proxies may not hand to others.
    static let immutable = "private, max-age=31536000, immutable"

    /// An id as a part of a path.
    static func escaped(_ id: String) -> String {
        id.utf8.map { unit in
            switch unit {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "."), UInt8(ascii: "_"), UInt8(ascii: "-"):
                String(UnicodeScalar(unit))
            default: "%" + (unit < 16 ? "0" : "") + String(unit, radix: 16, uppercase: true)
            }
        }.joined()
    }
}

/// `Prefer` of RFC 7240, as far as it is understood here.
struct Preferences {
    /// Whether the job's address is enough.
    var isAsynchronous = false
    /// How long to wait for the answer; nil for as long as is usual.
    var wait: Duration?

    init(_ request: Request) {
        for value in request.headers[values: .prefer] {
            for part in value.split(separator: ",") {
                let words = (part.split(separator: ";").first ?? "").split(separator: "=").map {
                    $0.filter { $0 != " " && $0 != "\"" }.lowercased()
                }
                switch (words.first, words.count) {
                case ("respond-async", 1): isAsynchronous = true
                case ("wait", 2): wait = Int(words[1]).map { .seconds(min(max($0, 0), 300)) }
                default: break
                }
            }
        }
    }
}

extension Request {
    /// Whether the client would rather have a type than JSON.
    func prefers(_ type: String) -> Bool {
        guard let accept = head.headerFields[.accept] else { return false }
        func quality(_ wanted: String) -> Double {
            accept.split(separator: ",").compactMap { entry -> Double? in
                let parts = entry.split(separator: ";").map { $0.filter { $0 != " " }.lowercased() }
                guard parts.first == wanted else { return nil }
                return parts.first { $0.hasPrefix("q=") }.flatMap { Double($0.dropFirst(2)) } ?? 1
            }.max() ?? 0
        }
        return quality(type) > max(quality("application/json"), 0)
    }

    /// A parameter of the query, which may stand there once.
    func query(_ name: String) throws(Problem) -> String? {
        let values = uri.queryParameters.getAll(name)
        guard values.count < 2 else {
            throw Problem(.badRequest, "bad-query", "\(name): it is given \(values.count) times", field: name)
        }
        return values.first
    }
}

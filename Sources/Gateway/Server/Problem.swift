import HTTPTypes
import Hummingbird
import JSON
import Platform

/// An error as HTTP tells it: RFC 9457's problem details, <https://www.rfc-editor.org/rfc/rfc9457>.
///
/// ```json
/// {"type":"/problems/too-large","title":"Content Too Large","status":413,"code":"too-large",
///  "detail":"the picture: 70000000 bytes; at most 67108864 are taken: save it as JPEG","request_id":"…"}
/// ```
package struct Problem: Error {
    /// The status with which it is answered.
    var status: HTTPResponse.Status
    /// The kind of fault for programs, as ``ErrorReport/code`` has it.
    var code: String
    /// What, where, why and what to do, for people.
    var detail: String
    /// Which part of the request is wrong.
    var field: String?
    /// When to come back.
    var retryAfter: Duration?
    /// Headers that this status asks for, such as `Allow`.
    var headers: HTTPFields = [:]
    /// The body that a client expects which knows nothing of problem details; nil for those.
    var shape: (@Sendable (Problem) -> JSONValue)?

    /// A problem of its parts.
    init(
        _ status: HTTPResponse.Status, _ code: String, _ detail: String, field: String? = nil,
        retryAfter: Duration? = nil, headers: HTTPFields = [:]
    ) {
        self.status = status
        self.code = code
        self.detail = detail
        self.field = field
        self.retryAfter = retryAfter
        self.headers = headers
    }

    /// What is told of any error.
    init(of error: any Error) {
        if let problem = error as? Problem ?? (error as? ShapedFault)?.problem {
            self = problem
            return
        }
        if let error = error as? HTTPError {
            self.init(error.status, Self.code(of: error.status), error.body ?? error.status.reasonPhrase)
            return
        }
        let report = ErrorReport(of: error)
        self.init(
            Self.status(of: report), report.code, report.errorClass == .ours ? Self.concealed(report) : report.text,
            field: report.errorClass == .input ? report.place : nil, retryAfter: report.retryAfter)
        if report.errorClass == .comeBackLater, retryAfter == nil { retryAfter = .seconds(1) }
    }

    /// The answer; `requestIdentifier` lets whoever complains be found in the log.
    func response(requestIdentifier: String) -> Response {
        Response(
            status: status, headers: fields,
            body: ResponseBody(byteBuffer: ByteBuffer(bytes: body(requestIdentifier: requestIdentifier))))
    }

    /// The headers of the answer.
    var fields: HTTPFields {
        var fields = headers
        fields[.contentType] = shape == nil ? "application/problem+json" : "application/json"
        fields[.cacheControl] = "no-store"
        if let retryAfter { fields[.retryAfter] = "\(max(1, Int((retryAfter / .seconds(1)).rounded(.up))))" }
        return fields
    }

    /// The JSON of the answer, a line.
    func body(requestIdentifier: String) -> [UInt8] {
        var members: [JSONValue.Member] = [
            ("type", .string("/problems/\(code)")), ("title", .string(status.reasonPhrase)),
            ("status", .integer(Int(status.code))), ("code", .string(code)), ("detail", .string(detail)),
        ]
        if let field { members.append(("field", .string(field))) }
        members.append(("request_id", .string(requestIdentifier)))
        return Array((shape?(self) ?? .object(members)).line)
    }

    private static func status(of report: ErrorReport) -> HTTPResponse.Status {
        switch (report.errorClass, report.code) {
        // The cluster is full, and whoever asks is asked to ask less; anything else that passes is our own outage.
        case (.comeBackLater, "backpressure"): .tooManyRequests
        case (.comeBackLater, _): .serviceUnavailable
        case (.usage, _), (.input, "bad-job-line"): .badRequest
        case (.input, "conflict"), (.input, "job-cancelled"): .conflict
        case (.input, "job-expired"): .gatewayTimeout
        case (.input, "too-large-picture"): .contentTooLarge
        case (.input, _): .unprocessableContent
        case (.notFound, _): .notFound
        case (.ours, _): .internalServerError
        }
    }

    /// A fault of ours is told by its kind; paths, addresses and libraries' words stay in the log.
    private static func concealed(_ report: ErrorReport) -> String {
        report.code == "job-dead"
            ? report.text : "the fault is on this side, and the log names it under the request's id"
    }

    private static func code(of status: HTTPResponse.Status) -> String {
        status.reasonPhrase.lowercased().map { $0.isLetter ? $0 : "-" }.reduce(into: "") { $0.append($1) }
    }
}

extension Problem {
    /// No such page.
    static func noRoute(_ path: String) -> Problem {
        Problem(
            .notFound, "no-such-path", "there is nothing at \(Quotation.of(path)): /openapi.json names what there is")
    }

    /// A name that leads nowhere.
    static func unknownImage(_ digest: String) -> Problem {
        Problem(
            .notFound, "unknown-image",
            "there is no picture \(Quotation.of(digest)) here, or no longer: post it to /v1/images, then ask again")
    }

    /// A job that nobody knows.
    static func unknownJob(_ id: String) -> Problem {
        Problem(.notFound, "unknown-job", "there is no job \(Quotation.of(id)), or no longer")
    }
}

/// An error on its way to a client that has a shape of its own for them; the log gets what happened.
struct ShapedFault: Error, CustomStringConvertible {
    /// What the client is told.
    let problem: Problem
    /// What happened.
    let cause: any Error

    var description: String { "\(cause)" }
}

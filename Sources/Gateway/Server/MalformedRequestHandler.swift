import HTTPTypes
import Hummingbird
import HummingbirdCore
import Logging
import NIOCore
import NIOHTTP1
import NIOHTTPTypes

/// What is read of a request before its body.
enum HeadLimits {
    /// Bytes of the request's target, and of each header.
    static let fieldBytes = 16_384
    /// Bytes of the target and all headers.
    static let bytes = 32_768
    /// How many headers.
    static let fields = 100

    /// The same for the decoder of HTTP/1.1.
    static let decoder = HTTP1Channel.Configuration.DecoderConfiguration(
        maxHeaderFieldSize: fieldBytes, maxHeaderListSize: bytes, maxHeaderFieldCount: fields)
}

/// Says in the answer to what is no HTTP, or has too long a head, what is wrong with it.
///
/// No handler of a route ever sees such a request, and Hummingbird answers it with a 400 that has no body.
final class MalformedRequestHandler: ChannelDuplexHandler, RemovableChannelHandler {
    typealias InboundIn = HTTPRequestPart
    typealias InboundOut = HTTPRequestPart
    typealias OutboundIn = HTTPResponsePart
    typealias OutboundOut = HTTPResponsePart

    private let logger: Logger
    /// What the decoder said; nothing is read after it.
    private var error: HTTPParserError?

    /// - Parameter logger: gets a line for each such request.
    init(logger: Logger) { self.logger = logger }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        self.error = error as? HTTPParserError ?? self.error
        context.fireErrorCaught(error)
    }

    func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
        // Requests before it on the same connection are answered first, and their answers say another length.
        guard let error, case .head(let head) = unwrapOutboundIn(data), head.status == .badRequest,
            head.headerFields[.connection] == "close", head.headerFields[.contentLength] == "0"
        else {
            context.write(data, promise: promise)
            return
        }
        self.error = nil
        let identifier = ObservingMiddleware.newIdentifier()
        let problem = Self.problem(of: error)
        let body = problem.body(requestIdentifier: identifier)
        var fields = problem.fields
        fields[.connection] = "close"
        fields[.contentLength] = "\(body.count)"
        fields[.requestIdentifier] = identifier
        fields[.contentTypeOptions] = "nosniff"
        GatewayMetrics.refused("malformed")
        logger.info(
            "request",
            metadata: [
                "request": "\(identifier)", "route": "none", "status": "\(problem.status.code)",
                "client": "\(context.channel.remoteAddress?.ipAddress ?? "unknown")", "malformed": "\(error)",
            ])
        context.write(wrapOutboundOut(.head(HTTPResponse(status: problem.status, headerFields: fields))), promise: nil)
        context.write(wrapOutboundOut(.body(ByteBuffer(bytes: body))), promise: promise)
    }

    private static func problem(of error: HTTPParserError) -> Problem {
        if case .headerOverflow = error {
            return Problem(
                .requestHeaderFieldsTooLarge, "too-large-head",
                "the address or a header is longer than \(HeadLimits.fieldBytes) bytes, or there are more than "
                    + "\(HeadLimits.fields) headers or \(HeadLimits.bytes) bytes of them: send less, or in a body")
        }
        return Problem(.badRequest, "malformed-request", "this is no request of HTTP/1.1: \(error.debugDescription)")
    }
}

import CoreMetrics
import Foundation
import HTTPTypes
import Hummingbird
import Logging
import NIOCore
import NIOHTTP1
import Platform

/// Gives each request its id, answers errors as problems, counts and logs.
struct ObservingMiddleware: RouterMiddleware {
    let proxies: TrustedProxies
    let logger: Logger

    func handle(
        _ request: Request, context: GatewayContext,
        next: (Request, GatewayContext) async throws -> Response
    ) async throws -> Response {
        var context = context
        let clock = ContinuousClock()
        let start = clock.now
        context.requestIdentifier = Self.identifier(request.headers[.requestIdentifier])
        context.trace = request.headers[.traceParent].flatMap { TraceContext($0) }
        context.clientAddress = proxies.client(of: request, connection: context.channel.remoteAddress)
        var response: Response
        var failure: (any Error)?
        do {
            response = try await next(request, context)
        } catch let error as HTTPParserError {
            // What comes is no HTTP: ``MalformedRequestHandler`` says so, and the connection is closed.
            throw error
        } catch {
            failure = error
            response = Problem(of: error).response(requestIdentifier: context.requestIdentifier)
        }
        response.headers[.requestIdentifier] = context.requestIdentifier
        response.headers[.contentTypeOptions] = "nosniff"
        let time = clock.now - start
        let route = context.endpointPath ?? "none"
        GatewayMetrics.answered(
            route: route, method: request.method.rawValue, status: Int(response.status.code), in: time)
        log(request, response, route: route, time, context, failure)
        return response
    }

    private func log(
        _ request: Request, _ response: Response, route: String, _ time: Duration, _ context: GatewayContext,
        _ failure: (any Error)?
    ) {
        let isFault = response.status.code >= 500 && response.status.code != 503
        let level: Logger.Level = isFault ? .error : .info
        guard logger.logLevel <= level else { return }
        var metadata: Logger.Metadata = [
            "request": "\(context.requestIdentifier)", "method": "\(request.method.rawValue)", "route": "\(route)",
            "status": "\(response.status.code)", "ms": "\((time / .microseconds(1)).rounded() / 1000)",
            "client": "\(context.clientAddress)",
        ]
        if let trace = context.trace { metadata["trace"] = "\(trace.trace)" }
        if let length = response.body.contentLength { metadata["bytes"] = "\(length)" }
        if isFault, let failure { metadata["error"] = "\(failure)" }
        logger.log(level: level, "request", metadata: metadata)
    }

    /// The client's own id where it is fit for a log: at most 128 of the printable ASCII characters without quotes.
    private static func identifier(_ header: String?) -> String {
        if let header, (1...128).contains(header.utf8.count),
            header.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7F && $0 != 0x22 && $0 != 0x5C })
        {
            return header
        }
        return newIdentifier()
    }

    /// An id for a request that brings none.
    static func newIdentifier() -> String {
        String(UInt64.random(in: .min ... .max), radix: 16) + String(UInt64.random(in: .min ... .max), radix: 16)
    }
}

extension HTTPField.Name {
    // Each is a valid token of RFC 9110, so the names are there.
    /// `X-Request-Id`.
    static let requestIdentifier = named("X-Request-Id")
    /// `traceparent`.
    static let traceParent = named("traceparent")
    /// `X-Content-Type-Options`.
    static let contentTypeOptions = named("X-Content-Type-Options")
    /// `Prefer` of RFC 7240.
    static let prefer = named("Prefer")
    /// `Preference-Applied` of RFC 7240.
    static let preferenceApplied = named("Preference-Applied")
    /// `X-Forwarded-For`.
    static let forwardedFor = named("X-Forwarded-For")
    /// `Sec-Fetch-Site`.
    static let fetchSite = named("Sec-Fetch-Site")

    private static func named(_ name: String) -> HTTPField.Name { HTTPField.Name(name) ?? .server }
}

/// What the gateway counts.
package enum GatewayMetrics {
    /// The meaning of each name.
    package static let help = [
        "kirie_http_requests_total": "Requests answered, by route, method and status.",
        "kirie_http_request_seconds": "From the head of a request to the head of its answer, by route.",
        "kirie_http_connections": "Connections that are open.",
        "kirie_http_event_streams": "Streams of server-sent events that are open.",
        "kirie_http_upload_bytes_total": "Bytes of pictures that were uploaded.",
        "kirie_http_refusals_total": "Requests that were refused before any work, by reason.",
        "kirie_http_own_seconds": "The gateway's own part of a click: its time without the cluster's.",
        "kirie_http_superseded_total": "Jobs dropped because a newer one of their slot came, or their client left.",
    ]

    /// Lets counters begin at zero: of one that appears with its first event Prometheus sees no growth.
    static func begin() {
        uploaded(bytes: 0)
        Counter(label: "kirie_http_superseded_total").increment(by: 0)
        for reason in ["host", "origin", "key", "rate", "quota", "slow", "malformed"] {
            Counter(label: "kirie_http_refusals_total", dimensions: [("reason", reason)]).increment(by: 0)
        }
    }

    static func answered(route: String, method: String, status: Int, in time: Duration) {
        Counter(
            label: "kirie_http_requests_total",
            dimensions: [("route", route), ("method", method), ("status", "\(status)")]
        ).increment()
        Timer(label: "kirie_http_request_seconds", dimensions: [("route", route)]).recordNanoseconds(time.nanoseconds)
    }

    static func uploaded(bytes: Int) { Counter(label: "kirie_http_upload_bytes_total").increment(by: bytes) }

    static func refused(_ reason: String) {
        Counter(label: "kirie_http_refusals_total", dimensions: [("reason", reason)]).increment()
    }

    static func superseded() { Counter(label: "kirie_http_superseded_total").increment() }

    static func ownTime(_ time: Duration) {
        Timer(label: "kirie_http_own_seconds").recordNanoseconds(time.nanoseconds)
    }

    static func set(connections: Int, eventStreams: Int) {
        Gauge(label: "kirie_http_connections").record(Double(connections))
        Gauge(label: "kirie_http_event_streams").record(Double(eventStreams))
    }
}

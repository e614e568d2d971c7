import HTTPTypes
import Hummingbird
import Platform

/// Keeps pages of other origins out.
///
/// A page that somebody opens in a browser on this machine can send requests to loopback, too. Two things tell them: the
/// browser names the page's origin in `Origin`, and a name that the page's owner lets lead to 127.0.0.1 (DNS rebinding)
/// stands in `Host`. See the threat model in the documentation.
struct OriginMiddleware: RouterMiddleware {
    /// Whether only the names of loopback may stand in `Host`.
    let isLoopbackOnly: Bool
    /// Names by which the gateway is reached beside those of loopback.
    let hosts: Set<String>
    /// Origins whose pages may use the gateway; `*` for all.
    let crossOrigins: Set<String>

    func handle(
        _ request: Request, context: GatewayContext,
        next: (Request, GatewayContext) async throws -> Response
    ) async throws -> Response {
        let authority = request.head.authority ?? ""
        let host = Authority.host(of: authority)
        if isLoopbackOnly || !hosts.isEmpty, !Self.loopback.contains(host), !hosts.contains(host) {
            GatewayMetrics.refused("host")
            throw Problem(
                .init(code: 421, reasonPhrase: "Misdirected Request"), "foreign-host",
                "this gateway is not called \(Quotation.of(host)): use its address, or start it with --host-name")
        }
        let origin = request.headers[.origin]
        let allowed = origin.map { crossOrigins.contains($0) || crossOrigins.contains("*") } ?? false
        if let origin, !allowed, !Authority.isSame(origin, authority) {
            GatewayMetrics.refused("origin")
            throw Problem(
                .forbidden, "foreign-origin",
                "pages of \(Quotation.of(origin)) may not use this gateway: start it with --cors to let them")
        }
        // Browsers send no Origin with plain GETs of pages elsewhere, but say from where they come.
        if origin == nil, request.headers[.fetchSite] == "cross-site", request.headers[.fetchMode] != "navigate" {
            GatewayMetrics.refused("origin")
            throw Problem(.forbidden, "foreign-origin", "pages of another site may not use this gateway")
        }
        if request.method == .options, allowed, let origin, request.headers[.accessControlRequestMethod] != nil {
            return Response(
                status: .noContent,
                headers: [
                    .accessControlAllowOrigin: origin, .vary: "Origin",
                    .accessControlAllowMethods: "GET, POST, PUT, DELETE", .accessControlMaxAge: "600",
                    .accessControlAllowHeaders:
                        "authorization, content-type, accept, prefer, x-request-id, traceparent",
                ])
        }
        guard allowed, let origin else { return try await next(request, context) }
        var response: Response
        do { response = try await next(request, context) } catch {
            // The page may know why.
            response = Problem(of: error).response(requestIdentifier: context.requestIdentifier)
        }
        response.headers[.accessControlAllowOrigin] = origin
        response.headers[.vary] = "Origin"
        response.headers[.accessControlExposeHeaders] = "location, retry-after, x-request-id, etag, preference-applied"
        return response
    }

    private static let loopback: Set<String> = ["localhost", "127.0.0.1", "[::1]", ""]
}

/// What stands in `Host`.
package enum Authority {
    /// The host, in lower case and without its port.
    package static func host(of authority: String) -> String {
        var host = authority.lowercased()[...]
        if let colon = host.lastIndex(of: ":"), !host[colon...].contains("]") { host = host[..<colon] }
        if host.hasSuffix(".") { host = host.dropLast() }
        return String(host)
    }

    /// Whether an origin is that of the page itself: the same host and port, whatever a proxy made of the scheme.
    static func isSame(_ origin: String, _ authority: String) -> Bool {
        guard let scheme = ["http://", "https://"].first(where: { origin.hasPrefix($0) }) else { return false }
        func normal(_ text: some StringProtocol) -> String {
            let text = text.lowercased()
            let port = scheme == "https://" ? ":443" : ":80"
            return text.hasSuffix(port) ? String(text.dropLast(port.utf8.count)) : text
        }
        return normal(origin.dropFirst(scheme.count)) == normal(authority)
    }
}

extension HTTPField.Name {
    /// `Sec-Fetch-Mode`.
    static let fetchMode = HTTPField.Name("Sec-Fetch-Mode") ?? .server
}

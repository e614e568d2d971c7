import HTTPTypes
import Hummingbird

/// Finds out who asks, and how often.
struct AccessMiddleware: RouterMiddleware {
    let access: Access

    func handle(
        _ request: Request, context: GatewayContext,
        next: (Request, GatewayContext) async throws -> Response
    ) async throws -> Response {
        var context = context
        guard let keys = access.keys else {
            context.caller = .local
            return try await next(request, context)
        }
        if Access.isOpen(request.uri.path) { return try await next(request, context) }
        guard let key = Self.key(of: request) else {
            GatewayMetrics.refused("key")
            throw Problem(
                .unauthorized, "unauthorized", "an API key is needed: send it as Authorization: Bearer KEY",
                headers: [.wwwAuthenticate: "Bearer"])
        }
        guard let entry = keys.entry(of: key) else {
            GatewayMetrics.refused("key")
            // Whoever guesses waits: the address, not the key, is what is counted.
            if let wait = access.rates.take("?\(context.clientAddress)", perSecond: 2) {
                throw Problem(
                    .tooManyRequests, "rate-limited", "too many wrong keys from this address", retryAfter: wait)
            }
            throw Problem(
                .unauthorized, "unauthorized", "this API key is not known here",
                headers: [.wwwAuthenticate: "Bearer error=\"invalid_token\""])
        }
        if let rate = entry.requestsPerSecond, let wait = access.rates.take(entry.name, perSecond: rate) {
            GatewayMetrics.refused("rate")
            throw Problem(
                .tooManyRequests, "rate-limited", "the key \(entry.name) may send \(rate) requests a second",
                retryAfter: wait)
        }
        context.caller = Caller(name: entry.name, scopes: entry.scopes)
        return try await next(request, context)
    }

    /// The key: of the header, or where a client that people already have puts it: in the query.
    private static func key(of request: Request) -> String? {
        if let header = request.headers[.authorization] {
            let parts = header.split(separator: " ", maxSplits: 1)
            if parts.count == 2, parts[0].lowercased() == "bearer" || parts[0].lowercased() == "token" {
                return String(parts[1])
            }
            return nil
        }
        return request.uri.queryParameters["api_key"].map(String.init)
    }
}

/// What a gateway asks of those who come.
struct Access: Sendable {
    /// The keys; nil where none are asked for.
    let keys: ApiKeys?
    let rates = RateLimiter()

    /// What anybody may have: the pages themselves, which hold nothing of anybody's, and whether the gateway lives.
    static func isOpen(_ path: String) -> Bool {
        switch path {
        case "/", "/monitor", "/docs", "/healthz", "/readyz", "/openapi.json", "/favicon.ico", "/health": true
        default: path.hasPrefix("/assets/") || path.hasPrefix("/samples/")
        }
    }
}

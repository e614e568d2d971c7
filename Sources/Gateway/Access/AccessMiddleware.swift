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
        guard access.keys != nil else {
            context.caller = .local
            return try await next(request, context)
        }
        let path = request.uri.path
        // Those who bring their key elsewhere are asked for it by their routes, and have no scope until then.
        if Access.isOpen(path) || Access.asksForKeyItself(path) { return try await next(request, context) }
        context.caller = try access.caller(Self.key(of: request), from: context.clientAddress)
        return try await next(request, context)
    }

    /// The key: of the header, or where a client that people already have puts it: in the query.
    static func key(of request: Request) -> String? {
        if let header = request.headers[.authorization] {
            let parts = header.split(separator: " ", maxSplits: 1)
            if parts.count == 2, parts[0].lowercased() == "bearer" || parts[0].lowercased() == "token" {
                return String(parts[1])
            }
            return nil
        }
        return queryKey(of: request)
    }

    /// The key of the query.
    static func queryKey(of request: Request) -> String? { request.uri.queryParameters["api_key"].map(String.init) }
}

/// What a gateway asks of those who come.
struct Access: Sendable {
    /// The keys; nil where none are asked for.
    let keys: ApiKeys?
    let rates = RateLimiter()

    /// Who has a key.
    ///
    /// - Parameters:
    ///   - key: as the request brought it; nil for none.
    ///   - address: from where.
    /// - Returns: its holder.
    /// - Throws: ``Problem``: there is none, it is unknown, or it comes too often.
    func caller(_ key: String?, from address: String) throws(Problem) -> Caller {
        guard let keys else { return .local }
        guard let key else {
            GatewayMetrics.refused("key")
            throw Problem(
                .unauthorized, "unauthorized", "an API key is needed: send it as Authorization: Bearer KEY",
                headers: [.wwwAuthenticate: "Bearer"])
        }
        guard let entry = keys.entry(of: key) else {
            GatewayMetrics.refused("key")
            // Whoever guesses waits: the address, not the key, is what is counted.
            if let wait = rates.take("?\(address)", perSecond: 2) {
                throw Problem(
                    .tooManyRequests, "rate-limited", "too many wrong keys from this address", retryAfter: wait)
            }
            throw Problem(
                .unauthorized, "unauthorized", "this API key is not known here",
                headers: [.wwwAuthenticate: "Bearer error=\"invalid_token\""])
        }
        if let rate = entry.requestsPerSecond, let wait = rates.take(entry.name, perSecond: rate) {
            GatewayMetrics.refused("rate")
            throw Problem(
                .tooManyRequests, "rate-limited", "the key \(entry.name) may send \(rate) requests a second",
                retryAfter: wait)
        }
        return Caller(name: entry.name, scopes: entry.scopes, tenant: entry.tenant)
    }

    /// What anybody may have: the pages themselves, which hold nothing of anybody's, and whether the gateway lives.
    static func isOpen(_ path: String) -> Bool {
        switch path {
        case "/", "/monitor", "/docs", "/healthz", "/readyz", "/openapi.json", "/favicon.ico": true
        // Whether it lives, as Label Studio and Roboflow's clients ask.
        case "/health", "/readiness", "/info": true
        default: path.hasPrefix("/assets/") || path.hasPrefix("/samples/")
        }
    }
    /// Paths of clients that bring their key where they always have: in the body, or as a password.
    static func asksForKeyItself(_ path: String) -> Bool { CompatibilityRoutes.paths.contains(path) }
}

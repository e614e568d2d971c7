import HTTPTypes
import Hummingbird
import Synchronization

/// The routes of a gateway, and which methods each path knows.
struct RouteTable {
    typealias Handler = @Sendable (Request, GatewayContext) async throws -> Response

    private let router: Router<GatewayContext>
    let paths = KnownPaths()

    init(_ router: Router<GatewayContext>) { self.router = router }

    /// The methods of a path; where it knows GET it knows HEAD.
    func on(_ path: String, _ handlers: [HTTPRequest.Method: Handler]) {
        var allowed = Set(handlers.keys)
        for (method, handler) in handlers {
            router.on(RouterPath(path), method: method) { request, context in try await handler(request, context) }
        }
        if let get = handlers[.get], handlers[.head] == nil {
            allowed.insert(.head)
            router.on(RouterPath(path), method: .head) { request, context in
                try await get(request, context).createHeadResponse()
            }
        }
        let header = allowed.map(\.rawValue).sorted().joined(separator: ", ")
        paths.add(path, allowed: header)
    }
}

/// The paths of a gateway.
package final class KnownPaths: Sendable {
    /// No path yet.
    package init() {}

    /// Guards the paths, which are added before anybody asks.
    private let paths = Mutex<[(parts: [Substring], allowed: String)]>([])

    /// A path, in which a part in braces stands for any, and its methods.
    package func add(_ path: String, allowed: String) {
        paths.withLock { $0.append((path.split(separator: "/"), allowed)) }
    }

    /// The methods that a path knows; nil for a path that there is not.
    package func allowed(_ path: String) -> String? {
        let parts = path.split(separator: "/")
        return paths.withLock { paths in
            paths.first { known in
                known.parts.count == parts.count
                    && zip(known.parts, parts).allSatisfy { $0 == $1 || $0.hasPrefix("{") }
            }?.allowed
        }
    }
}

/// Says of a request that no route takes whether its path or its method is unknown.
struct UnknownRouteMiddleware: RouterMiddleware {
    let paths: KnownPaths

    func handle(
        _ request: Request, context: GatewayContext,
        next: (Request, GatewayContext) async throws -> Response
    ) async throws -> Response {
        do { return try await next(request, context) } catch let error as HTTPError where error.status == .notFound {
            guard let allowed = paths.allowed(request.uri.path) else { throw Problem.noRoute(request.uri.path) }
            throw Problem(
                .methodNotAllowed, "method-not-allowed", "this path takes \(allowed)", headers: [.allow: allowed])
        }
    }
}

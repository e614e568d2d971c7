import HTTPTypes
import Hummingbird

/// The routes of a gateway; a method that a path does not know is answered 405 with those that it does.
struct RouteTable {
    typealias Handler = @Sendable (Request, GatewayContext) async throws -> Response

    let router: Router<GatewayContext>

    /// The methods of a path.
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
        for method in Self.methods where !allowed.contains(method) {
            router.on(RouterPath(path), method: method) { _, _ -> Response in
                throw Problem(
                    .methodNotAllowed, "method-not-allowed", "\(path) takes \(header)", headers: [.allow: header])
            }
        }
    }

    private static let methods: [HTTPRequest.Method] = [
        .get, .head, .post, .put, .delete, .patch, .options, .trace,
    ]
}

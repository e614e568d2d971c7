import Cluster
import HTTPTypes
import Hummingbird
import JSON
import NIOCore
import Redis
import Segmentation
import Telemetry

/// `/v1/capabilities`, `/healthz`, `/readyz` and `/metrics`.
struct ServiceRoutes: Sendable {
    let models: ModelNames
    let broker: Broker
    let pages: PageRoutes
    let registry: PrometheusRegistry
    let cluster: ClusterMetrics
    let connections: OpenConnections
    let streams: OpenStreams
    let hasKeys: Bool
    let imageLimit: Int
    let bodyLimit: Int

    func add(to routes: RouteTable) {
        routes.on("/v1/capabilities", [.get: capabilities])
        routes.on("/healthz", [.get: { _, _ in Replies.json(.object([("status", "healthy")])) }])
        routes.on("/readyz", [.get: ready])
        routes.on("/metrics", [.get: metrics])
    }

    private func capabilities(_ request: Request, _ context: GatewayContext) async throws -> Response {
        try context.caller.require(.read)
        let models = try await models.models()
        return Replies.json(
            .object([
                (
                    "models",
                    .array(
                        models.map { model in
                            .object([
                                ("name", .string(model.name)), ("model", .string(model.identifier.text)),
                                ("default", .bool(model.isDefault)), ("encoders", .integer(model.encoders)),
                                ("decoders", .integer(model.decoders)),
                            ])
                        })
                ), ("prompts", .array(["points", "box", "mask", "text"])), ("everything", true),
                ("outputs", .array(JobLine.Output.allCases.map { .string($0.rawValue) })),
                (
                    "limits",
                    .object([
                        ("image_bytes", .integer(imageLimit)), ("body_bytes", .integer(bodyLimit)),
                    ])
                ),
                (
                    "authentication",
                    .object([
                        ("required", .bool(hasKeys)),
                        (
                            "scopes",
                            .array(
                                Scope.allCases.filter { context.caller.scopes.contains($0) }.map {
                                    .string($0.rawValue)
                                })
                        ),
                    ])
                ), ("samples", .verbatim(pages.samples)),
            ]))
    }

    /// Ready where Redis answers: whether workers are there is told by the answers themselves.
    private func ready(_ request: Request, _ context: GatewayContext) async throws -> Response {
        do {
            _ = try await broker.redis.time()
            return Replies.json(.object([("status", "ready")]))
        } catch {
            return Replies.json(
                .object([("status", "not ready"), ("reason", "Redis does not answer")]), status: .serviceUnavailable)
        }
    }

    private func metrics(_ request: Request, _ context: GatewayContext) async throws -> Response {
        try context.caller.require(.read)
        GatewayMetrics.set(connections: connections.count, eventStreams: streams.count)
        let text = registry.exposition(including: await cluster.collect(for: context.caller) + ProcessMetrics.collect())
        return Replies.bytes(Array(text.utf8), type: "text/plain; version=0.0.4; charset=utf-8")
    }
}

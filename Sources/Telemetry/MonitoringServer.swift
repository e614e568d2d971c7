import Hummingbird
public import Logging
public import ServiceLifecycle

/// How a service is: what `/healthz` and `/readyz` answer.
public struct ServiceHealth: Sendable {
    /// Whether the process does what it is for or will again by itself; when not, it should be restarted.
    public var isAlive: Bool
    /// Whether it takes work now.
    public var isReady: Bool
    /// What is said to people, a line.
    public var detail: String

    /// A state of health.
    public init(isAlive: Bool, isReady: Bool, detail: String) {
        self.isAlive = isAlive
        self.isReady = isReady
        self.detail = detail
    }
}

/// `/healthz`, `/readyz` and `/metrics` of a service, over HTTP.
///
/// `/healthz` and `/readyz` answer 200 or 503 with a line of text. It serves until the group that it runs in shuts down.
public struct MonitoringServer: Service {
    private let host: String
    private let port: Int
    private let registry: PrometheusRegistry
    private let logger: Logger
    private let health: @Sendable () async -> ServiceHealth
    private let refresh: @Sendable () async -> Void

    /// A server.
    ///
    /// - Parameters:
    ///   - host: the address to listen on; others than 127.0.0.1 let other machines read.
    ///   - port: 0 for one that is free, which the log tells.
    ///   - registry: whose metrics `/metrics` writes.
    ///   - logger: told which port it is.
    ///   - refresh: called before metrics are written, to set what is only known when asked for.
    ///   - health: asked for each request.
    public init(
        host: String, port: Int, registry: PrometheusRegistry, logger: Logger,
        refresh: @escaping @Sendable () async -> Void = {}, health: @escaping @Sendable () async -> ServiceHealth
    ) {
        self.host = host
        self.port = port
        self.registry = registry
        self.logger = logger
        self.health = health
        self.refresh = refresh
    }

    /// Serves until graceful shutdown.
    public func run() async throws {
        let router = Router()
        let (registry, health, refresh) = (registry, health, refresh)
        router.get("healthz") { _, _ in
            let health = await health()
            return Self.plain(health.detail, health.isAlive ? .ok : .serviceUnavailable)
        }
        router.get("readyz") { _, _ in
            let health = await health()
            return Self.plain(health.detail, health.isReady ? .ok : .serviceUnavailable)
        }
        router.get("metrics") { _, _ in
            await refresh()
            var response = Self.plain(registry.exposition(including: ProcessMetrics.collect()), .ok)
            response.headers[.contentType] = "text/plain; version=0.0.4; charset=utf-8"
            return response
        }
        var quiet = logger
        quiet.logLevel = .error
        let logger = logger
        let application = Application(
            router: router,
            configuration: ApplicationConfiguration(address: .hostname(host, port: port), serverName: "kirie"),
            onServerRunning: { channel in
                logger.info("metrics and health are served", metadata: ["port": "\(channel.localAddress?.port ?? 0)"])
            },
            logger: quiet)
        try await application.run()
    }

    private static func plain(_ text: String, _ status: HTTPResponse.Status) -> Response {
        Response(
            status: status, headers: [.contentType: "text/plain; charset=utf-8"],
            body: ResponseBody(byteBuffer: ByteBuffer(string: text.hasSuffix("\n") ? text : text + "\n")))
    }
}

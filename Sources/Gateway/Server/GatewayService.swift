import Clients
package import Cluster
import HTTPTypes
import Hummingbird
import HummingbirdCore
import Imaging
package import Logging
import NIOCore
import Platform
package import Redis
import ServiceLifecycle
package import Telemetry

/// What a gateway is told when it starts.
package struct GatewaySettings: Sendable {
    /// Where it listens.
    package var host = "127.0.0.1"
    /// 0 for one that is free.
    package var port = 8080
    /// The keys that are asked for; nil for none, which is for loopback alone.
    package var keys: ApiKeys?
    /// Names by which it is reached beside loopback's.
    package var hostNames: Set<String> = []
    /// Origins whose pages may use it.
    package var crossOrigins: Set<String> = []
    /// Addresses of proxies that name their clients.
    package var proxies = TrustedProxies([])
    /// The largest picture file.
    package var imageLimit = 64 << 20
    /// Bodies of JSON that are in memory at a time, all together.
    package var memoryForBodies = 128 << 20
    /// Connections that are open at a time.
    package var connectionLimit = 16_384
    /// How long a client may leave a body unfinished or an answer unread without a byte passing.
    package var clientPatience: Duration = .seconds(60)
    /// Whether pictures may be named by addresses that this gateway then fetches.
    package var fetchesAddresses = false
    /// Whether jobs are taken where no worker is there, because they start one.
    package var acceptsWithoutWorkers = false
    /// Where Label Studio keeps the pictures that its tasks name by path.
    package var labelStudioFolders = LabelStudioFolders()
    /// Where pictures stay while they arrive.
    package var temporaryFolder = "/tmp"

    /// Settings as they are usual.
    package init() {}

    /// Whether only this machine can come.
    package var isLoopbackOnly: Bool { Self.loopback.contains(host) }
    private static let loopback: Set<String> = ["127.0.0.1", "::1", "localhost"]
}

/// The HTTP side of a cluster: `/v1/…`, the pages, and the routes of clients that people already have.
package struct GatewayService: Service {
    private let settings: GatewaySettings
    private let broker: Broker
    private let cacheRedis: RedisClient?
    private let registry: PrometheusRegistry
    private let logger: Logger
    private let onListening: @Sendable (Int) async -> Void

    /// A gateway.
    ///
    /// - Parameters:
    ///   - settings: where and for whom.
    ///   - broker: of the cluster.
    ///   - cacheRedis: the Redis of the embeddings; nil where they are in that of the queues.
    ///   - registry: what `/metrics` writes.
    ///   - logger: gets a line for each request.
    ///   - onListening: told the port when it can be reached.
    package init(
        _ settings: GatewaySettings, broker: Broker, cacheRedis: RedisClient? = nil, registry: PrometheusRegistry,
        logger: Logger,
        onListening: @escaping @Sendable (Int) async -> Void = { _ in }
    ) {
        self.settings = settings
        self.broker = broker
        self.cacheRedis = cacheRedis
        self.registry = registry
        self.logger = logger
        self.onListening = onListening
    }

    /// Serves until graceful shutdown: then streams end, and requests that are being answered are finished.
    package func run() async throws {
        GatewayMetrics.begin()
        let client = "gateway-\(Job.makeIdentifier().prefix(16))"
        let connections = OpenConnections(patience: settings.clientPatience)
        let streams = OpenStreams()
        let answers = JobAnswers(broker, client: client, logger: logger)
        let watch = ClusterWatch(broker)
        let router = makeRouter(client: client, connections, streams, answers, watch)
        var quiet = logger
        quiet.logLevel = .error
        let onListening = onListening
        let idle = TimeAmount.seconds(75)
        let logger = logger
        let channels = HTTP1Channel.Configuration(
            additionalChannelHandlers: [connections.makeHandler(), MalformedRequestHandler(logger: logger)],
            idleTimeout: idle, httpDecoderConfiguration: HeadLimits.decoder)
        let application = Application(
            router: router,
            server: HTTPServerBuilder { responder in
                ConnectionTasks(HTTP1Channel(responder: responder, configuration: channels))
            },
            configuration: ApplicationConfiguration(
                address: .hostname(settings.host, port: settings.port), serverName: "kirie", backlog: 1024,
                availableConnectionsDelegate: MaximumAvailableConnections(settings.connectionLimit)),
            services: [answers, watch],
            onServerRunning: { channel in await onListening(channel.localAddress?.port ?? 0) },
            logger: quiet)
        try await application.run()
    }

    private func makeRouter(
        client: String, _ connections: OpenConnections, _ streams: OpenStreams, _ answers: JobAnswers,
        _ watch: ClusterWatch
    ) -> Router<GatewayContext> {
        let router = Router(context: GatewayContext.self)
        let decoder = ImageDecoder()
        let bodies = BodyReader(budget: ByteBudget(limit: settings.memoryForBodies))
        let models = ModelNames(broker)
        let pages = PageRoutes()
        let bodyLimit = settings.imageLimit / 3 * 4 + (4 << 20)
        let uploads = ImageUploads(
            broker: broker, reader: bodies, decoder: decoder, limit: settings.imageLimit,
            folder: settings.temporaryFolder)
        let service = SegmentService(
            broker: broker, submitter: JobSubmitter(broker, client: client), answers: answers, models: models,
            slots: Slots(),
            uploads: uploads,
            connections: connections,
            quotas: Quotas(redis: broker.redis, namespace: broker.keys.namespace, keys: settings.keys),
            fetcher: settings.fetchesAddresses ? ImageFetcher(uploads) : nil,
            acceptsWithoutWorkers: settings.acceptsWithoutWorkers)
        let pictures = AnswerPictures(broker: broker, decoder: decoder)
        let events = EventStream(streams: streams, connections: connections)
        let jobs = JobRoutes(service: service, pictures: pictures, events: events)
        router.add(middleware: LargeBodiesMiddleware())
        router.add(middleware: ObservingMiddleware(proxies: settings.proxies, logger: logger))
        router.add(
            middleware: OriginMiddleware(
                isLoopbackOnly: settings.isLoopbackOnly, hosts: settings.hostNames,
                crossOrigins: settings.crossOrigins))
        let access = Access(keys: settings.keys)
        router.add(middleware: AccessMiddleware(access: access))
        let routes = RouteTable(router)
        router.add(middleware: UnknownRouteMiddleware(paths: routes.paths))
        SegmentRoutes(service: service, pictures: pictures, bodies: bodies, bodyLimit: bodyLimit).add(to: routes)
        BatchRoutes(service: service, decoder: decoder, limit: bodyLimit, folder: settings.temporaryFolder).add(
            to: routes)
        jobs.add(to: routes)
        ClusterRoutes(
            broker: broker, watch: watch, events: events, jobs: jobs, models: models,
            cache: ClusterCache(broker, other: cacheRedis)
        ).add(to: routes)
        ServiceRoutes(
            models: models, broker: broker, pages: pages, registry: registry, cluster: ClusterMetrics(watch),
            connections: connections, streams: streams, hasKeys: settings.keys != nil, imageLimit: settings.imageLimit,
            bodyLimit: bodyLimit
        ).add(to: routes)
        let compatibility = CompatibilityRoutes(
            desk: ClientDesk(
                service: service, bodies: bodies, bodyLimit: bodyLimit, access: access, logger: logger),
            labelStudioFolders: settings.labelStudioFolders, instance: client)
        compatibility.add(to: routes)
        pages.add(to: routes, rootHandlers: [.post: compatibility.rootHandler])
        return router
    }
}

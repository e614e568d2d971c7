import Clients
import Cluster
import Embeddings
import HTTPTypes
import Hummingbird
import JSON
import NIOCore
import Platform
import Segmentation

/// `/v1/queues`, `/v1/workers`, `/v1/cache`, `/v1/dead`, `/v1/events`: what operators look at.
struct ClusterRoutes: Sendable {
    let broker: Broker
    let watch: ClusterWatch
    let events: EventStream
    let jobs: JobRoutes
    let models: ModelNames
    let cache: ClusterCache

    func add(to routes: RouteTable) {
        routes.on("/v1/queues", [.get: queues])
        routes.on("/v1/workers", [.get: workers])
        routes.on("/v1/events", [.get: stream])
        routes.on("/v1/cache", [.get: cacheFigures, .delete: dropEmbeddings])
        routes.on("/v1/dead", [.get: deadLetters])
        routes.on("/v1/dead/{partition}/{entry}", [.delete: purge])
        routes.on("/v1/dead/{partition}/{entry}/retry", [.post: retry])
    }

    private func queues(_ request: Request, _ context: GatewayContext) async throws -> Response {
        try context.caller.require(.read)
        return Replies.json(try await watch.figures(of: context.caller) + [0x0A])
    }

    private func workers(_ request: Request, _ context: GatewayContext) async throws -> Response {
        try context.caller.require(.read)
        let workers = try await WorkerRegistry(broker).workers()
        return Replies.json(
            .object([("workers", .array(workers.map { ClusterWatch.worker($0.heartbeat, age: $0.age) }))]))
    }

    /// The queues once a second; with `job`s in the query, the ends of those.
    private func stream(_ request: Request, _ context: GatewayContext) async throws -> Response {
        try context.caller.require(.read)
        let ids = request.uri.queryParameters.getAll("job").map { String($0) }
        if ids.isEmpty {
            let (watch, caller) = (watch, context.caller)
            return try events.response(context) { events in
                events.yield(.init(name: "queues", data: try await watch.figures(of: caller)))
                for await figures in watch.listen() {
                    events.yield(.init(name: "queues", data: figures.bytes(for: caller)))
                }
            }
        }
        guard ids.count <= 256 else {
            throw Problem(.badRequest, "bad-query", "at most 256 jobs are followed at a time", field: "job")
        }
        for id in ids where JobIdentifier.fault(in: id) != nil { throw Problem.unknownJob(id) }
        let found = try await broker.scoped(to: context.caller.tenant).find(ids)
        let references = try ids.map { id in
            guard let status = found[id]?.max(by: { $0.submitted < $1.submitted }) else { throw Problem.unknownJob(id) }
            return status.reference
        }
        let jobs = jobs
        return try events.response(context) { try await jobs.follow(references, $0, context) }
    }

    // MARK: Embeddings

    private func cacheFigures(_ request: Request, _ context: GatewayContext) async throws -> Response {
        try context.caller.require(.read)
        return Replies.json(try await cache.figures().json)
    }

    /// Of `image` (several), `model` and `all=true` one is given, so that nothing is emptied by a slip.
    private func dropEmbeddings(_ request: Request, _ context: GatewayContext) async throws -> Response {
        try context.caller.require(.operate)
        let query = request.uri.queryParameters
        let images = query.getAll("image").map { String($0) }
        let (name, all) = (try request.query("model"), try request.query("all"))
        if let all, all != "true" {
            throw Problem(.badRequest, "bad-query", "all: true is expected, or nothing", field: "all")
        }
        guard [!images.isEmpty, name != nil, all != nil].count(where: { $0 }) == 1 else {
            throw Problem(
                .badRequest, "bad-query",
                "one of image (which may be given several times), model and all=true is expected")
        }
        // More would not go into a request line.
        guard images.count <= 100 else {
            throw Problem(.badRequest, "bad-query", "at most 100 pictures are named at a time", field: "image")
        }
        var choice = ClusterCache.Choice()
        for image in images {
            guard let digest = ImageDigest(image) else {
                throw Problem(.badRequest, "bad-query", "image: a SHA-256 in hexadecimal is expected", field: "image")
            }
            choice.images.insert(digest)
        }
        if let name { choice.model = try await models.model(name, needsWorkers: false) }
        choice.isAll = all != nil
        return Replies.json(.object([("removed", .integer(try await cache.remove(choice)))]))
    }

    // MARK: Dead letters

    private func deadLetters(_ request: Request, _ context: GatewayContext) async throws -> Response {
        try context.caller.require(.read)
        let limit: Int
        if let text = try request.query("limit") {
            guard let number = Int(text), (1...10_000).contains(number) else {
                throw Problem(.badRequest, "bad-query", "limit: a number from 1 to 10000 is expected", field: "limit")
            }
            limit = number
        } else {
            limit = 1000
        }
        // Who may bring them back sees all of them, everybody else those of its tenant.
        let letters = try await broker.deadLetters(limit: limit).filter { letter in
            context.caller.scopes.contains(.operate)
                || (letter.reference.map { $0.tenant == context.caller.tenant } ?? context.caller.tenant.isStandard)
        }
        return Replies.json(.object([("dead", .array(letters.prefix(limit).map(Self.json)))]))
    }

    private func retry(_ request: Request, _ context: GatewayContext) async throws -> Response {
        try context.caller.require(.operate)
        let letter = try await letter(context)
        guard let state = try await broker.retry([letter])[0] else {
            throw Problem(
                .conflict, "no-return", "it cannot come back: it is no job, or its picture is gone: submit it again")
        }
        return Replies.json(.object([("id", JSONValue(letter.job)), ("state", .string(state.rawValue))]))
    }

    private func purge(_ request: Request, _ context: GatewayContext) async throws -> Response {
        try context.caller.require(.operate)
        _ = try await broker.purge([try await letter(context)])
        return Response(status: .noContent)
    }

    private func letter(_ context: GatewayContext) async throws -> DeadLetter {
        let partition = context.parameters.get("partition") ?? ""
        let entry = context.parameters.get("entry") ?? ""
        let place = broker.partitions.first { "\($0.index)" == partition }
        guard let place, let letter = try await broker.deadLetter(entry, in: place) else {
            throw Problem(.notFound, "unknown-letter", "there is no dead letter \(Quotation.of(entry)), or no longer")
        }
        return letter
    }

    private static func json(_ letter: DeadLetter) -> JSONValue {
        var members: [JSONValue.Member] = [
            ("entry", .string(letter.entry)), ("partition", .integer(letter.partition.index)),
            ("id", JSONValue(letter.job)), ("reason", .string(letter.reason)),
        ]
        if let tenant = letter.reference?.tenant, !tenant.isStandard {
            members.append(("tenant", .string(tenant.name)))
        }
        if let at = letter.fields["at"].flatMap({ Int($0) }) { members.append(("at", .string(Timestamp.text(at)))) }
        if let attempts = letter.fields["attempts"].flatMap({ Int($0) }) {
            members.append(("attempts", .integer(attempts)))
        }
        for name in ["image", "lane", "source", "model"] {
            if let value = letter.fields[name] { members.append((name, .string(value))) }
        }
        return .object(members)
    }
}

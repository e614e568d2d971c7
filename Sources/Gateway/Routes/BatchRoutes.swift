import Clients
import Cluster
import HTTPTypes
import Hummingbird
import Imaging
import JSON
import NIOCore

/// `POST /v1/jobs`: a jobs file, line by line, as `kirie submit --jobs` takes it.
struct BatchRoutes: Sendable {
    let service: SegmentService
    let decoder: ImageDecoder
    let limit: Int
    let folder: String

    func add(to routes: RouteTable) { routes.on("/v1/jobs", [.post: submit]) }

    /// Answers a line for each job: where it stands with `Prefer: respond-async`, else how it ended, as it ends.
    private func submit(_ request: Request, _ context: GatewayContext) async throws -> Response {
        try context.caller.require(.submit)
        let isAsynchronous = Preferences(request).isAsynchronous
        guard let type = request.headers[.contentType], type.lowercased().hasPrefix("application/x-ndjson") else {
            throw Problem(
                .unsupportedMediaType, "bad-content-type", "a jobs file is application/x-ndjson: one job line a line")
        }
        let model = try await service.models.model(
            try request.query("model"), needsWorkers: !isAsynchronous && !service.acceptsWithoutWorkers)
        let spool = try ImageSpool(folder: folder)
        try await service.uploads.reader.forEachChunk(of: request, atMost: limit, what: "the jobs file", holding: false)
        {
            try await spool.append($0)
        }
        if let quota = service.quotas.keys?.entries.first(where: { $0.name == context.caller.name })?.masksPerDay {
            // How many masks a file asks for is known when it has been read: lines count as one prompt each, at least.
            try await service.quotas.take(min(quota, try await spool.lineCount()), context.caller)
        }
        let reader = try JobLineReader(spool.path)
        let (lines, continuation) = AsyncStream.makeStream(of: ByteBuffer.self)
        let run = SubmissionRun(
            service.serving(context.caller).broker,
            settings: .init(
                defaults: .init(model: model, lane: .bulk, tenant: context.caller.tenant), waits: !isAsynchronous,
                whenFull: isAsynchronous ? .refuse : .wait, readsPaths: false),
            masks: nil, images: [], files: PictureFiles(readers: 2, decoder: decoder)
        ) { events in
            for event in events { if let line = event.line { continuation.yield(ByteBuffer(bytes: line.line)) } }
        }
        let connections = service.connections
        let body = ResponseBody { writer in
            try await withThrowingTaskGroup(of: Void.self) { group in
                defer { group.cancelAll() }
                group.addTask {
                    defer { continuation.finish() }
                    do {
                        try await run.run(.file(reader, name: "the jobs file")) { _, _, _ in throw CancellationError() }
                    } catch is CancellationError {} catch {
                        let problem = Problem(of: error)
                        continuation.yield(
                            ByteBuffer(
                                bytes: JSONValue.object([
                                    ("error", .string(problem.detail)), ("code", .string(problem.code)),
                                ]).line))
                    }
                    withExtendedLifetime(spool) {}
                }
                try await connections.watching(context.channel, onClose: { continuation.finish() }) {
                    for await line in lines { try await writer.write(line) }
                }
            }
            try await writer.finish(nil)
        }
        var headers: HTTPFields = [
            .contentType: "application/x-ndjson", .cacheControl: "no-store", .accelBuffering: "no",
        ]
        if isAsynchronous { headers[.preferenceApplied] = "respond-async" }
        return Response(status: isAsynchronous ? .accepted : .ok, headers: headers, body: body)
    }
}

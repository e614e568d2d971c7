import Clients
import Cluster
import HTTPTypes
import Hummingbird
import Imaging
import JSON
import NIOCore
import Platform
import Redis
import Segmentation

/// `/v1/images` and `/v1/segment`.
struct SegmentRoutes: Sendable {
    let service: SegmentService
    let pictures: AnswerPictures
    let bodies: BodyReader
    /// The largest body of JSON, pictures in base64 among them.
    let bodyLimit: Int

    func add(to routes: RouteTable) {
        routes.on("/v1/images", [.post: upload])
        routes.on("/v1/images/{sha256}", [.get: image])
        routes.on("/v1/images/{sha256}/content", [.get: content])
        routes.on("/v1/images/{sha256}/warm", [.put: warm])
        routes.on("/v1/segment", [.post: { try await segment($0, $1, isEverything: false) }])
        routes.on("/v1/everything", [.post: { try await segment($0, $1, isEverything: true) }])
    }

    // MARK: Pictures

    private func upload(_ request: Request, _ context: GatewayContext) async throws -> Response {
        try context.caller.require(.submit)
        guard let image = try await service.serving(context.caller).uploads.take(request).image else {
            throw MultipartReader.fault("there is no part of the name image")
        }
        return Replies.json(
            .object([
                ("sha256", .string(image.digest.hexadecimal)), ("width", .integer(image.width)),
                ("height", .integer(image.height)), ("bytes", .integer(image.bytes)),
            ]), status: image.isNew ? .created : .ok, headers: [.location: "/v1/images/\(image.digest)"])
    }

    private func image(_ request: Request, _ context: GatewayContext) async throws -> Response {
        try context.caller.require(.read)
        let digest = try Self.digest(context)
        let service = service.serving(context.caller)
        let broker = service.broker
        let presence = try await broker.presence(of: [digest])[0]
        // What another tenant has sent is not there.
        guard presence != .unknown else { throw Problem.unknownImage(digest.hexadecimal) }
        let isStored = presence == .stored
        let models = try await service.models.models()
        let keys = models.map { EmbeddingKey(image: digest, model: $0.identifier) }
        let ready = try await broker.hasEmbeddings(keys)
        guard isStored || ready.contains(true) else { throw Problem.unknownImage(digest.hexadecimal) }
        let known = service.uploads.sizes[digest]
        var members: [JSONValue.Member] = [("sha256", .string(digest.hexadecimal)), ("stored", .bool(isStored))]
        if let known {
            members += [
                ("width", .integer(known.width)), ("height", .integer(known.height)), ("bytes", .integer(known.bytes)),
            ]
        }
        members.append(
            ("models", .object(zip(models, ready).map { ($0.name, .string($1 ? "ready" : "absent")) })))
        return Replies.json(.object(members))
    }

    private func content(_ request: Request, _ context: GatewayContext) async throws -> Response {
        try context.caller.require(.read)
        let digest = try Self.digest(context)
        let broker = service.serving(context.caller).broker
        guard try await broker.presence(of: [digest])[0] != .unknown else {
            throw Problem.unknownImage(digest.hexadecimal)
        }
        let tag = Replies.tag(digest.hexadecimal)
        if let response = Replies.notModified(request, tag: tag) { return response }
        guard let file = try await broker.image(digest) else { throw Problem.unknownImage(digest.hexadecimal) }
        // However slowly it is read: what all clients have in hand together is bounded.
        let share = bodies.budget.share()
        guard share.add(file.count) else {
            throw Problem(
                .serviceUnavailable, "busy", "so many pictures are being sent that there is no memory for one more",
                retryAfter: .seconds(1))
        }
        return Response(
            status: .ok,
            headers: [
                .contentType: file.withUnsafeBytes { PictureType.of($0) }, .eTag: tag,
                .cacheControl: Replies.immutable,
                // A picture is shown, never run.
                .contentSecurityPolicy: "default-src 'none'; sandbox",
            ],
            body: ResponseBody(contentLength: file.count) { writer in
                for start in stride(from: 0, to: file.count, by: Self.piece) {
                    let piece = file.withUnsafeBytes { bytes in
                        ByteBuffer(bytes: bytes[start..<min(start + Self.piece, bytes.count)])
                    }
                    try await writer.write(piece)
                }
                withExtendedLifetime(share) {}
                try await writer.finish(nil)
            })
    }

    /// Bytes of a file that are written at a time.
    private static let piece = 64 << 10

    private func warm(_ request: Request, _ context: GatewayContext) async throws -> Response {
        let digest = try Self.digest(context)
        let body = try await bodies.bytes(of: request, atMost: 65_536, what: "the body")
        var model: String?
        if !body.allSatisfy({ $0 == 0x20 || $0 == 0x0A || $0 == 0x0D || $0 == 0x09 }) {
            let asked = try SegmentRequest(parsing: body)
            if let stranger = asked.members.first {
                throw Problem(
                    .badRequest, "bad-job-line", "there is no field \(Quotation.of(stranger.name)); there is model",
                    field: stranger.name)
            }
            model = asked.model
        }
        let name =
            try JSONText(JSONValue.object([("sha256", .string(digest.hexadecimal))]).bytes)
            ?? { throw Problem.unknownImage(digest.hexadecimal) }()
        let outcome = try await service.answer(
            SegmentRequest(members: [("image", name)], model: model), manner: .init(isAsynchronous: true),
            context: context)
        guard case .open(let reference, let state, let job) = outcome else {
            throw Problem.unknownImage(digest.hexadecimal)
        }
        var answer: [JSONValue.Member] = [
            ("sha256", .string(digest.hexadecimal)), ("model", .string(job.job.model.text)),
            ("state", .string(state == .done ? "ready" : "encoding")),
        ]
        if state != .done { answer.append(("job", .string(reference.id))) }
        return Replies.json(
            .object(answer), status: state == .done ? .ok : .accepted,
            headers: state == .done ? [:] : [.location: "/v1/jobs/\(Replies.escaped(reference.id))"])
    }

    // MARK: Prompts

    private func segment(
        _ request: Request, _ context: GatewayContext, isEverything: Bool
    ) async throws -> Response {
        let preferences = Preferences(request)
        let (view, index, isCropped) = (try Self.view(request), try Self.index(request), try Self.isCropped(request))
        var asked: SegmentRequest
        var image: UploadedImage?
        if request.headers[.contentType]?.lowercased().hasPrefix("multipart/") ?? false {
            try context.caller.require(.submit)
            let (picture, job) = try await service.serving(context.caller).uploads.take(request)
            asked = try SegmentRequest(parsing: job ?? Array("{}".utf8))
            image = picture
        } else {
            asked = try SegmentRequest(
                parsing: try await bodies.bytes(of: request, atMost: bodyLimit, what: "the body"))
        }
        if isEverything, !asked.members.contains(where: { $0.name == "everything" }),
            let isTrue = JSONText(Array("true".utf8))
        {
            asked.members.append(("everything", isTrue))
        }
        let outcome = try await service.answer(
            asked, image: image,
            manner: .init(isAsynchronous: preferences.isAsynchronous, wait: preferences.wait ?? .seconds(60)),
            context: context)
        switch outcome {
        case .open(let reference, let state, let job):
            return Replies.accepted(reference, state, job, isAsked: preferences.isAsynchronous)
        case .done(let reference, let result, let time):
            if let view {
                let png = try await pictures.png(
                    of: result, image: nil, view: view, index: index, isCropped: isCropped)
                return Replies.bytes(
                    png, type: "image/png",
                    headers: [.contentLocation: "/v1/jobs/\(Replies.escaped(reference.id))", .cacheControl: "no-store"])
            }
            let keepsLogits = !asked.refines
            return Replies.json(
                try await Elsewhere.run(for: result.count) {
                    try Replies.answer(reference, result, keepingLogits: keepsLogits)
                },
                // https://www.w3.org/TR/server-timing/: what of the time was the cluster's.
                headers: [.serverTiming: "cluster;dur=\((time / .microseconds(1)).rounded() / 1000)"])
        }
    }

    /// What is to be drawn; nil where JSON is asked for.
    static func view(_ request: Request) throws -> AnswerPictures.View? {
        if let name = try request.query("view") {
            guard let view = AnswerPictures.View(rawValue: name) else {
                throw Problem(.badRequest, "bad-query", "view: mask, cutout or overlay is expected", field: "view")
            }
            return view
        }
        guard request.prefers("image/png") else { return nil }
        // `Accept: image/png; view=cutout` says it, too.
        let accept = request.headers[.accept]?.lowercased().filter { $0 != " " } ?? ""
        return AnswerPictures.View.allCases.first { accept.contains("image/png;view=\($0.rawValue)") } ?? .mask
    }

    /// Which mask; nil where the best is meant.
    static func index(_ request: Request) throws -> Int? {
        guard let text = try request.query("index") else { return nil }
        guard let index = Int(text), index >= 0 else {
            throw Problem(.badRequest, "bad-query", "index: a whole number from 0 is expected", field: "index")
        }
        return index
    }

    /// Whether of a cut-out only its box is wanted.
    static func isCropped(_ request: Request) throws -> Bool {
        switch try request.query("crop") {
        case nil, "0": false
        case "1": true
        default: throw Problem(.badRequest, "bad-query", "crop: 0 or 1 is expected", field: "crop")
        }
    }

    static func digest(_ context: GatewayContext) throws -> ImageDigest {
        let text = context.parameters.get("sha256") ?? ""
        guard let digest = ImageDigest(text) else {
            throw Problem(
                .badRequest, "bad-digest", "the picture's name is its SHA-256: 64 hexadecimal digits", field: "sha256")
        }
        return digest
    }
}

/// What a picture file is, by its first bytes.
enum PictureType {
    static func of(_ bytes: UnsafeRawBufferPointer) -> String {
        if bytes.starts(with: [0xFF, 0xD8]) { return "image/jpeg" }
        if bytes.starts(with: [0x89, 0x50, 0x4E, 0x47]) { return "image/png" }
        if bytes.starts(with: [0x52, 0x49, 0x46, 0x46]) { return "image/webp" }
        if bytes.starts(with: [0x49, 0x49]) || bytes.starts(with: [0x4D, 0x4D]) { return "image/tiff" }
        return "application/octet-stream"
    }
}

extension HTTPField.Name {
    /// `Server-Timing`.
    static let serverTiming = HTTPField.Name("Server-Timing") ?? .server
    /// `Content-Security-Policy`.
    static let contentSecurityPolicy = HTTPField.Name("Content-Security-Policy") ?? .server
}

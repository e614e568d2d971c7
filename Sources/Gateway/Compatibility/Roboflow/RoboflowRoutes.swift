import Cluster
import Embeddings
import HTTPTypes
import Hummingbird
import JSON
import NIOCore
import Redis
import Segmentation

/// The routes of Roboflow's inference server for Segment Anything, as `inference-sdk` and its users' scripts ask for them.
///
/// ```text
/// base64 -w0 photo.jpg | jq -Rc '{format:"rle",image:{type:"base64",value:.},prompts:[{points:[{x:512,y:400}]}]}' |
///   curl -s http://127.0.0.1:8080/sam2/segment_image -H 'Content-Type: application/json' -d @-
/// ```
/// What differs from that server: a picture's id is a name of the client that has the key, and leads to the picture that this
/// client sent last under it; without prompts the answer is the mask of a box around the whole picture; `masks` of SAM 2's
/// binary form holds the sign of the logits as int8.
struct RoboflowRoutes: Sendable {
    /// For so long a client's own name for a picture holds after its last use.
    private static let aliasTime: Duration = .seconds(24 * 3600)

    let desk: ClientDesk
    /// What tells this gateway from others.
    let instance: String

    /// Paths of which the key may stand in the body.
    static let paths: Set<String> = [
        "/sam/embed_image", "/sam/segment_image", "/sam2/embed_image", "/sam2/segment_image", "/sam3/embed_image",
        "/sam3/visual_segment", "/sam3/concept_segment", "/model/registry", "/model/add", "/model/remove",
        "/model/clear",
    ]

    func add(to routes: RouteTable) {
        on("/sam/embed_image", routes) { try await embedding($0, $1, $2) }
        on("/sam/segment_image", routes) { try await segmentOne($0, $1, $2) }
        for version in ["sam2", "sam3"] {
            on("/\(version)/embed_image", routes) { try await embed($0, $1, $2) }
        }
        for path in ["/sam2/segment_image", "/sam3/visual_segment"] {
            on(path, routes) { try await segment($0, $1, $2) }
        }
        on("/sam3/concept_segment", routes) { try await conceptSegment($0, $1, $2) }
        for path in ["/model/add", "/model/remove", "/model/clear"] {
            on(path, routes) { try await registry($0, $1, $2) }
        }
        routes.on("/model/registry", [.get: shaping { try await registry(.object([]), $0, $1) }])
        routes.on("/readiness", [.get: ready])
        routes.on(
            "/info",
            [
                .get: { _, _ in
                    Replies.json(
                        .object([("name", "Kirie"), ("version", "1"), ("uuid", .string(instance))]))
                }
            ])
    }

    private func on(
        _ path: String, _ routes: RouteTable,
        _ handler: @escaping @Sendable (JSONValue, Request, GatewayContext) async throws -> Response
    ) {
        routes.on(
            path,
            [
                .post: shaping { request, context in
                    let (body, context) = try await desk.body(of: request, context)
                    return try await handler(body, request, context)
                }
            ])
    }

    /// Errors as that server has them: `{"message":…}`, and 400 for all that is wrong with a request.
    private func shaping(_ handler: @escaping RouteTable.Handler) -> RouteTable.Handler {
        CompatibilityRoutes.shaping(
            statuses: [422: .badRequest, 404: .badRequest],
            { .object([("message", .string($0.detail)), ("error_type", .string($0.code))]) }, handler)
    }

    // MARK: Pictures

    /// The picture of a request, which a client may name by an id of its own.
    private func picture(
        _ asked: RoboflowRequest, _ context: GatewayContext
    ) async throws -> (digest: ImageDigest, uploaded: UploadedImage?) {
        try context.caller.require(.submit)
        let desk = desk.serving(context)
        let broker = desk.service.broker
        let aliases = ImageAliases(broker.redis, namespace: broker.keys.namespace)
        let tenant = context.caller.space
        switch asked.picture {
        case .base64, .address:
            let image =
                switch asked.picture {
                case .base64(let text): try await desk.store(base64: text, field: "image.value")
                case .address(let address): try await desk.fetched(address, field: "image")
                case .absent: throw RoboflowRequest.fault("image", "a picture is needed")
                }
            if let name = asked.imageIdentifier {
                try await aliases.set(name, tenant: tenant, to: image.digest, timeToLive: Self.aliasTime)
            }
            return (image.digest, image)
        case .absent:
            guard let name = asked.imageIdentifier else {
                throw RoboflowRequest.fault("image", "a picture is needed, or the image_id of one that was sent before")
            }
            if let digest = try await aliases.image(name, tenant: tenant) {
                try await aliases.set(name, tenant: tenant, to: digest, timeToLive: Self.aliasTime)
                return (digest, desk.service.uploads.sizes[digest])
            }
            // A picture that was sent without an id has its content's, which is what it was answered.
            guard let digest = ImageDigest(name) else {
                throw RoboflowRequest.fault(
                    "image_id", "no picture is known by this name, or no longer: send it once more, with its name")
            }
            return (digest, desk.service.uploads.sizes[digest])
        }
    }

    // MARK: Embeddings

    /// `/sam/embed_image`: the numbers themselves.
    private func embedding(
        _ body: JSONValue, _ request: Request, _ context: GatewayContext
    ) async throws -> Response {
        let start = ContinuousClock.now
        let asked = try RoboflowRequest(body)
        let image = try await picture(asked, context)
        let (record, model) = try await desk.embedding(
            of: image.digest, picture: image.uploaded, model: try await desk.models.name(like: asked.models), context)
        let array = try await desk.computing { try EmbeddingArray(record) }
        let headers = Self.headers(model, since: start)
        if asked.format == .binary {
            return Replies.bytes(array.file, type: "application/octet-stream", headers: headers)
        }
        let end = JSONValue.object([("time", Self.seconds(since: start)), ("model", .string(model))]).bytes.dropFirst()
        // A million numbers are 20 MB of text: written channel by channel.
        let body = ResponseBody { writer in
            for channel in 0..<array.shape[1] {
                var piece = ByteBuffer(string: channel == 0 ? #"{"embeddings":[["# : ",")
                piece.writeBytes(array.text(channel: channel))
                try await writer.write(piece)
            }
            try await writer.write(ByteBuffer(bytes: Array("]],".utf8) + end + [0x0A]))
            try await writer.finish(nil)
        }
        var response = Response(status: .ok, headers: headers, body: body)
        response.headers[.contentType] = "application/json"
        return response
    }

    /// `/sam2/embed_image` and `/sam3/embed_image`: it is there, and this is how to name it.
    private func embed(_ body: JSONValue, _ request: Request, _ context: GatewayContext) async throws -> Response {
        let start = ContinuousClock.now
        let asked = try RoboflowRequest(body)
        let image = try await picture(asked, context)
        let (_, model) = try await desk.embedding(
            of: image.digest, picture: image.uploaded, model: try await desk.models.name(like: asked.models), context)
        return Replies.json(
            .object([
                ("image_id", .string(asked.imageIdentifier ?? image.digest.hexadecimal)),
                ("time", Self.seconds(since: start)), ("model", .string(model)),
            ]), headers: Self.headers(model, since: start))
    }

    // MARK: Masks

    /// `/sam/segment_image`: one prompt, one mask.
    private func segmentOne(
        _ body: JSONValue, _ request: Request, _ context: GatewayContext
    ) async throws -> Response {
        let start = ContinuousClock.now
        let asked = try RoboflowRequest(body)
        if asked.imageIdentifier == nil, case .absent = asked.picture, body.given("embeddings") != nil {
            throw RoboflowRequest.fault(
                "embeddings",
                "embeddings stay in the cluster here: send the picture, or the image_id that it was embedded under")
        }
        let image = try await picture(asked, context)
        var prompt = ClientQuestion.Prompt(points: try RoboflowRequest.points(body))
        let refines = try RoboflowRequest.flag(body, "has_mask_input", or: false)
        let model = try await desk.models.name(like: asked.models)
        if refines, let prior = try RoboflowRequest.prior(body) {
            prompt.mask = try await logits(prior, of: image, model: model, context)
        }
        var question = ClientQuestion(
            image: image.digest, picture: image.uploaded, prompts: [prompt.isEmpty ? .everything : prompt],
            wantsLogits: true, model: model)
        let memory = try await Memory(desk, question, context)
        if refines, prompt.mask == nil, try RoboflowRequest.flag(body, "use_mask_input_cache", or: true) {
            question.earlierMasks[0] = try await memory.entries().first?.mask
        }
        let (job, answer) = try await masks(question, context)
        guard let cutout = answer.masks.first else {
            throw Problem(.internalServerError, "no-masks", "the answer has no mask")
        }
        try await memory.remember(question.prompts, job, answer)
        let headers = Self.headers(answer.model, since: start)
        let time = Self.seconds(since: start)
        if asked.format == .binary {
            let file = try await desk.computing { try RoboflowAnswers.archive(of: [cutout], .bool) }
            return Replies.bytes(file, type: "application/octet-stream", headers: headers)
        }
        let text = try await desk.computing {
            let small = RoboflowAnswers.mask(of: try RoboflowAnswers.logits(of: cutout))
            let isRuns = asked.format == .rle
            return JSONValue.object([
                (
                    "masks",
                    .array([
                        isRuns
                            ? try RoboflowAnswers.runLengths(cutout)
                            : RoboflowAnswers.longestOutline(try cutout.levels())
                    ])
                ), ("low_res_masks", .array([RoboflowAnswers.longestOutline(small)])), ("time", time),
                ("model", .string(answer.model)), ("confidence", .number(Double(cutout.score))),
            ]).line
        }
        return Replies.json(text, headers: headers)
    }

    /// A mask as the model takes it; one of outlines is drawn in the frame that the model has.
    private func logits(
        _ prior: RoboflowRequest.Prior, of image: (digest: ImageDigest, uploaded: UploadedImage?), model: String?,
        _ context: GatewayContext
    ) async throws -> LowResolutionLogits {
        if case .logits(let logits) = prior { return logits }
        let (record, _) = try await desk.embedding(
            of: image.digest, picture: image.uploaded, model: model, context)
        return try await desk.computing {
            // Four times the embedding's grid.
            let array = try EmbeddingArray(record)
            return prior.logits(side: 4 * max(array.shape[2], array.shape[3]))
        }
    }

    /// `/sam2/segment_image` and `/sam3/visual_segment`: for each prompt the best mask.
    private func segment(_ body: JSONValue, _ request: Request, _ context: GatewayContext) async throws -> Response {
        let start = ContinuousClock.now
        let asked = try RoboflowRequest(body)
        let prompts = try RoboflowRequest.prompts(body.given("prompts"))
        let saves = try RoboflowRequest.flag(body, "save_logits_to_cache", or: false)
        let loads = try RoboflowRequest.flag(body, "load_logits_from_cache", or: false)
        let image = try await picture(asked, context)
        var question = ClientQuestion(
            image: image.digest, picture: image.uploaded, prompts: prompts,
            wantsThree: try RoboflowRequest.flag(body, "multimask_output", or: true),
            wantsLogits: saves || asked.format == .binary, model: try await desk.models.name(like: asked.models))
        let memory = try await Memory(desk, question, context)
        if loads {
            let entries = try await memory.entries()
            for (index, prompt) in prompts.enumerated() {
                question.earlierMasks[index] = EarlierPrompts.mask(for: prompt, among: entries)
            }
        }
        let (job, answer) = try await masks(question, context)
        if saves { try await memory.remember(prompts, job, answer) }
        let best = try prompts.indices.map { prompt in
            guard let rank = answer.best(of: prompt) else {
                throw Problem(.internalServerError, "no-masks", "the answer has no mask of prompts[\(prompt)]")
            }
            return answer.masks[rank]
        }
        let headers = Self.headers(answer.model, since: start)
        let time = Self.seconds(since: start)
        if asked.format == .binary {
            let file = try await desk.computing { try RoboflowAnswers.archive(of: best, .int8) }
            return Replies.bytes(file, type: "application/octet-stream", headers: headers)
        }
        let text = try await desk.computing {
            JSONValue.object([
                (
                    "predictions",
                    .array(
                        try best.map { cutout in
                            let isRuns = asked.format == .rle
                            return .object([
                                (
                                    "masks",
                                    isRuns
                                        ? try RoboflowAnswers.runLengths(cutout)
                                        : RoboflowAnswers.outlines(try cutout.levels())
                                ), ("confidence", .number(Double(cutout.score))),
                                ("format", isRuns ? "rle" : "polygon"),
                            ])
                        })
                ), ("time", time), ("model", .string(answer.model)),
            ]).line
        }
        return Replies.json(text, headers: headers)
    }

    /// `/sam3/concept_segment`: for each text all that it means.
    private func conceptSegment(
        _ body: JSONValue, _ request: Request, _ context: GatewayContext
    ) async throws -> Response {
        let start = ContinuousClock.now
        let asked = try RoboflowRequest(body)
        let concepts = try RoboflowRequest.concepts(body)
        let image = try await picture(asked, context)
        var question = ClientQuestion(
            image: image.digest, picture: image.uploaded, prompts: concepts.map(\.prompt),
            model: try await desk.models.name(like: asked.models))
        question.wantsAllInstances = true
        let (_, answer) = try await masks(question, context)
        let headers = Self.headers(answer.model, since: start)
        let time = Self.seconds(since: start)
        let isRuns = asked.format == .rle
        let text = try await desk.computing {
            let results = try concepts.enumerated().map { index, concept -> JSONValue in
                let found = answer.masks.filter {
                    $0.prompt == index && Double($0.similarity ?? 0) >= concept.threshold
                }
                return .object([
                    ("prompt_index", .integer(index)),
                    (
                        "echo",
                        .object([
                            ("prompt_index", .integer(index)), ("type", "text"),
                            ("text", .string(concept.prompt.text ?? "")), ("num_boxes", .integer(0)),
                        ])
                    ),
                    (
                        "predictions",
                        .array(
                            try found.map { cutout in
                                .object([
                                    (
                                        "masks",
                                        isRuns
                                            ? try RoboflowAnswers.runLengths(cutout)
                                            : RoboflowAnswers.outlines(try cutout.levels())
                                    ), ("confidence", .number(Double(cutout.similarity ?? 0))),
                                    ("format", isRuns ? "rle" : "polygon"),
                                ])
                            })
                    ),
                ])
            }
            return JSONValue.object([
                ("prompt_results", .array(results)), ("time", time), ("model", .string(answer.model)),
            ]).line
        }
        return Replies.json(text, headers: headers)
    }

    /// Masks; what an earlier answer was to bring and no longer does is left out.
    private func masks(
        _ question: ClientQuestion, _ context: GatewayContext
    ) async throws -> (job: String, answer: Answer) {
        do { return try await desk.masks(question, context) } catch let problem as Problem
            where problem.code == "no-such-mask"
        {
            var question = question
            question.earlierMasks = [:]
            return try await desk.masks(question, context)
        }
    }

    // MARK: The server

    /// What is served; models come and go with workers, not by request.
    private func registry(_ body: JSONValue, _ request: Request, _ context: GatewayContext) async throws -> Response {
        let context = context.caller.scopes.isEmpty ? try desk.admit(request, body: body, context) : context
        try context.caller.require(.read)
        return Replies.json(
            .object([
                (
                    "models",
                    .array(
                        try await desk.models.models().map { model in
                            .object([
                                ("model_id", .string(model.name)), ("task_type", "instance-segmentation"),
                                ("batch_size", 1), ("input_height", .null), ("input_width", .null),
                            ])
                        })
                )
            ]))
    }

    private func ready(_ request: Request, _ context: GatewayContext) async throws -> Response {
        do {
            _ = try await desk.service.broker.redis.time()
            return Replies.json(.object([("status", "ready")]))
        } catch {
            return Replies.json(.object([("status", "not ready")]), status: .serviceUnavailable)
        }
    }

    private static func seconds(since start: ContinuousClock.Instant) -> JSONValue {
        .number(((ContinuousClock.now - start) / .microseconds(1)).rounded() / 1e6)
    }

    private static func headers(_ model: String, since start: ContinuousClock.Instant) -> HTTPFields {
        [.modelIdentifier: model, .processingTime: "\((ContinuousClock.now - start) / .seconds(1))"]
    }
}

/// What one client asked of one picture before.
private struct Memory: Sendable {
    private let prompts: EarlierPrompts
    private let tenant: String
    private let image: ImageDigest
    private let model: ModelIdentifier

    init(_ desk: ClientDesk, _ question: ClientQuestion, _ context: GatewayContext) async throws {
        let broker = desk.service.broker
        prompts = EarlierPrompts(redis: broker.redis, namespace: broker.keys.namespace)
        tenant = context.caller.space
        image = question.image
        model = try await desk.service.models.model(question.model, needsWorkers: false)
    }

    func entries() async throws -> [EarlierPrompts.Entry] {
        try await prompts.entries(tenant: tenant, image: image, model: model)
    }

    func remember(_ asked: [ClientQuestion.Prompt], _ job: String, _ answer: Answer) async throws {
        let entries = asked.enumerated().compactMap { index, prompt in
            answer.best(of: index).map { rank in
                EarlierPrompts.Entry(prompt: prompt, mask: .init(job: job, index: rank))
            }
        }
        try await prompts.remember(entries, tenant: tenant, image: image, model: model)
    }
}

extension Answer {
    /// Which of the masks is a prompt's best.
    func best(of prompt: Int) -> Int? {
        masks.indices.filter { masks[$0].prompt == prompt }.max { masks[$0].score < masks[$1].score }
    }
}

import HTTPTypes
import Hummingbird
import JSON
import Logging
import Segmentation

/// The routes of a machine-learning backend of Label Studio.
///
/// ```text
/// sha=$(curl -s --data-binary @photo.jpg -H 'Content-Type: image/jpeg' http://127.0.0.1:8080/v1/images | jq -r .sha256)
/// jq -nc --arg image "kirie:$sha" '{tasks:[{data:{image:$image}}],label_config:"<View>…</View>",params:{context:{result:[
///     {type:"keypointlabels",is_positive:true,original_width:1024,original_height:768,value:{x:50,y:52}}]}}}' |
///   curl -s http://127.0.0.1:8080/predict -H 'Content-Type: application/json' -d @-
/// ```
/// A task without anything drawn on it is one that somebody has just opened: its picture is encoded ahead of the first click,
/// and so are those of the tasks that come with it.
struct LabelStudioRoutes: Sendable {
    /// Tasks on each side of the current one whose pictures are encoded ahead.
    private static let window = 4
    private static let widestWindow = 64

    let desk: ClientDesk
    let images: LabelStudioImages

    /// Paths of which the key may be a password of HTTP's basic authentication.
    static let paths: Set<String> = ["/setup", "/predict", "/webhook"]

    func add(to routes: RouteTable) {
        routes.on("/health", [.get: { _, _ in Replies.json(.object([("status", "UP"), ("model_class", "Kirie")])) }])
        on("/setup", routes) { try await setup($0, $1) }
        on("/predict", routes) { try await predict($0, $1) }
        on("/webhook", routes) { body, _ in
            // Nothing is trained here, and nothing is kept of a project.
            let known = ["ANNOTATION_CREATED", "ANNOTATION_UPDATED", "ANNOTATION_DELETED", "START_TRAINING"]
            let isKnown = known.contains(body["action"]?.string ?? "")
            return isKnown
                ? Replies.json(.object([("result", .object([])), ("status", "ok")]), status: .created)
                : Replies.json(.object([("status", "Unknown event")]))
        }
    }

    /// Errors as that backend has them.
    private func on(
        _ path: String, _ routes: RouteTable,
        _ handler: @escaping @Sendable (JSONValue, GatewayContext) async throws -> Response
    ) {
        routes.on(
            path,
            [
                .post: CompatibilityRoutes.shaping({
                    .object([
                        ("status", .integer(Int($0.status.code))), ("detail", .string($0.detail)),
                        ("code", .string($0.code)),
                    ])
                }) { request, context in
                    // Who has no key is told before the body is read: none stands in it.
                    let context = try desk.admit(request, body: nil, context)
                    try context.caller.require(.submit)
                    return try await handler(try await desk.body(of: request), context)
                }
            ])
    }

    private func setup(_ body: JSONValue, _ context: GatewayContext) async throws -> Response {
        if let schema = body.given("schema")?.string { _ = try LabelConfiguration(schema) }
        return Replies.json(.object([("model_version", .string(try await modelName()))]))
    }

    /// The model that is usual here; the gateway itself where no worker is there yet, as that is no reason not to be connected.
    private func modelName() async throws -> String { try await desk.models.models().first?.name ?? "kirie" }

    // MARK: Predictions

    private func predict(_ body: JSONValue, _ context: GatewayContext) async throws -> Response {
        let tasks = body.given("tasks")?.elements ?? []
        let situation = body.given("params")?.given("context") ?? body.given("context") ?? .object([])
        let event = situation.given("event")?.string
        let configuration = try (body.given("label_config")?.string).map { try LabelConfiguration($0) }
        if event == "capabilities" { return try await capabilities(configuration) }
        guard let task = tasks.first else { return Replies.json(.object([("results", .array([]))])) }
        guard let configuration, let image = configuration.image else {
            throw LabelStudioPrompts.fault("label_config", "a labelling interface with an Image is expected")
        }
        if event == "prewarm" { return try await prewarm(tasks, situation, configuration, context) }
        let prompts = try LabelStudioPrompts(situation.given("result")?.elements ?? [])
        // Those around the current one are encoded while the answer is made.
        async let neighbours: Void = warm(tasks.dropFirst().prefix(2 * Self.window), image.key, context)
        let response: Response
        if prompts.prompts.isEmpty {
            _ = await warmed(task, image.key, context)
            response = Replies.json(.object([("results", .array([]))]))
        } else {
            response = try await masks(
                of: task, prompts, situation, configuration, image, isInteractive: event != nil, context)
        }
        await neighbours
        return response
    }

    private func masks(
        of task: JSONValue, _ prompts: LabelStudioPrompts, _ situation: JSONValue,
        _ configuration: LabelConfiguration, _ image: (name: String, key: String), isInteractive: Bool,
        _ context: GatewayContext
    ) async throws -> Response {
        let kinds = isInteractive ? LabelStudioResults.interactiveKinds : LabelStudioResults.kinds
        guard let control = configuration.control(kinds, for: image.name) else {
            throw LabelStudioPrompts.fault(
                "label_config",
                "one of \(LabelStudioResults.kinds.joined(separator: ", ")) for \(image.name) is expected")
        }
        var results = LabelStudioResults(
            control: control, image: image.name, label: prompts.label, isInteractive: isInteractive)
        results.tolerance = try Self.number(situation, "tolerance", 0...1000) ?? LabelStudioResults.tolerance
        results.mostPoints =
            try Self.number(situation, "max_points", 4...100_000).map { Int($0) } ?? LabelStudioResults.mostPoints
        let picture = try await images.picture(try Self.name(of: task, image.key), context)
        let size = try Self.size(of: picture.uploaded, situation)
        let question = ClientQuestion(
            image: picture.digest, picture: picture.uploaded,
            prompts: prompts.scaled(width: size.width, height: size.height), wantsThree: true)
        let (_, answer) = try await desk.masks(question, context)
        let best = question.prompts.indices.compactMap { answer.best(of: $0) }.map { answer.masks[$0] }
        let finished = results
        let regions = try await desk.computing {
            try best.flatMap { try finished.regions(of: $0, model: answer.model) }
        }
        let score = best.isEmpty ? 0 : best.reduce(0) { $0 + Double($1.score) } / Double(best.count)
        return Replies.json(
            .object([
                (
                    "results",
                    .array([
                        .object([
                            ("result", .array(regions)), ("model_version", .string(answer.model)),
                            ("score", .number(score)),
                        ])
                    ])
                )
            ]))
    }

    // MARK: Ahead of time

    /// What this backend can do, for frontends that bind it by themselves.
    private func capabilities(_ configuration: LabelConfiguration?) async throws -> Response {
        let targets = [
            ("BrushLabels", "rle"), ("BitmaskLabels", "mask"), ("RectangleLabels", "bbox"),
            ("PolygonLabels", "polygon"),
            ("VectorLabels", "polygon"),
        ]
        let name = try await modelName()
        return Self.result(
            "capabilities",
            .object([
                ("prompts", .array(["point", "box"])),
                (
                    "targets",
                    .array(targets.map { .object([("tag", .string($0.0)), ("output", .string($0.1))]) })
                ), ("model_info", .object([("name", .string(name)), ("version", .string(name))])),
            ]), configuration)
    }

    /// Encodes the pictures around the current task: `frame` says which of the tasks that is, `window` how many beside it.
    private func prewarm(
        _ tasks: [JSONValue], _ situation: JSONValue, _ configuration: LabelConfiguration, _ context: GatewayContext
    ) async throws -> Response {
        let count = tasks.count
        // A picture is one frame: whatever frame is named, it is the only one.
        let current = min(max(0, Int(try Self.number(situation, "frame", 0...1e9) ?? 0)), count - 1)
        let window = min(Int(try Self.number(situation, "window", 0...1e9) ?? Double(Self.window)), Self.widestWindow)
        let (before, after) =
            switch situation.given("direction")?.string ?? "forward" {
            case "backward": (window, 0)
            case "both": (window, window)
            default: (0, window)
            }
        var cached: [JSONValue] = []
        var pending: [JSONValue] = []
        for index in max(0, current - before)...min(count - 1, current + after) {
            let isThere = await warmed(tasks[index], configuration.image?.key ?? "image", context)
            if isThere { cached.append(.integer(index)) } else { pending.append(.integer(index)) }
        }
        return Self.result(
            "prewarm_ack",
            .object([
                ("status", "ok"), ("cached", .array(cached)), ("pending", .array(pending)),
                ("frame_count", .integer(count)),
            ]), configuration)
    }

    private func warm(_ tasks: some Sequence<JSONValue> & Sendable, _ key: String, _ context: GatewayContext) async {
        for task in tasks { _ = await warmed(task, key, context) }
    }

    /// Asks for the embedding of a task's picture; returns whether it is there.
    ///
    /// A picture that cannot be had is no fault yet: nobody asked anything of it.
    private func warmed(_ task: JSONValue, _ key: String, _ context: GatewayContext) async -> Bool {
        do {
            let picture = try await images.picture(try Self.name(of: task, key), context)
            return try await desk.warm(picture.digest, picture: picture.uploaded, context)
        } catch {
            desk.logger.debug("a task's picture was not encoded ahead", metadata: ["error": "\(error)"])
            return false
        }
    }

    // MARK: Fields

    private static func result(
        _ type: String, _ value: JSONValue, _ configuration: LabelConfiguration?
    ) -> Response {
        let image = configuration?.image?.name
        let control = image.flatMap { configuration?.control(LabelStudioResults.interactiveKinds, for: $0) }
        return Replies.json(
            .object([
                (
                    "results",
                    .array([
                        .object([
                            (
                                "result",
                                .array([
                                    .object([
                                        ("id", .string(LabelStudioResults.identifier())), ("type", .string(type)),
                                        ("from_name", .string(control?.attributes["name"] ?? "")),
                                        ("to_name", .string(image ?? "")), ("origin", "manual"), ("value", value),
                                    ])
                                ])
                            )
                        ])
                    ])
                )
            ]))
    }

    /// How a task names its picture.
    private static func name(of task: JSONValue, _ key: String) throws(Problem) -> String {
        guard let data = task.given("data") else {
            throw LabelStudioPrompts.fault("tasks[0].data", "an object with \(key) is expected")
        }
        guard let name = data.given(key)?.string else {
            throw LabelStudioPrompts.fault(
                "tasks[0].data.\(key)", "the picture is expected: a data URI, a path or kirie:SHA256")
        }
        return name
    }

    /// The picture's size: its own where it is known, else as whoever drew on it saw it.
    private static func size(
        of picture: UploadedImage?, _ situation: JSONValue
    ) throws(Problem) -> (width: Int, height: Int) {
        if let picture { return (picture.width, picture.height) }
        for region in situation.given("result")?.elements ?? [] {
            if let width = region["original_width"]?.integer, let height = region["original_height"]?.integer,
                (1...1_000_000).contains(width), (1...1_000_000).contains(height)
            {
                return (width, height)
            }
        }
        throw LabelStudioPrompts.fault("context.result[0]", "original_width and original_height are expected")
    }

    private static func number(
        _ value: JSONValue, _ name: String, _ range: ClosedRange<Double>
    ) throws(Problem) -> Double? {
        guard let number = value.given(name) else { return nil }
        guard let number = number.double, range.contains(number) else {
            throw LabelStudioPrompts.fault(
                "context.\(name)", "a number from \(range.lowerBound) to \(range.upperBound) is expected")
        }
        return number
    }
}

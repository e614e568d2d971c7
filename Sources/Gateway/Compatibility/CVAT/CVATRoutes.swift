import FoundationEssentials
import HTTPTypes
import Hummingbird
import Imaging
import JSON
import NIOCore
import Segmentation

/// CVAT's interactors: the gateway stands where CVAT expects the dashboard of nuclio, which lists functions and calls them.
///
/// ```text
/// base64 -w0 photo.jpg | jq -Rc '{image:.,pos_points:[[512,400]],neg_points:[],obj_bbox:null}' |
///   curl -s http://127.0.0.1:8080/api/function_invocations -H 'x-nuclio-function-name: kirie' -d @-
/// ```
/// There are two functions. `kirie` answers with a mask. `pth-facebookresearch-sam-vit-h`, which CVAT's own plugin for the
/// browser knows by that name, answers with the embedding, which the plugin decodes with its `/assets/decoder.onnx`; it is
/// listed where the weights of that decoder are served, and answered to whoever asks for it.
struct CVATRoutes: Sendable {
    private static let maskFunction = "kirie"
    private static let blobFunction = "pth-facebookresearch-sam-vit-h"
    /// What CVAT's decoder in the browser takes.
    private static let blobShape = [1, 256, 64, 64]

    let desk: ClientDesk

    /// Paths of which the key may be the configured namespace of functions.
    static let paths: Set<String> = ["/api/functions", "/api/function_invocations"]

    /// A function that is called without a name, at its own address.
    var rootHandler: RouteTable.Handler { Self.shaping { try await invoke($0, $1) } }

    func add(to routes: RouteTable) {
        routes.on("/api/functions", [.get: Self.shaping { try await list($0, $1) }])
        routes.on("/api/functions/{name}", [.get: Self.shaping { try await function($0, $1) }])
        routes.on("/api/function_invocations", [.post: Self.shaping { try await invoke($0, $1) }])
    }

    /// Errors as those functions have them.
    private static func shaping(_ handler: @escaping RouteTable.Handler) -> RouteTable.Handler {
        CompatibilityRoutes.shaping({ .object([("error", .string($0.detail)), ("code", .string($0.code))]) }, handler)
    }

    // MARK: Functions

    private func list(_ request: Request, _ context: GatewayContext) async throws -> Response {
        try desk.admit(request, body: nil, context).caller.require(.read)
        return Replies.json(.object(try await functions(context).map { ($0.name, $0.value) }))
    }

    private func function(_ request: Request, _ context: GatewayContext) async throws -> Response {
        let caller = context.caller.scopes.isEmpty ? try desk.admit(request, body: nil, context).caller : context.caller
        try caller.require(.read)
        let name = context.parameters.get("name") ?? ""
        // The one for the browser exists for whoever knows it.
        guard let function = try await functions(context, all: true).first(where: { $0.name == name }) else {
            throw Problem(
                .notFound, "unknown-function", "there is no function of this name: \(Self.maskFunction) is one")
        }
        return Replies.json(function.value)
    }

    private func functions(_ context: GatewayContext, all: Bool = false) async throws -> [JSONValue.Member] {
        let models = try await desk.models.models()
        let usual = models.first?.name ?? "none"
        let port = context.channel.localAddress?.port
        var functions = [
            Self.function(
                Self.maskFunction, title: "Kirie (\(usual))", description: "Segment Anything in this cluster",
                port: port)
        ]
        if all || models.contains(where: { ClientModels.core(of: $0.name) == "vith" }) {
            functions.append(
                Self.function(
                    Self.blobFunction, title: "Segment Anything (decoded in the browser)",
                    description: "The embedding for CVAT's own decoder", port: port))
        }
        return functions
    }

    private static func function(_ name: String, title: String, description: String, port: Int?) -> JSONValue.Member {
        let help = "Click on the object; right-click on what is not the object; or draw a box first"
        return (
            name,
            .object([
                (
                    "metadata",
                    .object([
                        ("name", .string(name)), ("namespace", "cvat"),
                        (
                            "annotations",
                            .object([
                                ("name", .string(title)), ("type", "interactor"), ("framework", "kirie"),
                                ("version", "2"),
                                ("spec", "[]"), ("min_pos_points", "0"), ("min_neg_points", "0"),
                                ("startswith_box_optional", "true"), ("help_message", .string(help)),
                                ("animated_gif", ""),
                            ])
                        ),
                    ])
                ), ("spec", .object([("description", .string(description))])),
                ("status", .object([("state", "ready"), ("httpPort", JSONValue(port))])),
            ])
        )
    }

    // MARK: Calls

    private func invoke(_ request: Request, _ context: GatewayContext) async throws -> Response {
        // Who has no key is told before the body is read: none stands in it.
        let context = try desk.admit(request, body: nil, context)
        try context.caller.require(.submit)
        let name = request.headers[.nuclioFunction] ?? Self.maskFunction
        guard name == Self.maskFunction || name == Self.blobFunction else {
            throw Problem(
                .notFound, "unknown-function", "there is no function of this name: \(Self.maskFunction) is one")
        }
        let body = try await desk.body(of: request)
        let prompt = name == Self.maskFunction ? try CVATPrompt(body).prompt : nil
        guard let text = body.given("image")?.string else {
            throw CVATPrompt.fault("image", "base64 of a picture file is expected")
        }
        let picture = try await desk.serving(context).store(base64: text, field: "image")
        if let prompt { return try await mask(picture, prompt, context) }
        return try await blob(picture, context)
    }

    private func mask(
        _ picture: UploadedImage, _ prompt: ClientQuestion.Prompt, _ context: GatewayContext
    ) async throws -> Response {
        let question = ClientQuestion(image: picture.digest, picture: picture, prompts: [prompt], wantsThree: true)
        let (_, answer) = try await desk.masks(question, context)
        guard let rank = answer.best(of: 0) else {
            throw Problem(.internalServerError, "no-masks", "the answer has no mask")
        }
        let cutout = answer.masks[rank]
        let levels = try await desk.computing { try cutout.levels() }
        let end = JSONValue.object([("score", .number(Double(cutout.score))), ("model", .string(answer.model))]).bytes
        // A number for each pixel: written row by row.
        let body = ResponseBody { writer in
            var piece = ByteBuffer(string: #"{"mask":["#)
            for row in 0..<levels.height {
                if row > 0 { piece.writeInteger(UInt8(ascii: ",")) }
                piece.writeBytes(Self.text(levels, row: row))
                if piece.readableBytes >= 1 << 16 || row == levels.height - 1 {
                    try await writer.write(piece)
                    piece.clear()
                }
            }
            try await writer.write(ByteBuffer(bytes: Array("],".utf8) + end.dropFirst() + [0x0A]))
            try await writer.finish(nil)
        }
        var response = Response(status: .ok, headers: [.modelIdentifier: answer.model], body: body)
        response.headers[.contentType] = "application/json"
        return response
    }

    private static func text(_ levels: GrayImage, row: Int) -> [UInt8] {
        [UInt8](unsafeUninitializedCapacity: 2 * levels.width + 1) { text, count in
            for column in 0..<levels.width {
                text[2 * column] = UInt8(ascii: column == 0 ? "[" : ",")
                text[2 * column + 1] = UInt8(ascii: levels.pixels[row * levels.width + column] == 0 ? "0" : "1")
            }
            text[2 * levels.width] = UInt8(ascii: "]")
            count = 2 * levels.width + 1
        }
    }

    /// `{"blob":…}`: base64 of (1, 256, 64, 64) little-endian 32-bit floats.
    private func blob(_ picture: UploadedImage, _ context: GatewayContext) async throws -> Response {
        let (record, model) = try await desk.embedding(of: picture.digest, picture: picture, model: nil, context)
        let text = try await desk.computing {
            let array = try EmbeddingArray(record)
            guard array.shape == Self.blobShape else {
                throw Problem(
                    .unprocessableContent, "wrong-shape",
                    "the embeddings of \(model) are \(array.shape), and CVAT's decoder takes \(Self.blobShape): use the function "
                        + "\(Self.maskFunction)")
            }
            let blob = Data(NumPyFile.bytes(array.numbers)).base64EncodedString()
            return JSONValue.object([("blob", .string(blob)), ("model", .string(model))]).line
        }
        return Replies.json(text, headers: [.modelIdentifier: model])
    }
}

/// What somebody clicked on in CVAT: `pos_points`, `neg_points` and `obj_bbox`.
struct CVATPrompt: Sendable {
    let prompt: ClientQuestion.Prompt

    init(_ body: JSONValue) throws(Problem) {
        var prompt = ClientQuestion.Prompt()
        for (name, label) in [("pos_points", 1), ("neg_points", 0)] {
            for (x, y) in try Self.points(body.given(name), name) {
                prompt.points.append(.init(x: x, y: y, label: label))
            }
        }
        if let box = body.given("obj_bbox") { prompt.box = try Self.box(box) }
        guard !prompt.isEmpty else { throw Self.fault("pos_points", "at least one point, or obj_bbox, is expected") }
        self.prompt = prompt
    }

    /// Two corners, or four numbers; an empty list is none.
    private static func box(_ value: JSONValue) throws(Problem) -> [Double]? {
        let numbers: [Double]
        if let flat = value.elements?.map(\.double), !flat.contains(nil) {
            numbers = flat.compactMap(\.self)
        } else {
            numbers = try points(value, "obj_bbox").flatMap { [$0.0, $0.1] }
        }
        if numbers.isEmpty { return nil }
        guard numbers.count == 4 else { throw fault("obj_bbox", "[[x0, y0], [x1, y1]] is expected") }
        // Corners come in the order in which they were drawn.
        return [
            min(numbers[0], numbers[2]), min(numbers[1], numbers[3]), max(numbers[0], numbers[2]),
            max(numbers[1], numbers[3]),
        ]
    }

    private static func points(_ value: JSONValue?, _ name: String) throws(Problem) -> [(Double, Double)] {
        guard let value else { return [] }
        guard let elements = value.elements, elements.count <= 4096 else {
            throw fault(name, "a list of [x, y] is expected")
        }
        var points: [(Double, Double)] = []
        for (index, element) in elements.enumerated() {
            guard let pair = element.elements, pair.count == 2, let x = pair[0].double, let y = pair[1].double else {
                throw fault("\(name)[\(index)]", "x and y are expected")
            }
            points.append((x, y))
        }
        return points
    }

    static func fault(_ field: String, _ reason: String) -> Problem {
        Problem(.badRequest, "bad-request", "\(field): \(reason)", field: field)
    }
}

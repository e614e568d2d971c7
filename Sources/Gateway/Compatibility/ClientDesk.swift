import Clients
import Cluster
import Embeddings
import FoundationEssentials
import HTTPTypes
import Hummingbird
import JSON
import Logging
import Platform
import Redis
import Segmentation
import Tensors

/// What the routes of other clients share: who asks, what the body says, and the way from prompts to masks.
struct ClientDesk: Sendable {
    private(set) var service: SegmentService
    let bodies: BodyReader
    /// The largest body of JSON, pictures in base64 among them.
    let bodyLimit: Int
    let access: Access
    let logger: Logger
    let models: ClientModels
    /// For bodies in which the key stands that is asked for: strangers crowd out nobody but strangers.
    private let strangers: BodyReader
    /// For masks, which take milliseconds and more to be written.
    private let threads = ComputeThreads(count: 2)

    init(service: SegmentService, bodies: BodyReader, bodyLimit: Int, access: Access, logger: Logger) {
        self.service = service
        self.bodies = bodies
        self.bodyLimit = bodyLimit
        self.access = access
        self.logger = logger
        models = ClientModels(service.models)
        strangers = BodyReader(budget: ByteBudget(limit: bodyLimit))
    }

    /// The same for whoever asks.
    func serving(_ context: GatewayContext) -> ClientDesk {
        var desk = self
        desk.service = service.serving(context.caller)
        return desk
    }

    // MARK: Requests

    /// The object of JSON in a body, and who sent it; an empty body is an empty object.
    ///
    /// Who has put the key before the body, or none is asked for, is known before it is read.
    func body(
        of request: Request, _ context: GatewayContext
    ) async throws -> (body: JSONValue, context: GatewayContext) {
        if access.keys == nil || key(of: request, body: nil) != nil {
            let context = try admit(request, body: nil, context)
            return (try await body(of: request), context)
        }
        let body = try await body(of: request, by: strangers)
        return (body, try admit(request, body: body, context))
    }

    /// The object of JSON in the body of somebody who is known.
    func body(of request: Request) async throws -> JSONValue { try await body(of: request, by: bodies) }

    private func body(of request: Request, by reader: BodyReader) async throws -> JSONValue {
        let bytes = try await reader.bytes(of: request, atMost: bodyLimit, what: "the body")
        if bytes.isEmpty { return .object([]) }
        let value: JSONValue
        do throws(JSONValue.Fault) { value = try JSONValue(parsing: bytes) } catch {
            throw Problem(.badRequest, "bad-json", "the body is not JSON: \(error.reason) (byte \(error.offset))")
        }
        guard value.members != nil else { throw Problem(.badRequest, "bad-json", "a JSON object is expected") }
        return value
    }

    /// The context of whoever has the key, wherever the client put it: the header (Bearer, Token, or Basic with the key as
    /// the password), the query, the body, or the namespace of functions that CVAT is configured with.
    ///
    /// - Throws: ``Problem`` where a key is asked for and there is none that is known.
    func admit(_ request: Request, body: JSONValue?, _ context: GatewayContext) throws -> GatewayContext {
        var context = context
        context.caller = try access.caller(key(of: request, body: body), from: context.clientAddress)
        return context
    }

    private func key(of request: Request, body: JSONValue?) -> String? {
        AccessMiddleware.key(of: request) ?? Self.password(of: request) ?? AccessMiddleware.queryKey(of: request)
            ?? request.headers[.nuclioNamespace].flatMap { $0.hasPrefix("kirie_") ? $0 : nil }
            ?? body?["api_key"]?.string
    }

    private static func password(of request: Request) -> String? {
        guard let header = request.headers[.authorization] else { return nil }
        let parts = header.split(separator: " ", maxSplits: 1)
        guard parts.count == 2, parts[0].lowercased() == "basic", let data = Data(base64Encoded: String(parts[1])),
            let text = String(validating: data, as: UTF8.self), let colon = text.firstIndex(of: ":")
        else { return nil }
        return String(text[text.index(after: colon)...])
    }

    /// Puts a picture of base64, or of a data URI, into the cluster.
    func store(base64 text: String, field: String) async throws -> UploadedImage {
        let bytes: [UInt8]
        do throws(Base64Text.Fault) { bytes = try Base64Text.decode(text) } catch {
            throw Problem(.badRequest, "bad-base64", "\(field): this is not base64: \(error.reason)", field: field)
        }
        guard bytes.count <= service.uploads.limit else {
            throw Problem(
                .contentTooLarge, "too-large",
                "\(field): the picture has \(bytes.count) bytes; at most \(service.uploads.limit) are taken",
                field: field)
        }
        return try await service.uploads.store(bytes)
    }

    /// A picture of an address, where the gateway was started to fetch them.
    func fetched(_ address: String, field: String) async throws -> UploadedImage {
        guard let fetcher = service.fetcher else {
            throw Problem(
                .unprocessableContent, "no-urls",
                "\(field): this gateway fetches nothing by URL (--fetch-urls lets it): send the picture itself, or post it to "
                    + "/v1/images beforehand",
                field: field)
        }
        return try await fetcher.fetch(address)
    }

    // MARK: Masks

    /// The masks of prompts.
    ///
    /// - Returns: the job, and the cluster's answer.
    /// - Throws: ``Problem``; also where one prompt of several is wrong, because these clients count on an answer for each.
    func masks(_ question: ClientQuestion, _ context: GatewayContext) async throws -> (job: String, answer: Answer) {
        let outcome = try await service.answer(question.request, image: question.picture, context: context)
        guard case .done(let reference, let result, _) = outcome else { throw Self.unfinished }
        let answer: Answer
        do { answer = try JSONDecoder().decode(Answer.self, from: Data(result.array)) } catch {
            throw Problem(.internalServerError, "no-masks", "the answer of the cluster has no masks")
        }
        if let fault = answer.errors?.first {
            throw Problem(.badRequest, "bad-prompt", "prompts[\(fault.prompt)]: \(fault.error)", field: "prompts")
        }
        return (reference.id, answer)
    }

    /// The embedding of a picture, encoded now where it is not there.
    func embedding(
        of image: ImageDigest, picture: UploadedImage?, model: String?, _ context: GatewayContext
    ) async throws -> (record: EmbeddingRecord, model: String) {
        let broker = service.broker
        let cache = RedisEmbeddingCache(
            broker.redis, namespace: broker.keys.namespace, partitions: broker.partitionCount)
        // Between the end of the job and here it may be evicted, though hardly twice.
        for _ in 0..<2 {
            let question = ClientQuestion(image: image, picture: picture, prompts: [], model: model)
            let outcome = try await service.answer(question.request, image: picture, context: context)
            guard case .done = outcome else { throw Self.unfinished }
            let identifier = try await service.models.model(model, needsWorkers: false)
            if let record = try await cache.record(for: EmbeddingKey(image: image, model: identifier)) {
                return (record, try await models.name(of: identifier))
            }
        }
        throw Problem(
            .serviceUnavailable, "no-embedding",
            "embeddings are evicted before they can be read: Redis has little memory",
            retryAfter: .seconds(2))
    }

    /// Asks for a picture's embedding without waiting for it; returns whether it is there.
    func warm(_ image: ImageDigest, picture: UploadedImage?, _ context: GatewayContext) async throws -> Bool {
        let question = ClientQuestion(image: image, picture: picture, prompts: [])
        let outcome = try await service.answer(
            question.request, image: picture, manner: .init(isAsynchronous: true), context: context)
        if case .open(_, let state, _) = outcome { return state == .done }
        return true
    }

    /// Runs what takes its time outside the cooperative pool.
    func computing<Value: Sendable>(_ body: @escaping @Sendable () throws -> Value) async throws -> Value {
        guard let result = await threads.run({ Result { try body() } }) else {
            throw Problem(
                .serviceUnavailable, "shutting-down", "this gateway is shutting down", retryAfter: .seconds(1))
        }
        return try result.get()
    }

    private static var unfinished: Problem {
        Problem(
            .gatewayTimeout, "still-working",
            "the answer takes longer than a minute; the picture is being encoded meanwhile: ask again",
            retryAfter: .seconds(5))
    }
}

/// Prompts on a picture, in the words of the cluster.
struct ClientQuestion: Sendable {
    /// One object.
    struct Prompt: Sendable, Hashable {
        /// A click; labels are SAM's own, see `Segmentation.Prompt`.
        struct Point: Sendable, Hashable {
            var x: Double
            var y: Double
            var label: Int
        }

        var points: [Point] = []
        /// x0, y0, x1, y1.
        var box: [Double]?
        /// Logits of an earlier answer.
        var mask: LowResolutionLogits?
        /// Words that name it.
        var text: String?

        /// A box around any picture, which is clipped to the one that it is asked on: what stands for no prompt at all, of
        /// which Segment Anything's own server makes its decoder's guess.
        static let everything = Prompt(box: [0, 0, 16_777_216, 16_777_216])

        /// Whether nothing would be left of it: points labelled -1 are padding.
        var isEmpty: Bool { box == nil && mask == nil && text == nil && points.allSatisfy { $0.label == -1 } }
    }

    let image: ImageDigest
    /// The picture, where it came with this request.
    var picture: UploadedImage?
    var prompts: [Prompt]
    var wantsThree = false
    /// Whether all that words mean is wanted, not the best alone.
    var wantsAllInstances = false
    /// Whether the masks come with their logits, which later prompts may name.
    var wantsLogits = false
    /// The name of a model that is served; nil for the usual one.
    var model: String?
    /// Masks of earlier answers, by prompt.
    var earlierMasks: [Int: SegmentRequest.EarlierMask] = [:]

    /// The request as `/v1/segment` would read it.
    var request: SegmentRequest {
        var members: [(name: String, value: JSONText)] = []
        func add(_ name: String, _ write: (inout JSONWriter) -> Void) {
            var writer = JSONWriter()
            write(&writer)
            if let text = JSONText(writer.bytes) { members.append((name, text)) }
        }
        add("image") { $0.object { $0.member("sha256") { $0.string(image.hexadecimal) } } }
        if !prompts.isEmpty {
            add("prompts") { $0.array(prompts) { prompt, writer in prompt.write(to: &writer) } }
            add("multimask") { $0.bool(wantsThree) }
            add("logits") { $0.bool(wantsLogits) }
            if wantsAllInstances { add("instances") { $0.string("all") } }
        }
        var request = SegmentRequest(members: members, model: model)
        request.earlierMasks = earlierMasks
        return request
    }
}

extension ClientQuestion.Prompt {
    fileprivate func write(to writer: inout JSONWriter) {
        writer.object { writer in
            if !points.isEmpty {
                writer.member("points") {
                    $0.array(points) { point, writer in
                        writer.array([point.x, point.y]) { number, writer in JSONValue.number(number).write(to: &writer)
                        }
                    }
                }
                writer.member("labels") { $0.array(points) { $1.integer($0.label) } }
            }
            if let box {
                writer.member("box") { $0.array(box) { JSONValue.number($0).write(to: &$1) } }
            }
            if let text { writer.member("text") { $0.string(text) } }
            if let mask {
                writer.member("mask") { writer in
                    writer.object { writer in
                        writer.member("side") { $0.integer(mask.side) }
                        writer.member("logits") { $0.string(mask.base64) }
                    }
                }
            }
        }
    }
}

extension JSONValue {
    /// The truth; nil for anything else.
    var truth: Bool? { if case .bool(let truth) = self { truth } else { nil } }

    /// Whether it is null.
    var isNull: Bool { if case .null = self { true } else { false } }

    /// The member of that name, unless it is null.
    func given(_ name: String) -> JSONValue? { self[name].flatMap { $0.isNull ? nil : $0 } }
}

extension HTTPField.Name {
    /// `x-nuclio-function-namespace`.
    static let nuclioNamespace = HTTPField.Name("x-nuclio-function-namespace") ?? .server
    /// `x-nuclio-function-name`.
    static let nuclioFunction = HTTPField.Name("x-nuclio-function-name") ?? .server
    /// `X-Model-Id`, which Roboflow's client collects.
    static let modelIdentifier = HTTPField.Name("X-Model-Id") ?? .server
    /// `X-Processing-Time`, in seconds.
    static let processingTime = HTTPField.Name("X-Processing-Time") ?? .server
}

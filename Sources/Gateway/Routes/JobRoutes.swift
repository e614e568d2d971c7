import Clients
import Cluster
import Foundation
import HTTPTypes
import Hummingbird
import JSON
import NIOCore
import Redis
import Segmentation

/// `/v1/jobs`.
struct JobRoutes: Sendable {
    let service: SegmentService
    let pictures: AnswerPictures
    let events: EventStream

    func add(to routes: RouteTable) {
        routes.on("/v1/jobs/{id}", [.get: job, .delete: cancel])
        routes.on("/v1/jobs/{id}/events", [.get: jobEvents])
        routes.on("/v1/jobs/{id}/masks/{index}", [.get: mask])
    }

    /// Where a job is.
    ///
    /// An id may have been used for several pictures by whoever chose it; the newest is meant.
    private func status(_ context: GatewayContext) async throws -> JobStatus {
        let id = Self.identifier(context)
        guard JobIdentifier.fault(in: id) == nil else { throw Problem.unknownJob(id) }
        // Ids are each tenant's own: another's are not found.
        let found = try await service.serving(context.caller).broker.find([id])[id] ?? []
        guard let status = found.max(by: { $0.submitted < $1.submitted }) else { throw Problem.unknownJob(id) }
        return status
    }

    private func job(_ request: Request, _ context: GatewayContext) async throws -> Response {
        try context.caller.require(.read)
        let status = try await status(context)
        guard status.state.isTerminal else { return Replies.json(try await open(status)) }
        let tag = Replies.tag(status.reference.id, "\(status.submitted)", "\(status.finished ?? 0)")
        if let response = Replies.notModified(request, tag: tag) { return response }
        var members = JobReports.status(status).members ?? []
        if status.state == .done, let result = try await service.broker.results([status.reference])[0] {
            members.append(
                ("result", .verbatim(try Replies.answer(status.reference, result, keepingLogits: true).dropLast())))
        }
        return Replies.json(.object(members), headers: [.eTag: tag, .cacheControl: Replies.immutable])
    }

    /// A job that has not ended.
    private func open(_ status: JobStatus) async throws -> JSONValue {
        var members = JobReports.status(status).members ?? []
        if let position = try await position(of: status) { members.append(("position", .integer(position))) }
        return .object(members)
    }

    /// About how much of its lane is before a job; nil where it is in work.
    private func position(of status: JobStatus) async throws -> Int? {
        guard status.state != .inWork else { return nil }
        let statistics = try await service.broker.statistics()
        let stage: Stage = status.state == .waitingForEmbedding ? .encode : .decode
        let stream = statistics.stream(stage, status.lane)
        return max(0, stream.queued + stream.delayed)
    }

    private func cancel(_ request: Request, _ context: GatewayContext) async throws -> Response {
        try context.caller.require(.submit)
        let status = try await status(context)
        guard let state = try await service.broker.cancel([status.reference])[0] else {
            throw Problem.unknownJob(status.reference.id)
        }
        return Replies.json(.object([("id", .string(status.reference.id)), ("state", .string(state.rawValue))]))
    }

    private func mask(_ request: Request, _ context: GatewayContext) async throws -> Response {
        try context.caller.require(.read)
        let status = try await status(context)
        guard let text = context.parameters.get("index"), let index = Int(text), index >= 0 else {
            throw Problem(.badRequest, "bad-query", "the number of a mask from 0 is expected", field: "index")
        }
        let view = try SegmentRoutes.view(request) ?? .mask
        let isCropped = try SegmentRoutes.isCropped(request)
        let tag = Replies.tag(
            status.reference.id, "\(status.submitted)", "\(index)", view.rawValue, isCropped ? "crop" : "whole")
        if let response = Replies.notModified(request, tag: tag) { return response }
        guard status.state == .done, let result = try await service.broker.results([status.reference])[0] else {
            throw Problem(
                status.state.isTerminal ? .notFound : .conflict, "no-result",
                "the job is \(status.state.rawValue) and has no result\(status.state.isTerminal ? "" : " yet")")
        }
        let png = try await pictures.png(
            of: result, image: status.image, view: view, index: index, isCropped: isCropped)
        return Replies.bytes(png, type: "image/png", headers: [.eTag: tag, .cacheControl: Replies.immutable])
    }

    private func jobEvents(_ request: Request, _ context: GatewayContext) async throws -> Response {
        try context.caller.require(.read)
        let status = try await status(context)
        let showsMasks = try Self.showsMasks(request)
        return try events.response(context) {
            try await follow([status.reference], showsMasks: showsMasks, $0, context)
        }
    }

    /// Whether the masks of everything mode are wanted as they are found.
    private static func showsMasks(_ request: Request) throws -> Bool {
        switch try request.query("masks") {
        case nil, "0": false
        case "1": true
        default: throw Problem(.badRequest, "bad-query", "masks: 0 or 1 is expected", field: "masks")
        }
    }

    /// Tells of jobs until the last has ended.
    ///
    /// - Parameters:
    ///   - references: the jobs.
    ///   - showsMasks: whether masks of everything mode are told of as they are found.
    ///   - events: takes what there is to tell.
    ///   - context: of the request.
    /// - Throws: where Redis does not answer.
    func follow(
        _ references: [JobReference], showsMasks: Bool = false,
        _ events: AsyncStream<EventStream.Event>.Continuation, _ context: GatewayContext
    ) async throws {
        try await withThrowingTaskGroup(of: Void.self) { group in
            defer { group.cancelAll() }
            group.addTask { try await tellOfStates(references, events) }
            if showsMasks {
                for reference in references { group.addTask { try await tellOfMasks(reference, events) } }
            }
            for try await ending in JobWaiter(service.broker).endings(of: references) {
                let id = ending.reference.id
                let isLast = references.count == 1
                if ending.state == .done, let result = ending.result {
                    let data = try await Elsewhere.run(for: result.count) {
                        try Replies.answer(ending.reference, result, keepingLogits: false)
                    }
                    events.yield(.init(name: "done", data: data.dropLast(), isLast: isLast))
                } else {
                    let problem = Problem(
                        of: JobFailure(state: ending.state, reason: ending.error ?? "it is gone"))
                    events.yield(
                        .init(
                            name: "failed",
                            data: JSONValue.object([
                                ("id", .string(id)), ("state", .string(ending.state?.rawValue ?? "unknown")),
                                ("status", .integer(Int(problem.status.code))), ("code", .string(problem.code)),
                                ("detail", .string(problem.detail)),
                            ]).bytes, isLast: isLast))
                }
            }
        }
    }

    /// The masks that the parts of a job of everything mode found, as often as parts are done; those that stay are among
    /// them.
    private func tellOfMasks(
        _ reference: JobReference, _ events: AsyncStream<EventStream.Event>.Continuation
    ) async throws {
        let name = JSONText(JSONValue.string(reference.id).bytes).map { [(name: "id", value: $0)] } ?? []
        try await JobPartsWatch(reference, broker: service.broker).run { result in
            let data = try await Elsewhere.run(for: result.count) { () -> [UInt8]? in
                let masks = EverythingPart.masks(ofResult: result.array)
                return try masks.isEmpty
                    ? nil : Answer.provisional(masks.map { Answer.Cutout(everything: $0) }, first: name)
            }
            if let data { events.yield(.init(name: "masks", data: data)) }
        }
    }

    /// The states on the way, as often as they change, and the place in line.
    private func tellOfStates(
        _ references: [JobReference], _ events: AsyncStream<EventStream.Event>.Continuation
    ) async throws {
        var told: [JobReference: [UInt8]] = [:]
        while true {
            for case let status? in try await service.broker.status(references) where !status.state.isTerminal {
                var members: [JSONValue.Member] = [
                    ("id", .string(status.reference.id)), ("state", .string(status.state.rawValue)),
                ]
                if references.count == 1, let position = try await position(of: status) {
                    members.append(("position", .integer(position)))
                }
                let data = JSONValue.object(members).bytes
                if told.updateValue(data, forKey: status.reference) != data {
                    events.yield(.init(name: "state", data: data))
                }
            }
            try await Task.sleep(for: .milliseconds(500))
        }
    }

    static func identifier(_ context: GatewayContext) -> String {
        let text = context.parameters.get("id") ?? ""
        return text.removingPercentEncoding ?? text
    }
}

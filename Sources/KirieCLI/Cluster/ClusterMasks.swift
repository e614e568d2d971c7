import Clients
import Cluster
import Imaging
import Redis
import Segmentation

/// The masks that the workers of a cluster find.
struct ClusterMasks: MaskSource {
    let call: ClusterCall
    let parameters: EverythingParameters

    var settings: String { call.model.text }

    func masks(
        of path: String, _ image: Image, found: (@Sendable ([MaskCandidate]) throws -> Void)?,
        progress: @escaping @Sendable (Int, Int) -> Void
    ) async throws -> FoundMasks {
        let parameters = parameters
        let request = try await call.intake.request(path: path) { path, _, _ in
            JobLine(image: .path(path), everything: parameters)
        }
        let reference = JobReference(
            id: request.job.id, partition: call.broker.partition(of: request.job.image), tenant: call.broker.tenant)
        let watching = Task {
            try await JobPartsWatch(reference, broker: call.broker).run(
                progress: progress,
                found: found.map { found in
                    { result in
                        let masks = EverythingPart.masks(ofResult: result.array)
                        if !masks.isEmpty { try found(masks) }
                    }
                })
        }
        defer { watching.cancel() }
        let answer = try await withTaskCancellationHandler {
            try await call.result(of: request)
        } onCancel: {
            // The job is this command's own: nobody else waits for it.
            Task { try? await call.broker.cancel([reference]) }
        }
        return FoundMasks(
            masks: try answer.masks.map { try MaskCandidate($0, width: image.width, height: image.height) },
            model: answer.model, precision: answer.precision, timings: answer.timings_ms)
    }
}

extension MaskCandidate {
    /// A mask of an answer.
    init(_ cutout: Answer.Cutout, width: Int, height: Int) throws {
        let crop = cutout.crop_box ?? [0, 0, width, height]
        let point = cutout.point_coords?.first ?? [0, 0]
        guard let runs = cutout.segmentation, runs.size == [height, width], crop.count == 4, point.count == 2 else {
            throw JobFailure(state: .done, reason: "its result is no answer that this program reads")
        }
        let box = PixelBox(x0: crop[0], y0: crop[1], x1: crop[0] + crop[2], y1: crop[1] + crop[3])
        self.init(
            try RunLengthEncoding(compressed: runs.counts, height: height, width: width), predictedIoU: cutout.score,
            stabilityScore: cutout.stability_score, point: SIMD2(point[0], point[1]), foundIn: box)
        similarity = cutout.similarity
        label = cutout.label
        objectScore = cutout.object_score
    }
}

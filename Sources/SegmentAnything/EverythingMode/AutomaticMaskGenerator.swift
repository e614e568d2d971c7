public import Imaging
public import Segmentation
public import Tensors

/// Everything mode: masks of all objects of a picture, without a prompt.
///
/// ```swift
/// let generator = AutomaticMaskGenerator(encoder: encoder, decoder: decoder)
/// let masks = try generator.generate(photo, pool: pool)
/// ```
/// The published generator's steps with its results: Kirillov et al., "Segment Anything", 2023, appendix B,
/// <https://github.com/facebookresearch/segment-anything>, `automatic_mask_generator.py`. Masks are runs from the moment
/// that they are made.
public struct AutomaticMaskGenerator: Sendable {
    /// How far a picture is.
    public struct Progress: Sendable, Hashable {
        /// Points that are answered.
        public var done: Int
        /// Points in all; fast mode leaves some of them out, which count as answered.
        public var total: Int
        /// Masks so far, before those of different crops are weighed against each other.
        public var masks: Int
    }

    private let encoder: any ImageEncoding
    private let decoder: any PromptDecoding
    /// What is asked for.
    public let parameters: EverythingParameters

    /// A generator of a model's two halves.
    ///
    /// - Parameters:
    ///   - encoder: the heavy half.
    ///   - decoder: the light half.
    ///   - parameters: what is asked for.
    ///   - defaults: what the parameters leave to the model.
    public init(
        encoder: any ImageEncoding, decoder: any PromptDecoding,
        parameters: EverythingParameters = EverythingParameters(),
        defaults: EverythingDefaults = .published
    ) {
        self.encoder = encoder
        self.decoder = decoder
        self.parameters = parameters.resolved(by: defaults)
    }

    /// The masks of a picture.
    ///
    /// - Parameters:
    ///   - image: the picture, after EXIF orientation.
    ///   - features: of the whole picture, where they are there already.
    ///   - pool: the threads that share the work; the masks do not depend on how many there are.
    ///   - progress: is called after each batch of points, on the calling thread; by throwing it ends the work.
    /// - Returns: the masks in the published order.
    /// - Throws: ``EverythingFault`` for parameters that cannot be used on this picture, ``FeatureMismatch``, and what
    ///   `progress` throws.
    public func generate(
        _ image: Image, features: ImageFeatures? = nil, pool: ThreadPool, progress: (Progress) throws -> Void = { _ in }
    ) throws -> [MaskCandidate] {
        let plan = try MaskGenerationPlan(
            width: image.width, height: image.height, parameters: parameters, modelSize: encoder.preprocessing.size)
        var state = Progress(done: 0, total: plan.pointCount, masks: 0)
        var byCrop: [[MaskCandidate]] = []
        var whole: (any PreparedImage)?
        for crop in plan.crops.indices {
            let box = plan.crops[crop].box
            let isWhole = box.width == image.width && box.height == image.height
            let features =
                (isWhole ? features : nil) ?? encoder.encode(isWhole ? image : image.cropped(to: box), pool: pool)
            let prepared: any PreparedImage = try decoder.prepare(features, pool: pool)
            if crop == 0 { whole = prepared }
            var answers = MaskGenerationPlan.CropAnswers()
            let before = state
            while let next = plan.nextPoints(of: crop, after: answers) {
                for batch in plan.batches(next.points) {
                    let found = try plan.candidates(
                        of: crop, points: batch, areDrafts: next.wantsDrafts, on: prepared, pool: pool)
                    for (point, masks) in zip(batch, found) {
                        answers[next.wantsDrafts, point] = masks
                        state.masks += next.wantsDrafts ? 0 : masks.count
                    }
                    let most = plan.grids[plan.crops[crop].layer].count
                    state.done = min(state.done + batch.count, before.done + most)
                    try progress(state)
                }
            }
            byCrop.append(plan.kept(ofCrop: answers))
            state.done = before.done + plan.grids[plan.crops[crop].layer].count
            state.masks = byCrop.reduce(0) { $0 + $1.count }
            try progress(state)
        }
        return try whole?.ranked(plan.selected(byCrop), by: parameters, pool: pool) ?? []
    }
}

extension MaskGenerationPlan {
    /// The points in pieces that are decoded together.
    package func batches(_ points: [Int]) -> [[Int]] {
        stride(from: 0, to: points.count, by: parameters.pointsPerBatch).map {
            Array(points[$0..<min(points.count, $0 + parameters.pointsPerBatch)])
        }
    }

    /// The candidates of some points of a crop.
    ///
    /// - Parameters:
    ///   - crop: which.
    ///   - points: their indices in the crop's grid.
    ///   - areDrafts: whether boxes and scores are enough: the candidates have no pixel then.
    ///   - image: that crop, prepared.
    ///   - pool: the threads that share the work.
    /// - Returns: by point, what passes the filters.
    /// - Throws: ``PromptError`` never for the plan's own points.
    package func candidates(
        of crop: Int, points: [Int], areDrafts: Bool = false, on image: any PreparedImage, pool: ThreadPool
    ) throws(PromptError) -> [[MaskCandidate]] {
        let (all, box) = (self.points(of: crop), crops[crop].box)
        let places = points.map { all[$0] }
        let filter = CandidateFilter(parameters)
        let answers: [[MaskCandidate]]
        if areDrafts {
            let empty = RunLengthEncoding(emptyHeight: height, width: width)
            let corner = SIMD4(Int32(box.x0), Int32(box.y0), Int32(box.x0), Int32(box.y0))
            answers = zip(places, try image.drafts(at: places, filter: filter, pool: pool)).map { place, drafts in
                drafts.map { draft in
                    MaskCandidate(
                        encoding: empty, predictedIoU: draft.predictedIoU, stabilityScore: draft.stabilityScore,
                        point: place + SIMD2(Double(box.x0), Double(box.y0)), crop: box, box: draft.box &+ corner)
                }
            }
        } else {
            answers = zip(places, try image.candidates(at: places, filter: filter, pool: pool)).map { place, masks in
                masks.map { mask in
                    MaskCandidate(
                        mask.encoding, predictedIoU: mask.predictedIoU, stabilityScore: mask.stabilityScore,
                        point: place, in: box, width: width, height: height)
                }
            }
        }
        // Of a tile's masks those that are cut off are joined with their other parts, not dropped.
        let keepsParts = isTiled && crops[crop].layer > 0
        return answers.map { $0.filter { keepsParts || !$0.isCutOff(width: width, height: height) } }
    }
}

extension Image {
    /// A part of the picture.
    package func cropped(to box: PixelBox) -> Image {
        let bytes = 3 * box.width
        let cut = [UInt8](unsafeUninitializedCapacity: bytes * box.height) { target, initialized in
            pixels.withUnsafeBufferPointer { source in
                guard let from = source.baseAddress, let to = target.baseAddress else { return }
                for row in 0..<box.height {
                    (to + row * bytes).update(from: from + ((box.y0 + row) * width + box.x0) * 3, count: bytes)
                }
            }
            initialized = bytes * box.height
        }
        return Image(width: box.width, height: box.height, pixels: cut)
    }
}

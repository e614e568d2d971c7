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
    /// Bytes of runs of a crop's masks from which those of masks that lie on better ones are let go.
    private let runLimit: Int
    /// Bytes of runs of the masks that stay.
    private let mostRuns: Int

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
        self.init(
            encoder: encoder, decoder: decoder, parameters: parameters, defaults: defaults,
            runLimit: MaskGenerationPlan.runLimit, mostRuns: 1 << 30)
    }

    /// The same with limits of its own for the bytes of runs.
    package init(
        encoder: any ImageEncoding, decoder: any PromptDecoding, parameters: EverythingParameters,
        defaults: EverythingDefaults = .published, runLimit: Int, mostRuns: Int = .max
    ) {
        self.encoder = encoder
        self.decoder = decoder
        self.runLimit = runLimit
        self.mostRuns = mostRuns
        self.parameters = parameters.resolved(by: defaults)
    }

    /// The masks of a picture.
    ///
    /// - Parameters:
    ///   - image: the picture, after EXIF orientation.
    ///   - features: of the whole picture, where they are there already.
    ///   - pool: the threads that share the work; the masks do not depend on how many there are.
    ///   - progress: is called after each batch of points, on the calling thread; by throwing it ends the work.
    ///   - found: is given the masks of each batch of points before they are weighed against each other, on the calling
    ///     thread; those that stay are among them, but for what small regions change.
    /// - Returns: the masks in the published order.
    /// - Throws: ``EverythingFault`` for parameters that cannot be used on this picture, or by which masks of more runs stay
    ///   than a gigabyte holds; ``FeatureMismatch``, and what `progress` throws.
    public func generate(
        _ image: Image, features: ImageFeatures? = nil, pool: ThreadPool,
        progress: (Progress) throws -> Void = { _ in }, found: ([MaskCandidate]) throws -> Void = { _ in }
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
            let before = state
            let most = plan.grids[plan.crops[crop].layer].count
            let held = byCrop.reduce(0) { $0 + $1.runBytes }
            byCrop.append(
                try kept(plan, crop, beside: held, on: prepared, pool: pool, found: found) { points, masks in
                    state.masks += masks
                    state.done = min(state.done + points, before.done + most)
                    try progress(state)
                })
            state.done = before.done + plan.grids[plan.crops[crop].layer].count
            state.masks = byCrop.reduce(0) { $0 + $1.count }
            try progress(state)
        }
        return try whole?.ranked(plan.selected(byCrop), by: parameters, pool: pool) ?? []
    }

    /// The masks of a crop that stay, the highest predicted IoU first, beside those of other crops whose runs take as many
    /// bytes; `progress` is told of points and of the masks that they gave.
    private func kept(
        _ plan: MaskGenerationPlan, _ crop: Int, beside held: Int, on image: any PreparedImage, pool: ThreadPool,
        found tell: ([MaskCandidate]) throws -> Void, progress: (_ points: Int, _ masks: Int) throws -> Void
    ) throws -> [MaskCandidate] {
        var answers = MaskGenerationPlan.CropAnswers()
        while let next = plan.nextPoints(of: crop, after: answers) {
            var batches = PointBatches(
                next.points, most: parameters.pointsPerBatch, memory: runLimit / 2, haveRuns: !next.wantsDrafts)
            while let batch = batches.next() {
                let found = try plan.candidates(
                    of: crop, points: batch, areDrafts: next.wantsDrafts, on: image, pool: pool)
                if !next.wantsDrafts { try tell(found.flatMap { $0 }) }
                if next.wantsDrafts {
                    for (point, drafts) in zip(batch, found) { answers.drafts[point] = drafts }
                } else {
                    answers.add(found, of: batch, by: plan, limit: runLimit)
                }
                batches.took(next.wantsDrafts ? 0 : found.reduce(0) { $0 + $1.runBytes })
                let bytes = held + answers.runBytes
                if bytes > mostRuns { throw EverythingFault.tooManyRuns(bytes: bytes, limit: mostRuns) }
                try progress(batch.count, next.wantsDrafts ? 0 : found.joined().count)
            }
        }
        let places = answers.places(keptBy: plan)
        var bytes = held + answers.runBytes
        var batches = PointBatches(answers.bare(of: places), most: parameters.pointsPerBatch, memory: runLimit / 2)
        let staying = Set(places)
        while let batch = batches.next() {
            let found = try plan.candidates(of: crop, points: batch, on: image, pool: pool)
            batches.took(found.reduce(0) { $0 + $1.runBytes })
            for (point, masks) in zip(batch, found) {
                for (index, mask) in masks.enumerated() where staying.contains(.init(point: point, index: index)) {
                    answers.masks[point]?[index] = mask
                    bytes += mask.encoding.byteCount
                }
            }
            if bytes > mostRuns { throw EverythingFault.tooManyRuns(bytes: bytes, limit: mostRuns) }
        }
        return places.compactMap { answers.masks[$0.point]?[$0.index] }
    }
}

/// Points in pieces that are decoded together: fewer at a time where their masks turn out to be of many runs.
package struct PointBatches {
    private var points: ArraySlice<Int>
    private let most: Int
    private let memory: Int
    private var size: Int
    private var taken = 0

    /// - Parameters:
    ///   - points: all of them.
    ///   - most: in one piece.
    ///   - memory: bytes of runs that a piece may bring, about.
    ///   - haveRuns: whether masks are made of them and not drafts.
    package init(_ points: [Int], most: Int, memory: Int, haveRuns: Bool = true) {
        // Of the runs of the first piece nothing is known, so it is small.
        size = haveRuns ? 16 : most
        self.points = points[...]
        self.most = most
        self.memory = memory
    }

    /// The next piece; nil where there is none.
    package mutating func next() -> [Int]? {
        guard !points.isEmpty else { return nil }
        let piece = Array(points.prefix(max(1, min(size, most))))
        points = points.dropFirst(piece.count)
        taken = piece.count
        return piece
    }

    /// The masks of the last piece have runs of so many bytes.
    package mutating func took(_ bytes: Int) {
        size = bytes == 0 ? most : max(1, min(most, memory / (bytes / taken + 1)))
    }
}

extension MaskGenerationPlan {
    /// Bytes of runs of a crop's masks from which those of masks that lie on better ones are let go.
    package static let runLimit = 96 << 20

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

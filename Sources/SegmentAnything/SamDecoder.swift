package import NeuralNetworks
public import Segmentation
public import Tensors

/// Segment Anything's light half: the prompt encoder and the mask decoder of one model.
///
/// A value without mutable state: any number of threads may use one at the same time. A process that only decodes
/// loads nothing else, and from a mapped checkpoint it reads only the tensors that it needs.
public struct SamDecoder: PromptDecoding {
    /// An image made ready for prompts: what depends on the image alone is computed here, once.
    public struct PreparedImage: Sendable {
        let decoder: SamDecoder
        let state: ImageState
        /// The embedding alone, to which a mask prompt is added.
        let tiles: ImageTiles
        let scaling: MaskScaling
        let frame: ImageFrame

        /// Columns of the original picture.
        public var width: Int { frame.originalWidth }
        /// Rows of the original picture.
        public var height: Int { frame.originalHeight }
        /// Bytes that keeping it takes, for a cache that is bounded by bytes.
        public var byteCount: Int { state.byteCount + 4 * tiles.tensor.count }
    }

    /// Prompts that go through the layers together, so that weights are read once for all of them.
    private static let promptsAtOnce = 4

    /// The precision of the products on the image's side.
    ///
    /// It belongs to the decoder: every prompt and every prepared image is computed so, alone, in a batch, or in another
    /// process.
    public let precision: Precision
    /// How the pictures of the embeddings that it takes were brought to the encoder.
    public let preprocessing: ImagePreprocessing
    private let grid: Int
    private let channels: Int
    private let promptEncoder: PromptEncoder
    private let maskDecoder: MaskDecoder

    /// Whether a click takes a millisecond or two on one thread, of which others could take little off: narrower than
    /// the published models, with their C = 256.
    public var isSmall: Bool { channels < 256 }

    /// Rows and columns of a mask prompt: 4g.
    public var maskSide: Int { 4 * grid }

    /// Numbers of a text's embedding that the model takes as a token; nil where it has no text projection.
    public var textWidth: Int? { promptEncoder.textWidth }

    /// `image_embedding`, and the skips, if it takes any.
    public let featureShapes: [FeatureShape]

    /// Reads `prompt_encoder.*` and `mask_decoder.*`; falls back to fp32 for a model whose heads or channels are odd in
    /// number.
    package init(
        _ weights: some WeightSource, preprocessing: ImagePreprocessing, maskChannels: Int,
        configuration: MaskDecoder.Configuration, conventions: PromptConventions = PromptConventions(),
        precision: Precision
    ) throws {
        let isEven =
            configuration.channels % 8 == 0 && configuration.crossAttentionDim / DecoderHeads.count % 2 == 0
        let precision = isEven ? precision : .float32
        self.precision = precision
        self.preprocessing = preprocessing
        grid = configuration.grid
        channels = configuration.channels
        featureShapes = configuration.featureShapes
        promptEncoder = try PromptEncoder(
            weights, channels: channels, imageSize: preprocessing.size, grid: grid, maskChannels: maskChannels,
            conventions: conventions)
        maskDecoder = try MaskDecoder(
            weights, configuration, positions: ImageTiles(promptEncoder.densePositions, channels: channels),
            mask: ImageProjections.MaskPrompt(
                weight: promptEncoder.maskProjection.weight,
                shift: zip(promptEncoder.maskProjection.bias.elements, promptEncoder.noMask.elements).map { $0 - $1 }),
            arithmetic: TileArithmetic(type: precision.elementType))
    }

    /// Makes an embedding ready for any number of prompts.
    ///
    /// - Throws: ``FeatureMismatch`` when it is not of this model's kind.
    public func prepare(_ features: ImageFeatures, pool: ThreadPool) throws(FeatureMismatch) -> PreparedImage {
        guard features.preprocessing == preprocessing else {
            throw .preprocessing(found: features.preprocessing, expected: preprocessing)
        }
        var maps: [String: Tensor] = [:]
        for shape in featureShapes { maps[shape.name] = try features.tensor(shape) }
        let embedding = try features.tensor(featureShapes[0])
        let tiles = ImageTiles(embedding, channels: channels, adding: promptEncoder.noMask)
        var skips: UpscalingSkips?
        if let coarse = maps[FeatureMap.skips[0]], let fine = maps[FeatureMap.skips[1]] {
            skips = UpscalingSkips(coarse: coarse, fine: fine, grid: grid, pool: pool)
        }
        return PreparedImage(
            decoder: self,
            state: maskDecoder.prepare(
                tiles, skips: skips, highQuality: maps[FeatureMap.highQuality], pool: pool),
            tiles: ImageTiles(embedding, channels: channels),
            scaling: MaskScaling(
                side: maskSide, imageSize: preprocessing.size, frame: features.frame, resize: preprocessing.resize),
            frame: features.frame)
    }

    /// Decodes one prompt to low-resolution logits.
    package func decode(
        _ prompt: Prompt, on image: PreparedImage, selection: MaskSelection, pool: ThreadPool
    ) throws(PromptError) -> DecodedMasks {
        try validate([prompt], on: image)
        return decodeTogether([prompt], on: image, selection: selection, pool: pool)[0]
    }

    /// Decodes many prompts on one picture.
    ///
    /// A few prompts at a time on each thread, which keeps all cores busy without a word between them; one prompt on
    /// all threads. Every answer equals that of a prompt decoded alone, to the bit.
    package func decode(
        _ prompts: [Prompt], on image: PreparedImage, selection: MaskSelection, pool: ThreadPool
    ) throws(PromptError) -> [DecodedMasks] {
        if prompts.count == 1 { return [try decode(prompts[0], on: image, selection: selection, pool: pool)] }
        try validate(prompts, on: image)
        let share = (prompts.count + pool.threadCount - 1) / pool.threadCount
        let size = max(1, min(Self.promptsAtOnce, share))
        let count = (prompts.count + size - 1) / size
        let answers = ConcurrentSlots<[DecodedMasks]>(count: count)
        pool.parallel(count) { index in
            answers[index] = decodeTogether(
                Array(prompts[index * size..<min(prompts.count, (index + 1) * size)]), on: image,
                selection: selection, pool: .inline)
        }
        return answers.values.flatMap { $0 ?? [] }
    }

    private func validate(_ prompts: [Prompt], on image: PreparedImage) throws(PromptError) {
        for prompt in prompts {
            if let text = prompt.textEmbedding {
                guard let textWidth else { throw .textUnsupported }
                guard text.count == textWidth else { throw .textWidth(found: text.count, expected: textWidth) }
                guard text.allSatisfy(\.isFinite) else { throw .notFinite(part: "the text's embedding") }
            }
            try prompt.validate(width: image.width, height: image.height, maskSide: maskSide)
        }
    }

    private func decodeTogether(
        _ prompts: [Prompt], on image: PreparedImage, selection: MaskSelection, above leastIoU: Float? = nil,
        pool: ThreadPool, trace: DecoderTrace? = nil
    ) -> [DecodedMasks] {
        maskDecoder.decode(
            prompts.map { prompt in
                let tokens = promptEncoder.tokens(input(prompt, image.frame))
                guard let mask = prompt.mask else { return (image.state, tokens) }
                let (projection, dense) = (promptEncoder.maskProjection, promptEncoder.dense(mask))
                let state = maskDecoder.prepare(
                    image.state, embedding: image.tiles,
                    adding: ImageTiles(dense, channels: projection.weight.shape[1]), bias: projection.bias, pool: pool)
                return (state, tokens)
            }, selection: selection, above: leastIoU, pool: pool, trace: trace)
    }

    /// Masks of single points that pass the filter: see ``PreparedImage/candidates(at:filter:pool:)``.
    package func candidates(
        at points: [SIMD2<Double>], on image: PreparedImage, filter: CandidateFilter, pool: ThreadPool
    ) throws(PromptError) -> [[ScoredMask]] {
        try readings(at: points, on: image, filter: filter, pool: pool) { logits, predictedIoU in
            let answer = image.scaling.mask(logits, offset: filter.stabilityScoreOffset, pool: .inline)
            guard filter.takes(stability: answer.stabilityScore, isEmpty: answer.outer == 0) else { return nil }
            return ScoredMask(
                encoding: answer.encoding, predictedIoU: predictedIoU, stabilityScore: answer.stabilityScore)
        }
    }

    /// The same as drafts: see ``PreparedImage/drafts(at:filter:pool:)``.
    package func drafts(
        at points: [SIMD2<Double>], on image: PreparedImage, filter: CandidateFilter, pool: ThreadPool
    ) throws(PromptError) -> [[MaskDraft]] {
        try readings(at: points, on: image, filter: filter, pool: pool) { logits, predictedIoU in
            let draft = image.scaling.draft(logits, offset: filter.stabilityScoreOffset)
            guard filter.mayTake(stability: draft.stabilityScore, isEmpty: draft.isEmpty) else { return nil }
            return MaskDraft(box: draft.box, predictedIoU: predictedIoU, stabilityScore: draft.stabilityScore)
        }
    }

    /// What becomes of the three readings of single points whose predicted IoU passes the filter.
    private func readings<Reading: Sendable>(
        at points: [SIMD2<Double>], on image: PreparedImage, filter: CandidateFilter, pool: ThreadPool,
        _ read: @Sendable (UnsafePointer<Float>, Float) -> Reading?
    ) throws(PromptError) -> [[Reading]] {
        let prompts = points.map { Prompt(points: [LabeledPoint(x: $0.x, y: $0.y)]) }
        try validate(prompts, on: image)
        let share = (prompts.count + pool.threadCount - 1) / pool.threadCount
        let size = max(1, min(Self.promptsAtOnce, share))
        let count = (prompts.count + size - 1) / size
        let answers = ConcurrentSlots<[[Reading]]>(count: count)
        // Each thread takes a few prompts all the way: nothing of a mask's full size is ever stored.
        pool.parallel(count) { index in
            let group = Array(prompts[index * size..<min(prompts.count, (index + 1) * size)])
            answers[index] = decodeTogether(
                group, on: image, selection: .multiple,
                above: filter.predictedIoUThreshold > 0 ? filter.predictedIoUThreshold : nil, pool: .inline
            ).map { decoded in
                zip(decoded.logits, decoded.predictedIoU).compactMap { logits, predictedIoU in
                    logits.values.withUnsafeBufferPointer { values in
                        values.baseAddress.flatMap { read($0, predictedIoU) }
                    }
                }
            }
        }
        return answers.values.flatMap { $0 ?? [] }
    }

    /// What every stage computes for prompts that go through together, by prompt: for tests, beside
    /// ``ReferenceMaskDecoder``.
    package func stages(
        _ prompts: [Prompt], on image: PreparedImage, embedding: ImageFeatures, selection: MaskSelection
    ) throws -> [[DecoderStage.Name: [Float]]] {
        try validate(prompts, on: image)
        let features = try embedding.tensor(featureShapes[0])
        let trace = DecoderTrace(
            embeddings: prompts.map { promptEncoder.adding($0.mask, to: features) }, channels: channels)
        _ = decodeTogether(prompts, on: image, selection: selection, pool: .inline, trace: trace)
        return trace.stages
    }

    /// Answers one prompt at the picture's own size.
    ///
    /// - Parameters:
    ///   - prompt: in pixels of the original picture.
    ///   - image: the prepared picture.
    ///   - multimask: three masks for an ambiguous prompt instead of one.
    ///   - pool: the threads that share the work; the answer does not depend on how many there are.
    /// - Returns: the masks, the highest predicted IoU first.
    /// - Throws: ``PromptError`` where the prompt cannot be used on this picture.
    public func predict(
        _ prompt: Prompt, on image: PreparedImage, multimask: Bool, pool: ThreadPool
    ) throws(PromptError) -> [PredictedMask] {
        let decoded = try decode(prompt, on: image, selection: multimask ? .multiple : .single, pool: pool)
        return masks(decoded, on: image, pool: pool)
    }

    /// Answers many prompts on one picture in one call; each answer equals that of its prompt alone, to the bit.
    public func predict(
        _ prompts: [Prompt], on image: PreparedImage, multimask: Bool, pool: ThreadPool
    ) throws(PromptError) -> [[PredictedMask]] {
        masks(
            try decode(prompts, on: image, selection: multimask ? .multiple : .single, pool: pool), on: image,
            pool: pool)
    }

    /// Full-size masks of many prompts' logits, as many prompts at a time as there are threads.
    package func masks(
        _ decoded: [DecodedMasks], on image: PreparedImage, isRanked: Bool = true, pool: ThreadPool
    ) -> [[PredictedMask]] {
        if decoded.count == 1 { return [masks(decoded[0], on: image, isRanked: isRanked, pool: pool)] }
        let answers = ConcurrentSlots<[PredictedMask]>(count: decoded.count)
        pool.parallel(decoded.count) { index in
            answers[index] = masks(decoded[index], on: image, isRanked: isRanked, pool: .inline)
        }
        return answers.values.map { $0 ?? [] }
    }

    /// Full-size masks of decoded logits, the highest predicted IoU first, or in the order of the logits.
    package func masks(
        _ decoded: DecodedMasks, on image: PreparedImage, isRanked: Bool = true, pool: ThreadPool
    ) -> [PredictedMask] {
        let answers = ConcurrentSlots<PredictedMask>(count: decoded.logits.count)
        func make(_ index: Int, _ pool: ThreadPool) {
            answers[index] = mask(index, of: decoded, scaling: image.scaling, pool: pool)
        }
        if decoded.logits.count == 1 {
            make(0, pool)
        } else {
            pool.parallel(decoded.logits.count) { make($0, .inline) }
        }
        let masks = answers.values.compactMap { $0 }
        return isRanked ? masks.sorted { $0.predictedIoU > $1.predictedIoU } : masks
    }

    /// Logits at the picture's size, (height, width).
    package func fullSizeLogits(_ logits: LowResolutionLogits, on image: PreparedImage) -> [Float] {
        logits.values.withUnsafeBufferPointer { logits in
            logits.baseAddress.map { image.scaling.fullSize($0) } ?? []
        }
    }

    private func mask(
        _ index: Int, of decoded: DecodedMasks, scaling: MaskScaling, pool: ThreadPool
    ) -> PredictedMask {
        let logits = decoded.logits[index]
        let answer = logits.values.withUnsafeBufferPointer { values in
            guard let values = values.baseAddress else { preconditionFailure("logits are never empty") }
            return scaling.mask(values, pool: pool)
        }
        return PredictedMask(
            encoding: answer.encoding, predictedIoU: decoded.predictedIoU[index],
            stabilityScore: answer.stabilityScore,
            lowResolutionLogits: logits, logitBound: decoded.logitBound, objectScore: decoded.objectScore,
            token: index)
    }

    private func input(_ prompt: Prompt, _ frame: ImageFrame) -> PromptEncoder.Input {
        PromptEncoder.Input(
            points: prompt.points.map { point in
                let (x, y) = frame.apply(x: point.x, y: point.y)
                return (x, y, point.label)
            },
            box: prompt.box.map { box in
                let (x0, y0) = frame.apply(x: box.x0, y: box.y0)
                let (x1, y1) = frame.apply(x: box.x1, y: box.y1)
                return (x0, y0, x1, y1)
            },
            mask: prompt.mask, text: prompt.textEmbedding)
    }
}

extension SamDecoder.PreparedImage: PreparedImage {
    /// Decodes prompts to low-resolution logits.
    public func decode(
        _ prompts: [Prompt], selection: MaskSelection, pool: ThreadPool
    ) throws(PromptError) -> [DecodedMasks] {
        try decoder.decode(prompts, on: self, selection: selection, pool: pool)
    }

    /// Full-size masks of many prompts' logits.
    public func masks(_ decoded: [DecodedMasks], isRanked: Bool, pool: ThreadPool) -> [[PredictedMask]] {
        decoder.masks(decoded, on: self, isRanked: isRanked, pool: pool)
    }

    /// Logits at the picture's size, (height, width).
    public func fullSizeLogits(_ logits: LowResolutionLogits) -> [Float] { decoder.fullSizeLogits(logits, on: self) }

    /// Masks of single points that pass the filter.
    public func candidates(
        at points: [SIMD2<Double>], filter: CandidateFilter, pool: ThreadPool
    ) throws(PromptError) -> [[ScoredMask]] {
        try decoder.candidates(at: points, on: self, filter: filter, pool: pool)
    }

    /// The same as drafts.
    public func drafts(
        at points: [SIMD2<Double>], filter: CandidateFilter, pool: ThreadPool
    ) throws(PromptError) -> [[MaskDraft]] {
        try decoder.drafts(at: points, on: self, filter: filter, pool: pool)
    }
}

/// One slot per index of a parallel call, each written by the one task that owns it and read after the call.
///
/// `@unchecked Sendable`: tasks write to different slots, and ``values`` is read only when all have ended.
final class ConcurrentSlots<Value>: @unchecked Sendable {
    private let slots: UnsafeMutableBufferPointer<Value?>

    init(count: Int) {
        slots = .allocate(capacity: count)
        slots.initialize(repeating: nil)
    }

    deinit {
        slots.deinitialize()
        slots.deallocate()
    }

    subscript(index: Int) -> Value? {
        get { slots[index] }
        set { slots[index] = newValue }
    }

    var values: [Value?] { Array(slots) }
}

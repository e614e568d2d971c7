public import Imaging
public import Segmentation
public import Tensors

/// The masks of prompts on a picture that is much larger than what the model sees, each on the tile around it.
///
/// ```swift
/// let tiled = TiledPrediction(encoder: encoder, decoder: decoder)
/// let masks = try tiled.masks(of: prompt, in: photo, multimask: false, pool: pool)
/// ```
public struct TiledPrediction: Sendable {
    private let encoder: any ImageEncoding
    private let decoder: any PromptDecoding

    /// Predictions by a model's two halves.
    public init(encoder: any ImageEncoding, decoder: any PromptDecoding) {
        self.encoder = encoder
        self.decoder = decoder
    }

    /// The masks of a prompt, the highest predicted IoU first.
    ///
    /// - Parameters:
    ///   - prompt: in pixels of the picture.
    ///   - image: the picture, after EXIF orientation.
    ///   - multimask: three masks for an ambiguous prompt instead of one.
    ///   - pool: the threads that share the work; the answer does not depend on how many there are.
    /// - Returns: masks of the picture's size; each tells the part of the picture that it was found in.
    /// - Throws: ``PromptError`` where the prompt cannot be used on this picture.
    public func masks(
        of prompt: Prompt, in image: Image, multimask: Bool, pool: ThreadPool
    ) throws -> [MaskCandidate] {
        let (width, height) = (image.width, image.height)
        var tile = PromptTile(
            around: prompt, width: width, height: height, modelSize: encoder.preprocessing.size)
        while let place = tile {
            let prepared: any PreparedImage = try decoder.prepare(
                encoder.encode(image.cropped(to: place.box), pool: pool), pool: pool)
            let masks = try place.masks(
                of: prompt, on: prepared, multimask: multimask, width: width, height: height, pool: pool)
            guard let best = masks.first, place.cutsOff(best, width: width, height: height) else { return masks }
            tile = place.larger(width: width, height: height)
        }
        let prepared: any PreparedImage = try decoder.prepare(encoder.encode(image, pool: pool), pool: pool)
        return try prepared.wholeMasks(of: prompt, multimask: multimask, pool: pool)
    }
}

extension PromptTile {
    /// The masks of a prompt on the tile, the highest predicted IoU first, at the size of the picture.
    ///
    /// - Parameters:
    ///   - prompt: in pixels of the picture.
    ///   - image: the tile, prepared.
    ///   - multimask: three masks instead of one.
    ///   - width: columns of the picture.
    ///   - height: its rows.
    ///   - pool: the threads that share the work.
    /// - Returns: the masks, whose `crop` is the tile.
    /// - Throws: ``PromptError`` where the prompt cannot be used on the tile.
    package func masks(
        of prompt: Prompt, on image: any PreparedImage, multimask: Bool, width: Int, height: Int, pool: ThreadPool
    ) throws(PromptError) -> [MaskCandidate] {
        let prompt = self.prompt(prompt)
        return try image.predict([prompt], multimask: multimask, pool: pool)[0].map {
            var mask = MaskCandidate(
                $0.encoding, predictedIoU: $0.predictedIoU, stabilityScore: $0.stabilityScore, point: prompt.place,
                in: box, width: width, height: height)
            mask.objectScore = $0.objectScore
            return mask
        }
    }
}

extension PreparedImage {
    /// The masks of a prompt for which no tile was needed, as those of a tile are told.
    package func wholeMasks(
        of prompt: Prompt, multimask: Bool, pool: ThreadPool
    ) throws(PromptError) -> [MaskCandidate] {
        let whole = PromptTile(box: PixelBox(x0: 0, y0: 0, x1: width, y1: height))
        return try whole.masks(of: prompt, on: self, multimask: multimask, width: width, height: height, pool: pool)
    }
}

extension Prompt {
    /// A point that it points at.
    fileprivate var place: SIMD2<Double> {
        if let point = points.first { return SIMD2(point.x, point.y) }
        return box.map { SIMD2(($0.x0 + $0.x1) / 2, ($0.y0 + $0.y1) / 2) } ?? .zero
    }
}

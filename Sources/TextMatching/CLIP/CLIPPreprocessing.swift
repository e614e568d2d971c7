package import Imaging
package import Tensors

/// How a picture is brought to CLIP's image encoder, as published: its shortest side to the model's size with Pillow's
/// bicubic filter, the centre of that, and from each colour its mean taken off and its deviation divided by.
public struct CLIPPreprocessing: Sendable, Hashable, CustomStringConvertible {
    /// Which of the two middle rows or columns a centre crop begins at, where as many cannot fall away on both sides.
    public enum Centre: String, Sendable, Hashable {
        /// The lower number, as in `transformers`' own code on Pillow's pictures.
        case down
        /// To the nearest even number, as in torchvision, which OpenAI's code uses and `transformers` on tensors.
        case even
    }

    /// S: rows and columns that the encoder sees.
    public let size: Int
    /// What is taken off red, green and blue, which go from 0 to 1.
    public let mean: SIMD3<Double>
    /// What they are divided by then.
    public let deviation: SIMD3<Double>
    /// Where the centre is.
    public let centre: Centre

    /// The published mean and deviation, of the pictures that CLIP was trained on.
    public static let publishedMean = SIMD3<Double>(0.48145466, 0.4578275, 0.40821073)
    /// See ``publishedMean``.
    public static let publishedDeviation = SIMD3<Double>(0.26862954, 0.26130258, 0.27577711)

    /// A way of bringing pictures to a model.
    ///
    /// - Precondition: `size` is at least 1, and no deviation is zero.
    public init(
        size: Int, mean: SIMD3<Double> = publishedMean, deviation: SIMD3<Double> = publishedDeviation,
        centre: Centre = .even
    ) {
        precondition(size > 0 && (0..<3).allSatisfy { deviation[$0] != 0 }, "pictures of \(size)")
        self.size = size
        self.mean = mean
        self.deviation = deviation
        self.centre = centre
    }

    /// One line for people and for what is hashed.
    public var description: String {
        func list(_ numbers: SIMD3<Double>) -> String { (0..<3).map { "\(numbers[$0])" }.joined(separator: ", ") }
        return "shortest side to \(size), bicubic, centre \(centre.rawValue), mean \(list(mean)), "
            + "deviation \(list(deviation))"
    }

    /// The colours between the encoder's extremes: what stands for nothing in its pictures.
    var meanColour: SIMD3<UInt8> {
        let levels = (mean * 255).rounded(.toNearestOrEven)
        return SIMD3(UInt8(clamping: Int(levels.x)), UInt8(clamping: Int(levels.y)), UInt8(clamping: Int(levels.z)))
    }

    /// The picture that the encoder sees, in its colours: S rows and columns.
    func resized(_ image: Image) -> Image {
        let (long, short) = (max(image.width, image.height), min(image.width, image.height))
        let longer = size * long / short
        let (width, height) = image.width < image.height ? (size, longer) : (longer, size)
        let resized =
            image.width == width && image.height == height
            ? image : image.resizedBicubic(width: width, height: height)
        guard width != height else { return resized }
        let (left, top) = (start(width - size), start(height - size))
        var pixels: [UInt8] = []
        pixels.reserveCapacity(size * size * 3)
        for row in top..<top + size {
            let first = (row * width + left) * 3
            pixels.append(contentsOf: resized.pixels[first..<first + size * 3])
        }
        return Image(width: size, height: size, pixels: pixels)
    }

    private func start(_ excess: Int) -> Int {
        switch centre {
        case .down: excess / 2
        case .even: Int((Double(excess) / 2).rounded(.toNearestOrEven))
        }
    }

    /// Writes the encoder's input for a picture as patches, (patches, 3, patch size, patch size).
    func write(_ image: Image, patchSize: Int, to patches: UnsafeMutablePointer<Float>) {
        let image = resized(image)
        let levels = (0..<3).map { channel in
            (0..<256).map { Float((Double($0) / 255 - mean[channel]) / deviation[channel]) }
        }
        let grid = size / patchSize
        let area = patchSize * patchSize
        image.pixels.withUnsafeBufferPointer { pixels in
            for channel in 0..<3 {
                levels[channel].withUnsafeBufferPointer { levels in
                    for y in 0..<grid * patchSize {
                        for x in 0..<grid * patchSize {
                            let patch = y / patchSize * grid + x / patchSize
                            let place = (patch * 3 + channel) * area + y % patchSize * patchSize + x % patchSize
                            patches[place] = levels[Int(pixels[(y * size + x) * 3 + channel])]
                        }
                    }
                }
            }
        }
    }

    /// The encoder's input for a picture, (3, S, S).
    package func input(_ image: Image) -> Tensor {
        Tensor(shape: [3, size, size]) { memory in
            guard let base = memory.baseAddress else { return }
            // One patch is the whole picture.
            write(image, patchSize: size, to: base)
        }
    }
}

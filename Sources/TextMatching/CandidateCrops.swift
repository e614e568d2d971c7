package import Imaging
package import Segmentation

/// How the part of a picture that a matcher looks at is cut out around a candidate.
///
/// Crops are square, as pictures are that classifiers take: a long object keeps its proportions and its ends, which the
/// centre crop of the published preprocessing would cut off. A square is moved into the picture where it fits; what still
/// lies outside is of one colour. Segment Anything's own text prompts were trained on squares around masks, with the
/// surroundings left in and taken out (Kirillov et al., "Segment Anything", 2023, appendix D.5).
package struct CandidateCrop: Sendable, Hashable {
    /// The part of the box's longer side by which the square is longer than that, 0 or more: 0 touches the object.
    package var margin: Double
    /// How much is left of what is not on the object: 1 all of it, 0 nothing but the background.
    package var surroundings: Double
    /// What stands in for the surroundings, and lies outside of the picture.
    package var background: SIMD3<UInt8>

    /// A way of cutting out candidates.
    package init(margin: Double, surroundings: Double, background: SIMD3<UInt8>) {
        precondition(margin >= 0 && (0...1).contains(surroundings), "no crop of margin \(margin)")
        self.margin = margin
        self.surroundings = surroundings
        self.background = background
    }
}

extension CandidateCrop {
    /// The square of whole pixels around a box, in the picture's coordinates; it may reach over the picture's edges.
    ///
    /// - Parameters:
    ///   - box: `[x, y, width, height]`, as ``RunLengthEncoding/boundingBox`` has it.
    ///   - image: the size of the picture.
    /// - Returns: the left and upper edge and the side, at least 1.
    package func square(
        around box: [Int], in image: (width: Int, height: Int)
    ) -> (left: Int, top: Int, side: Int) {
        let longer = max(box[2], box[3], 1)
        // No square needs to be larger than the picture, whose side an absurd margin would overflow.
        let most = max(longer, image.width, image.height)
        let side = Int(min(Double(most), (Double(longer) * (1 + margin)).rounded(.up)))
        /// Centred on the box, and moved so that as little as possible lies outside of the picture.
        func start(_ first: Int, _ count: Int, of extent: Int) -> Int {
            let centred = first + count / 2 - side / 2
            return side <= extent ? min(max(centred, 0), extent - side) : (extent - side) / 2
        }
        return (start(box[0], box[2], of: image.width), start(box[1], box[3], of: image.height), side)
    }

    /// Cuts a candidate out of its picture.
    ///
    /// Costs what the square's pixels cost to copy, and the runs of the mask in its columns.
    ///
    /// - Parameters:
    ///   - mask: of the picture's size; an empty one gives the upper left pixel.
    ///   - image: the picture.
    /// - Returns: a square.
    package func callAsFunction(_ mask: RunLengthEncoding, of image: Image) -> Image {
        precondition(
            mask.width == image.width && mask.height == image.height,
            "a mask of \(mask.width) x \(mask.height) on a picture of \(image.width) x \(image.height)")
        let (left, top, side) = square(around: mask.boundingBox, in: (image.width, image.height))
        let weight = Int32((surroundings * 256).rounded())
        let isOnObject = weight == 256 ? [] : Self.bits(of: mask, left: left, top: top, side: side)
        // What a level of the surroundings becomes, by channel.
        let levels = (0..<3).map { channel in
            (0..<256).map { level -> UInt8 in
                let sum = Int32(level) * weight + Int32(background[channel]) * (256 - weight) + 128
                return UInt8(truncatingIfNeeded: sum >> 8)
            }
        }
        let pixels = [UInt8](unsafeUninitializedCapacity: side * side * 3) { memory, initialized in
            image.pixels.withUnsafeBufferPointer { from in
                for row in 0..<side {
                    let y = top + row
                    for column in 0..<side {
                        let x = left + column
                        let target = (row * side + column) * 3
                        let isInside = y >= 0 && y < image.height && x >= 0 && x < image.width
                        let source = isInside ? (y * image.width + x) * 3 : 0
                        let isKept = isInside && (weight == 256 || isOnObject[row * side + column])
                        for channel in 0..<3 {
                            memory[target + channel] =
                                isKept
                                ? from[source + channel]
                                : isInside ? levels[channel][Int(from[source + channel])] : background[channel]
                        }
                    }
                }
            }
            initialized = side * side * 3
        }
        return Image(width: side, height: side, pixels: pixels)
    }

    /// Which pixels of the square are on the object, row-major.
    private static func bits(of mask: RunLengthEncoding, left: Int, top: Int, side: Int) -> [Bool] {
        var bits = [Bool](repeating: false, count: side * side)
        var position = 0
        for (index, count) in mask.counts.enumerated() {
            defer { position += Int(count) }
            guard index % 2 == 1 else { continue }
            // A run goes down its columns; each part of one is clipped to the square.
            var first = position
            let end = position + Int(count)
            while first < end {
                let (column, row) = first.quotientAndRemainder(dividingBy: mask.height)
                let last = min(end, (column + 1) * mask.height) - column * mask.height
                if (left..<left + side).contains(column) {
                    for y in max(row, top)..<max(max(row, top), min(last, top + side)) {
                        bits[(y - top) * side + column - left] = true
                    }
                }
                first = column * mask.height + last
            }
        }
        return bits
    }
}

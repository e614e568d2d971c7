import NeuralNetworks
import Platform
import SegmentAnything
import Segmentation
import Tensors
import Testing

/// The scaling in one step against the two steps of the published postprocessing, each written out.
@Suite struct MaskScalingTests {
    /// torch.nn.functional.interpolate(mode="bilinear", align_corners=False), in double.
    private static func resize(
        _ x: [Double], rows: Int, columns: Int, toRows: Int, toColumns: Int
    ) -> [Double] {
        func place(_ index: Int, _ input: Int, _ output: Int) -> (Int, Int, Double) {
            let at = max(0, Double(input) / Double(output) * (Double(index) + 0.5) - 0.5)
            let first = min(Int(at), input - 1)
            return (first, min(first + 1, input - 1), at - Double(first))
        }
        var out: [Double] = []
        for row in 0..<toRows {
            let (a, b, v) = place(row, rows, toRows)
            for column in 0..<toColumns {
                let (c, d, h) = place(column, columns, toColumns)
                let top = x[a * columns + c] * (1 - h) + x[a * columns + d] * h
                let bottom = x[b * columns + c] * (1 - h) + x[b * columns + d] * h
                out.append(top * (1 - v) + bottom * v)
            }
        }
        return out
    }

    @Test(arguments: [(1800, 1200), (533, 800), (1, 1), (2250, 37), (100, 100), (63, 1024)])
    func equalsTheTwoSteps(width: Int, height: Int) {
        let (side, size) = (64, 256)
        let frame = ImagePreprocessing.segmentAnything(size: size).frame(width: width, height: height)
        let logits = RandomWeights(seed: 3).tensor("logits.value", shape: [side, side]).elements
        let large = Self.resize(logits.map(Double.init), rows: side, columns: side, toRows: size, toColumns: size)
        let cut = (0..<frame.inputHeight).flatMap { large[$0 * size..<$0 * size + frame.inputWidth] }
        let expected = Self.resize(
            Array(cut), rows: frame.inputHeight, columns: frame.inputWidth, toRows: height, toColumns: width)
        let scaling = MaskScaling(side: side, imageSize: size, frame: frame)
        let found = scaling.fullSize(logits)
        #expect(Difference(found, expected.map(Float.init)).largest < 1e-6)

        // The mask is that of these logits, pixel for pixel, on any number of threads.
        let scaled = logits.map { $0 * 3 }
        let values = scaling.fullSize(scaled)
        for threads in [1, 3] {
            let answer = scaling.mask(scaled, pool: ThreadPool(threadCount: threads))
            #expect(answer.encoding.mask.pixels == values.map { $0 > 0 ? 1 : 0 })
            #expect(answer.inner == values.count { $0 > 1 })
            #expect(answer.outer == values.count { $0 > -1 })
        }
    }

    /// A draft's box is the mask's, and its stability is near where the logits are no noise.
    @Test(
        arguments: [(1800, 1200), (533, 800), (256, 256), (700, 90), (31, 47)],
        [ImagePreprocessing.Resize.longestSide, .square])
    func draftsHaveTheBoxesOfTheirMasks(_ picture: (width: Int, height: Int), resize: ImagePreprocessing.Resize) {
        let (side, size) = (64, 256)
        let frame = ImagePreprocessing.segmentAnything(size: size).frame(width: picture.width, height: picture.height)
        let scaling = MaskScaling(side: side, imageSize: size, frame: frame, resize: resize)
        let (across, down) =
            resize == .square ? (side, side) : (side * frame.inputWidth / size, side * frame.inputHeight / size)
        var random = SplitMix64(seed: 11)
        var compared = 0
        for round in 0..<40 {
            // An ellipse whose logits fall off like a distance, or specks of noise.
            let centre = SIMD2(
                Float.random(in: 0...Float(across), using: &random), Float.random(in: 0...Float(down), using: &random))
            let radius = SIMD2(Float.random(in: 1...20, using: &random), Float.random(in: 1...20, using: &random))
            let logits = (0..<side * side).map { index -> Float in
                if round % 2 == 1 { return Float.random(in: -5...0.1, using: &random) }
                let place = (SIMD2(Float(index % side) + 0.5, Float(index / side) + 0.5) - centre) / radius
                return 8 * (1 - (place * place).sum().squareRoot())
            }
            let draft = scaling.draft(logits)
            let mask = scaling.mask(logits, pool: .inline)
            #expect(draft.isEmpty == (mask.encoding.area == 0))
            guard !draft.isEmpty else { continue }
            let bounds = mask.encoding.boundingBox
            let exact = SIMD4(bounds[0], bounds[1], bounds[0] + bounds[2] - 1, bounds[1] + bounds[3] - 1)
            #expect(SIMD4<Int>(truncatingIfNeeded: draft.box) == exact, "\(draft.box) \(exact)")
            compared += 1
            if round % 2 == 0, radius.min() > 6, resize == .longestSide, picture.width > 31 {
                #expect(abs(draft.stabilityScore - mask.stabilityScore) < 0.15)
            }
        }
        #expect(compared > 15)
        let nothing = scaling.draft([Float](repeating: -3, count: side * side))
        #expect(nothing.isEmpty && nothing.stabilityScore == 0)
    }
}

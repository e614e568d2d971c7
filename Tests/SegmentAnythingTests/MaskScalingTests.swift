import NeuralNetworks
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
}

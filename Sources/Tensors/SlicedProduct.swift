/// A product with fixed weights by oneDNN, cut into slices whose weights stay in a core's second-level cache while block
/// after block of rows goes through them: whole, the weights of a wide layer would be read from further away for every
/// block.
///
/// oneDNN's fast kernels want rows without gaps, so what a slice reads or writes of a row goes through scratch memory.
struct SlicedProduct: Sendable {
    private struct Slice: Sendable {
        let product: OneDNNProduct
        /// The columns, or the part of the depth, that the slice is.
        let range: Range<Int>
    }

    private enum Slices: Sendable {
        case byColumns([Slice])
        /// Each adds to the sum of those before it; a narrow answer is not cut so, as each would round it once more.
        case byDepth([Slice])
    }

    /// Bytes of weights in a slice at most: rows and answers want their part of a second-level cache of 1 or 2 MiB too, and
    /// thinner slices would copy more than they spare.
    private static let sliceBytes = 1200 << 10

    private let columns: Int
    private let slices: Slices
    /// GELU where it is applied to the narrow answer while its block is still in the cache: a short polynomial takes a third
    /// of what the library's takes, whose exact form is wasted on 8 bits.
    private let narrowActivation: Activation

    /// Packs `weight` (columns, depth); nil when oneDNN cannot run the product on this processor.
    init?(weight: Tensor, bias: Tensor?, activation: Activation, input: ElementType, output: ElementType) {
        let (columns, depth) = (weight.shape[0], weight.shape[1])
        self.columns = columns
        narrowActivation = output == .bfloat16 && activation.isNarrow ? activation : .none
        let activation = narrowActivation == .none ? activation : .none
        let (from, to) = (OneDNN.Number(input), OneDNN.Number(output))
        let isWide = columns > depth || output == .bfloat16
        let (cut, other) = isWide ? (columns, depth) : (depth, columns)
        let ranges = LinearProduct.slices(of: cut, most: Self.sliceBytes / input.byteCount / max(1, other))
        var slices: [Slice] = []
        for range in ranges {
            let isLast = range.upperBound == cut
            let product =
                isWide
                ? OneDNNProduct(
                    weight: weight.rectangle(rows: range, columns: 0..<depth),
                    bias: bias?.reshaped(to: [columns, 1]).rectangle(rows: range, columns: 0..<1),
                    activation: activation, input: from, output: to)
                : OneDNNProduct(
                    weight: weight.rectangle(rows: 0..<columns, columns: range),
                    bias: range.lowerBound == 0 ? bias : nil, activation: isLast ? activation : .none, input: from,
                    output: to)
            guard let product else { return nil }
            slices.append(Slice(product: product, range: range))
        }
        self.slices = isWide ? .byColumns(slices) : .byDepth(slices)
    }

    /// y (rows, columns) = activation(x (rows, depth) * weightᵀ + bias), or the sum of that and `y` before the activation.
    func callAsFunction(rows: Int, x: Features, y: Features, accumulate: Bool) {
        switch slices {
        case .byColumns(let slices):
            for slice in slices {
                eachBlock(rows, of: slices) { block, count in
                    let (x, y) = (x.from(row: block), y.from(row: block))
                    withDense(rows: count, y, columns: slice.range, isRead: accumulate, isWritten: true) { y in
                        slice.product(rows: count, x: x, y: y, accumulate: accumulate)
                        if narrowActivation != .none {
                            narrowActivation.applyNarrow(count * slice.range.count, y.bfloat16Bits)
                        }
                    }
                }
            }
        case .byDepth(let slices):
            withDense(rows: rows, y, columns: 0..<columns, isRead: accumulate, isWritten: true) { y in
                for slice in slices {
                    eachBlock(rows, of: slices) { block, count in
                        let (x, y) = (x.from(row: block), y.from(row: block))
                        withDense(rows: count, x, columns: slice.range, isRead: true, isWritten: false) { x in
                            slice.product(
                                rows: count, x: x, y: y, accumulate: accumulate || slice.range.lowerBound > 0)
                        }
                    }
                }
            }
        }
    }

    /// Calls `body` with the first row and the number of rows of each block; one slice takes all rows at once.
    private func eachBlock(_ rows: Int, of slices: [Slice], _ body: (_ first: Int, _ count: Int) -> Void) {
        guard slices.count > 1 else { return body(0, rows) }
        for first in stride(from: 0, to: rows, by: OneDNNProduct.blockRows) {
            body(first, min(OneDNNProduct.blockRows, rows - first))
        }
    }

    /// Calls `body` with those columns of the rows, without gaps between rows.
    private func withDense(
        rows: Int, _ features: Features, columns: Range<Int>, isRead: Bool, isWritten: Bool, _ body: (Features) -> Void
    ) {
        guard columns.count < features.stride else { return body(features) }
        let part = features.from(row: 0, column: columns.lowerBound)
        Scratch.withFeatures(rows: rows, columns: columns.count, type: features.type) { dense in
            if isRead { part.copy(rows: rows, columns: columns.count, to: dense) }
            body(dense)
            if isWritten { dense.copy(rows: rows, columns: columns.count, to: part) }
        }
    }
}

extension LinearProduct {
    /// Weights that each of two layers should have at most when blocks of rows go through one after the other.
    ///
    /// Both layers' and the rows fit in a second-level cache of 2 MiB then. The product of bf16 parts has its weights come
    /// panel by panel, and only the hidden numbers and their parts have to fit.
    package static func chainedWeights(_ type: ElementType) -> Int {
        type == .float32 && BFloat16x3Product.isSupported ? 384 << 10 : (600 << 10) / type.byteCount
    }

    /// `0 ..< total` in as few and as equal ranges of at most `most` numbers as multiples of 64 allow, the widest block of
    /// columns in oneDNN's kernels.
    package static func slices(of total: Int, most: Int) -> [Range<Int>] {
        guard total > most else { return [0..<total] }
        let multiple = 64
        let widest = max(multiple, most / multiple * multiple)
        let count = (total + widest - 1) / widest
        let width = ((total + count - 1) / count + multiple - 1) / multiple * multiple
        return stride(from: 0, to: total, by: width).map { $0..<min(total, $0 + width) }
    }
}

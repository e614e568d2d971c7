import CKernels

/// A product with weights and rows of int8, by oneDNN: four products a lane and step where bf16 has two.
///
/// Symmetric: each column of the weights and each row, as it comes, is divided by a scale of its own that brings its largest
/// number to 127. Sums are exact in int32. Dettmers et al., "LLM.int8()", 2022, section 3.1,
/// <https://arxiv.org/abs/2208.07339>.
struct QuantizedProduct: Sendable {
    private struct Slice: Sendable {
        let product: OneDNNProduct
        let columns: Range<Int>
    }

    /// Columns whose sums are made together: a block of them stays in the second-level cache.
    private static let sliceColumns = 384

    private let depth: Int
    private let slices: [Slice]
    /// Of the columns.
    private let scales: Tensor
    private let bias: Tensor
    private let activation: Activation

    /// Packs `weight` (columns, depth); nil when oneDNN cannot run the product on this processor.
    init?(weight: Tensor, bias: Tensor?, activation: Activation) {
        let (columns, depth) = (weight.shape[0], weight.shape[1])
        self.depth = depth
        precondition(activation == .none || activation.isNarrow, "no quantized layer ends in \(activation)")
        self.activation = activation
        self.bias = bias ?? Tensor(shape: [columns], [Float](repeating: 0, count: columns))
        let scales = (0..<columns).map { column in
            weight.withUnsafeBufferPointer { weight in
                weight[column * depth..<(column + 1) * depth].reduce(0) { max($0, abs($1)) } / 127
            }
        }
        self.scales = Tensor(shape: [columns], scales)
        var slices: [Slice] = []
        for start in stride(from: 0, to: columns, by: Self.sliceColumns) {
            let range = start..<min(columns, start + Self.sliceColumns)
            let scaled = Tensor(shape: [range.count, depth]) { memory in
                weight.withUnsafeBufferPointer { weight in
                    for (index, column) in range.enumerated() {
                        let inverse = scales[column] > 0 ? 1 / scales[column] : 0
                        for k in 0..<depth { memory[index * depth + k] = weight[column * depth + k] * inverse }
                    }
                }
            }
            // Whoever packs the weights rounds them.
            guard
                let product = OneDNNProduct(weight: scaled, bias: nil, activation: .none, input: .int8, output: .int32)
            else { return nil }
            slices.append(Slice(product: product, columns: range))
        }
        self.slices = slices
    }

    /// y (rows, columns) = activation(x (rows, depth) * weightᵀ + bias), x in bf16; or y += that, y in fp32.
    func callAsFunction(rows: Int, x: Features, y: Features, accumulate: Bool) {
        precondition(y.type == .float32 || !accumulate, "narrow answers are not added to")
        precondition(y.type == .bfloat16 || activation == .none, "GELU is applied to narrow answers")
        for first in stride(from: 0, to: rows, by: OneDNNProduct.blockRows) {
            let count = min(OneDNNProduct.blockRows, rows - first)
            multiply(rows: count, x: x.from(row: first), y: y.from(row: first), accumulate: accumulate)
        }
    }

    private func multiply(rows: Int, x: Features, y: Features, accumulate: Bool) {
        // The quantized rows, their scales, and a slice's sums.
        let quantizedFloats = (rows * depth + 63) / 64 * 16
        Scratch.withFloats(quantizedFloats + (rows + 15) / 16 * 16 + rows * Self.sliceColumns) { memory in
            let rowScales = memory + quantizedFloats
            let sums = UnsafeMutableRawPointer(rowScales + (rows + 15) / 16 * 16)
                .bindMemory(to: Int32.self, capacity: rows * Self.sliceColumns)
            let quantized = UnsafeMutableRawPointer(memory).bindMemory(to: Int8.self, capacity: rows * depth)
            kirie_bf16_quantize_rows(rows, depth, x.bfloat16Bits, x.stride, quantized, rowScales)
            scales.withUnsafeBufferPointer { scales in
                bias.withUnsafeBufferPointer { bias in
                    guard let scales = scales.baseAddress, let bias = bias.baseAddress else { return }
                    for slice in slices {
                        let (start, count) = (slice.columns.lowerBound, slice.columns.count)
                        slice.product(rows: rows, x: quantized, y: sums)
                        let part = y.from(row: 0, column: start)
                        guard y.type == .bfloat16 else {
                            var arguments = kirie_dequantize_arguments(
                                rows: rows, columns: count, sums: sums, row_scales: rowScales,
                                column_scales: scales + start, bias: bias + start, accumulate: accumulate ? 1 : 0,
                                y: part.floats, y_stride: y.stride)
                            kirie_dequantize_rows(&arguments)
                            continue
                        }
                        kirie_bf16_dequantize_rows(
                            rows, count, sums, rowScales, scales + start, bias + start, part.bfloat16Bits, y.stride)
                        guard activation != .none else { continue }
                        for row in 0..<rows { activation.applyNarrow(count, part.from(row: row).bfloat16Bits) }
                    }
                }
            }
        }
    }
}

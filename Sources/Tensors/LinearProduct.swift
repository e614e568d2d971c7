import CKernels

/// What happens to each number of a product before it is written.
public enum Activation: Sendable, Hashable {
    /// Nothing.
    case none
    /// x Φ(x) in its exact (erf) form: Hendrycks and Gimpel, 2016, <https://arxiv.org/abs/1606.08415>.
    case gelu
    /// x σ(1.702 x), which CLIP was trained with; ibid., section 2.
    case quickGELU
    /// max(x, 0).
    case relu
    /// min(max(x, 0), 6): Krizhevsky, 2010, <https://www.cs.utoronto.ca/~kriz/conv-cifar10-aug2010.pdf>.
    case relu6
}

/// What multiplies matrices.
public enum MatrixLibrary: String, Sendable, CaseIterable {
    /// A kernel of our own, as the other two have none: fp32 in three bf16 parts where the processor has AMX.
    case bfloat16x3
    /// oneDNN: weights packed once, bias and activation fused; bf16 where the processor has it.
    case oneDNN
    /// OpenBLAS: everywhere, fp32.
    case openBLAS
}

/// y = activation(x Wᵀ + b) with fixed weights, packed once for the library that multiplies.
///
/// One call runs on the calling thread and is meant for a block of rows; the caller spreads blocks over a
/// ``ThreadPool``. A row's answer does not depend on the thread that computes it.
public struct LinearProduct: Sendable {
    /// Rows that go through a slice of the weights together; a call takes any number of rows.
    public static let blockRows = OneDNNProduct.blockRows
    /// Numbers per row of the answer.
    public let columns: Int
    /// Numbers per row of the input.
    public let depth: Int

    /// Rows of x in the form that products of one depth and type read; valid while they are made.
    package struct Rows {
        fileprivate let count: Int
        fileprivate let x: Features
        fileprivate let parts: BFloat16x3Product.Parts?
    }

    private enum Backend: Sendable {
        case bfloat16x3(BFloat16x3Product)
        case oneDNN(SlicedProduct)
        case int8(QuantizedProduct)
        case openBLAS(weight: Tensor, bias: Tensor?, activation: Activation)
    }
    private let backend: Backend

    /// Packs the weights.
    ///
    /// - Parameters:
    ///   - weight: (columns, depth), as `torch.nn.Linear` keeps it.
    ///   - bias: (columns), or nil.
    ///   - activation: applied to x Wᵀ + b, or to the sum where the answer is accumulated.
    ///   - input: how rows of x are written, and with them the weights.
    ///   - output: how rows of y are written.
    ///   - quantizes: multiplies in int8 where oneDNN does; the input is bf16 then.
    ///   - library: the first of them that can, from this one on.
    public init(
        weight: Tensor, bias: Tensor?, activation: Activation = .none, input: ElementType = .float32,
        output: ElementType = .float32, quantizes: Bool = false, library: MatrixLibrary = .bfloat16x3
    ) {
        precondition(weight.shape.count == 2, "weights of shape \(weight.shape) are no matrix")
        precondition(bias == nil || bias?.count == weight.shape[0], "a bias for every column")
        columns = weight.shape[0]
        depth = weight.shape[1]
        if weight.isPlaceholder {
            backend = .openBLAS(weight: weight, bias: bias, activation: activation)
        } else if quantizes, let packed = QuantizedProduct(weight: weight, bias: bias, activation: activation) {
            precondition(input == .bfloat16, "rows of bf16 are quantized, not of \(input)")
            backend = .int8(packed)
        } else if library == .bfloat16x3, input == .float32, output == .float32,
            let packed = BFloat16x3Product(weight: weight, bias: bias, activation: activation)
        {
            backend = .bfloat16x3(packed)
        } else if library != .openBLAS,
            let packed = SlicedProduct(
                weight: weight, bias: bias, activation: activation, input: input, output: output)
        {
            backend = .oneDNN(packed)
        } else {
            precondition(input == .float32 && output == .float32, "no library multiplies \(input) on this processor")
            backend = .openBLAS(weight: weight, bias: bias, activation: activation)
        }
    }

    /// Multiplies `rows` rows.
    ///
    /// - Parameters:
    ///   - rows: any number; they go through the weights by blocks of ``blockRows``.
    ///   - x: (rows, depth), of the input's type.
    ///   - y: (rows, columns), of the output's type.
    ///   - accumulate: adds to what `y` holds instead of replacing it.
    public func callAsFunction(rows: Int, x: Features, y: Features, accumulate: Bool = false) {
        // oneDNN divides by the number of rows.
        guard rows > 0 else { return }
        guard case .bfloat16x3 = backend else {
            return self(Rows(count: rows, x: x, parts: nil), y: y, accumulate: accumulate)
        }
        // A block's parts stay in the second-level cache while the weights pass.
        for first in stride(from: 0, to: rows, by: Self.blockRows) {
            withRows(min(Self.blockRows, rows - first), x: x.from(row: first)) {
                self($0, y: y.from(row: first), accumulate: accumulate)
            }
        }
    }

    /// Calls `body` with `count` rows in the form that this product reads, and with it every product of its depth and types
    /// from the same library: they are brought into that form once.
    package func withRows(_ count: Int, x: Features, _ body: (Rows) -> Void) {
        guard case .bfloat16x3(let packed) = backend else { return body(Rows(count: count, x: x, parts: nil)) }
        packed.withParts(rows: count, x: x) { body(Rows(count: count, x: x, parts: $0)) }
    }

    /// Multiplies rows that were brought into the form which the product reads.
    package func callAsFunction(_ rows: Rows, y: Features, accumulate: Bool = false) {
        switch backend {
        case .bfloat16x3(let packed):
            guard let parts = rows.parts else { preconditionFailure("rows of another product's form") }
            packed(rows: rows.count, parts: parts, y: y, accumulate: accumulate)
        case .oneDNN(let packed):
            packed(rows: rows.count, x: rows.x, y: y, accumulate: accumulate)
        case .int8(let packed): packed(rows: rows.count, x: rows.x, y: y, accumulate: accumulate)
        case .openBLAS(let weight, let bias, let activation):
            weight.withUnsafeBufferPointer { weight in
                guard let weight = weight.baseAddress else { return }
                OpenBLAS.product(
                    rows: rows.count, columns: columns, depth: depth, x: rows.x.floats, xStride: rows.x.stride,
                    weight: weight, y: y.floats, yStride: y.stride, accumulate: accumulate)
            }
            for row in 0..<rows.count {
                bias?.withUnsafeBufferPointer { kirie_add(columns, $0.baseAddress, y.from(row: row).floats) }
            }
            activation.apply(rows: rows.count, columns: columns, to: y)
        }
    }
}

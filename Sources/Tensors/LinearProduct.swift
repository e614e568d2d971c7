import CKernels

/// What happens to each number of a product before it is written.
public enum Activation: Sendable, Hashable {
    /// Nothing.
    case none
    /// x Φ(x) in its exact (erf) form: Hendrycks and Gimpel, 2016, <https://arxiv.org/abs/1606.08415>.
    case gelu
    /// max(x, 0).
    case relu
}

/// Which library multiplies matrices.
public enum MatrixLibrary: String, Sendable, CaseIterable {
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

    private enum Backend: Sendable {
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
    ///   - library: oneDNN unless asked for otherwise; OpenBLAS stands in for fp32 where oneDNN has no kernel.
    public init(
        weight: Tensor, bias: Tensor?, activation: Activation = .none, input: ElementType = .float32,
        output: ElementType = .float32, quantizes: Bool = false, library: MatrixLibrary = .oneDNN
    ) {
        precondition(weight.shape.count == 2, "weights of shape \(weight.shape) are no matrix")
        precondition(bias == nil || bias?.count == weight.shape[0], "a bias for every column")
        columns = weight.shape[0]
        depth = weight.shape[1]
        if quantizes, let packed = QuantizedProduct(weight: weight, bias: bias, activation: activation) {
            precondition(input == .bfloat16, "rows of bf16 are quantized, not of \(input)")
            backend = .int8(packed)
        } else if library == .oneDNN,
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
    ///   - x: (rows, depth), of the input's type.
    ///   - y: (rows, columns), of the output's type.
    ///   - accumulate: adds to what `y` holds instead of replacing it.
    public func callAsFunction(rows: Int, x: Features, y: Features, accumulate: Bool = false) {
        switch backend {
        case .oneDNN(let packed):
            packed(rows: rows, x: x, y: y, accumulate: accumulate)
        case .int8(let packed): packed(rows: rows, x: x, y: y, accumulate: accumulate)
        case .openBLAS(let weight, let bias, let activation):
            weight.withUnsafeBufferPointer { weight in
                guard let weight = weight.baseAddress else { return }
                OpenBLAS.product(
                    rows: rows, columns: columns, depth: depth, x: x.floats, xStride: x.stride, weight: weight,
                    y: y.floats, yStride: y.stride, accumulate: accumulate)
            }
            for row in 0..<rows {
                let line = y.from(row: row).floats
                bias?.withUnsafeBufferPointer { kirie_add(columns, $0.baseAddress, line) }
                switch activation {
                case .none: break
                case .gelu: kirie_gelu(columns, line)
                case .relu: kirie_relu(columns, line)
                }
            }
        }
    }
}

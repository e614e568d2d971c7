import CKernels

/// A product in fp32 whose numbers are taken apart into three of bf16, for AMX: see `kirie_bf16x3_product`.
///
/// Its sums lose less than those of fused multiply-adds in fp32 do; the weights take 6 bytes each.
struct BFloat16x3Product: Sendable {
    /// Rows in parts.
    typealias Parts = UnsafePointer<UInt16>

    /// Whether this processor has the tiles for it, and may use them.
    static var isSupported: Bool { kirie_has_amx_bf16() != 0 }

    private let columns: Int
    private let depth: Int
    private let activation: Activation
    /// Two bf16 numbers in the place of each `Float`.
    private let packed: Tensor

    /// Packs `weight` (columns, depth); nil when this processor has no AMX, or the matrix is not of whole tiles.
    init?(weight: Tensor, bias: Tensor?, activation: Activation) {
        let (columns, depth) = (weight.shape[0], weight.shape[1])
        guard Self.isSupported, columns > 0, depth > 0, columns % 32 == 0, depth % 32 == 0 else { return nil }
        self.columns = columns
        self.depth = depth
        self.activation = activation
        packed = Tensor(shape: [kirie_bf16x3_weight_numbers(columns, depth) / 2]) { memory in
            memory.withMemoryRebound(to: UInt16.self) { packed in
                weight.withUnsafeBufferPointer { weight in
                    let pack = { (bias: UnsafePointer<Float>?) in
                        kirie_bf16x3_pack_weights(columns, depth, weight.baseAddress, bias, packed.baseAddress)
                    }
                    if let bias { bias.withUnsafeBufferPointer { pack($0.baseAddress) } } else { pack(nil) }
                }
            }
        }
    }

    /// Calls `body` with x (rows, depth) in parts, which every product of that depth reads.
    func withParts(rows: Int, x: Features, _ body: (Parts) -> Void) {
        let numbers = kirie_bf16x3_row_numbers(rows, depth)
        Scratch.withFloats(numbers / 2) { memory in
            let parts = UnsafeMutableRawPointer(memory).bindMemory(to: UInt16.self, capacity: numbers)
            kirie_bf16x3_split_rows(rows, depth, x.floats, x.stride, parts)
            body(parts)
        }
    }

    /// y (rows, columns) = activation(x (rows, depth) * weightᵀ + bias), or the sum of that and `y` before the activation.
    func callAsFunction(rows: Int, parts: Parts, y: Features, accumulate: Bool) {
        packed.withUnsafeBufferPointer { packed in
            packed.withMemoryRebound(to: UInt16.self) { packed in
                kirie_bf16x3_product(
                    rows, columns, depth, parts, packed.baseAddress, accumulate ? 1 : 0, y.floats, y.stride)
            }
        }
        activation.apply(rows: rows, columns: columns, to: y)
    }
}

extension Activation {
    /// Applies the function to rows of fp32 numbers, in place.
    func apply(rows: Int, columns: Int, to y: Features) {
        guard self != .none else { return }
        for row in 0..<rows { apply(columns, y.from(row: row).floats) }
    }

    /// Whether the function is one of ``applyNarrow(_:_:)``.
    var isNarrow: Bool { self == .gelu || self == .quickGELU }

    /// Applies GELU, of either form, to bf16 numbers, in place; another function leaves them as they are.
    func applyNarrow(_ count: Int, _ x: UnsafeMutablePointer<UInt16>) {
        switch self {
        case .gelu: kirie_bf16_gelu(count, x)
        case .quickGELU: kirie_bf16_quick_gelu(count, x)
        case .none, .relu, .relu6: break
        }
    }

    /// Applies the function to numbers, in place.
    package func apply(_ count: Int, _ x: UnsafeMutablePointer<Float>) {
        switch self {
        case .none: break
        case .gelu: kirie_gelu(count, x)
        case .quickGELU: kirie_quick_gelu(count, x)
        case .relu: kirie_relu(count, x)
        case .relu6: kirie_relu6(count, x)
        }
    }
}

import CKernels

/// Rows of numbers in scratch memory: what flows between the layers of a network.
///
/// A view, not an owner; the memory is ``Scratch`` or a tensor's, and valid only as long as that is.
public struct Features {
    /// The first row.
    public let base: UnsafeMutableRawPointer
    /// How a number is written: `float32` or `bfloat16`.
    public let type: ElementType
    /// Numbers from one row to the next.
    public let stride: Int

    /// A view of rows that begin at `base`.
    public init(_ base: UnsafeMutableRawPointer, type: ElementType, stride: Int) {
        self.base = base
        self.type = type
        self.stride = stride
    }

    /// A view of rows of `Float`.
    public init(_ base: UnsafeMutablePointer<Float>, stride: Int) {
        self.init(UnsafeMutableRawPointer(base), type: .float32, stride: stride)
    }

    /// A view of rows of either type over memory of `Float`.
    public init(_ base: UnsafeMutablePointer<Float>, type: ElementType, stride: Int) {
        self.init(UnsafeMutableRawPointer(base), type: type, stride: stride)
    }

    /// The view that begins `row` rows and `column` numbers further on.
    public func from(row: Int, column: Int = 0) -> Features {
        Features(base + (row * stride + column) * type.byteCount, type: type, stride: stride)
    }

    /// The first row as `Float`.
    ///
    /// - Precondition: the numbers are `float32`.
    public var floats: UnsafeMutablePointer<Float> {
        precondition(type == .float32, "rows of \(type) read as float32")
        return base.assumingMemoryBound(to: Float.self)
    }

    /// The first row as the bits of bf16 numbers.
    ///
    /// - Precondition: the numbers are `bfloat16`.
    public var bfloat16Bits: UnsafeMutablePointer<UInt16> {
        precondition(type == .bfloat16, "rows of \(type) read as bfloat16")
        return base.assumingMemoryBound(to: UInt16.self)
    }
}

extension Features {
    /// Copies `rows` rows of `columns` numbers to rows of the same type.
    func copy(rows: Int, columns: Int, to other: Features) {
        precondition(type == other.type, "rows of \(type) copied to rows of \(other.type)")
        for row in 0..<rows {
            other.from(row: row).base.copyMemory(from: from(row: row).base, byteCount: columns * type.byteCount)
        }
    }

    /// Copies `rows` rows of `columns` fp32 numbers to rows of either type.
    public func write(rows: Int, columns: Int, to other: Features) {
        for row in 0..<rows {
            let (from, to) = (self.from(row: row), other.from(row: row))
            if other.type == .bfloat16 {
                kirie_bf16_narrow(columns, from.floats, to.bfloat16Bits)
            } else {
                to.floats.update(from: from.floats, count: columns)
            }
        }
    }
}

/// How numbers are kept between layers and multiplied; sums and the residual stream are always fp32.
public enum Precision: String, Sendable, Hashable, CaseIterable {
    /// 32-bit floating point throughout.
    case float32 = "fp32"
    /// Weights and the inputs of products in bf16: twice the products per step where the processor has them.
    case bfloat16 = "bf16"

    /// Experimental: like bf16, but the encoder's transformer blocks multiply in int8, rows and weights scaled to it.
    case int8 = "int8"

    /// How the inputs of a product are written.
    public var elementType: ElementType { self == .float32 ? .float32 : .bfloat16 }

    /// Whether the products of transformer blocks are in int8.
    public var quantizesBlocks: Bool { self == .int8 }

    /// Whether this processor computes in this precision.
    public var isSupported: Bool {
        switch self {
        case .float32: true
        case .bfloat16: kirie_has_bf16() != 0
        case .int8: kirie_has_int8() != 0
        }
    }

    /// The fastest precision of this processor.
    public static var automatic: Precision { Precision.bfloat16.isSupported ? .bfloat16 : .float32 }
}

extension Scratch {
    /// Calls `body` with uninitialised rows of numbers, valid during the call.
    public static func withFeatures<Result, Failure: Error>(
        rows: Int, columns: Int, type: ElementType, _ body: (Features) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        let floats = (rows * columns * type.byteCount + 3) / 4
        return try withFloats(floats) { (memory) throws(Failure) in
            try body(Features(UnsafeMutableRawPointer(memory), type: type, stride: columns))
        }
    }
}

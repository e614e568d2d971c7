import Glibc
import NeuralNetworks
import Platform
import Tensors

/// Numbers of a seed, and what layers make of them, in memory that is one number longer than the rows on either side.
struct Rows {
    let count: Int
    let columns: Int
    /// Row-major, `columns` numbers a row.
    var numbers: [Float]

    /// Numbers between -1 and 1.
    init(_ count: Int, _ columns: Int, seed: UInt64) {
        var generator = SplitMix64(seed: seed)
        self.count = count
        self.columns = columns
        numbers = (0..<count * columns).map { _ in Float.random(in: -1...1, using: &generator) }
    }

    init(_ count: Int, _ columns: Int, filledWith number: Float) {
        self.count = count
        self.columns = columns
        numbers = Array(repeating: number, count: count * columns)
    }

    subscript(row: Int, column: Int) -> Double { Double(numbers[row * columns + column]) }

    /// The same numbers as bf16 holds them, to the nearest even.
    var rounded: Rows {
        var rows = self
        rows.numbers = numbers.map { Float(bitPattern: UInt32(Self.bits($0)) << 16) }
        return rows
    }

    /// Hands the rows to a layer, written in `type`, and reads back what it has made of them.
    mutating func withFeatures(_ type: ElementType = .float32, _ body: (Features) -> Void) {
        if type == .float32 {
            numbers.withUnsafeMutableBufferPointer { buffer in
                if let base = buffer.baseAddress { body(Features(base, stride: columns)) }
            }
            return
        }
        var narrow = numbers.map(Self.bits)
        narrow.withUnsafeMutableBytes { buffer in
            if let base = buffer.baseAddress { body(Features(base, type: .bfloat16, stride: columns)) }
        }
        numbers = narrow.map { Float(bitPattern: UInt32($0) << 16) }
    }

    private static func bits(_ number: Float) -> UInt16 {
        let bits = number.bitPattern
        return UInt16(truncatingIfNeeded: (bits &+ 0x7FFF &+ (bits >> 16 & 1)) >> 16)
    }
}

/// The exact GELU of the papers: x Φ(x).
func gelu(_ x: Double) -> Double { 0.5 * x * (1 + erf(x / 2.0.squareRoot())) }

/// The quick one: x σ(1.702 x).
func quickGELU(_ x: Double) -> Double { x / (1 + exp(-1.702 * x)) }

/// A source of tensors that are given by name.
struct GivenWeights: WeightSource {
    let tensors: [String: Tensor]

    struct Missing: Error { let name: String }

    func tensor(_ name: String, shape: [Int]) throws -> Tensor {
        guard let tensor = tensors[name], tensor.shape == shape else { throw Missing(name: name) }
        return tensor
    }
}

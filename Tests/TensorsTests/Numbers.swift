import CKernels

/// Seeded numbers from −1 to 1.
struct Numbers {
    var state: UInt64

    mutating func next() -> Float {
        state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
        return Float(state >> 40) / Float(1 << 23) - 1
    }

    mutating func array(_ count: Int) -> [Float] { (0..<count).map { _ in next() } }
}

/// The bits of the nearest bf16 numbers.
func narrowed(_ x: [Float]) -> [UInt16] {
    var y = [UInt16](repeating: 0, count: x.count)
    kirie_kernels.plain.bf16_narrow(x.count, x, &y)
    return y
}

/// The number that these bits of bf16 are.
func widened(_ x: UInt16) -> Float { Float(bitPattern: UInt32(x) << 16) }

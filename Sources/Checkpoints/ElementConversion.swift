import Tensors

/// Conversions between the storage types and `Float`, each on runs of elements that need no alignment.
///
/// Widening is exact: every binary16 and bfloat16 number, denormals, infinities and NaN included, is a `Float`.
/// Narrowing rounds to nearest, ties to even.
enum ElementConversion {
    /// Widens `output.count` elements of `type` at `input`.
    static func widen(_ input: UnsafeRawPointer, of type: ElementType, to output: UnsafeMutableBufferPointer<Float>) {
        guard let target = output.baseAddress else { return }
        switch type {
        case .float32:
            UnsafeMutableRawPointer(target).copyMemory(from: input, byteCount: output.count * 4)
        case .float16:
            for index in 0..<output.count {
                target[index] = float(half: input.loadUnaligned(fromByteOffset: index &* 2, as: UInt16.self))
            }
        case .bfloat16:
            for index in 0..<output.count {
                let bits = UInt32(input.loadUnaligned(fromByteOffset: index &* 2, as: UInt16.self))
                target[index] = Float(bitPattern: bits << 16)
            }
        }
    }

    /// Rounds `output.count` elements of binary64; returns false where a finite number is beyond what `Float` can hold.
    static func round(doubles input: UnsafeRawPointer, to output: UnsafeMutableBufferPointer<Float>) -> Bool {
        var fits = true
        for index in output.indices {
            let wide = Double(
                bitPattern: UInt64(littleEndian: input.loadUnaligned(fromByteOffset: index &* 8, as: UInt64.self)))
            output[index] = Float(wide)
            fits = fits && (output[index].isFinite || !wide.isFinite)
        }
        return fits
    }

    /// Narrows the elements to `type`; returns false where a finite number is beyond what the type can hold.
    static func narrow(
        _ input: UnsafeBufferPointer<Float>, to type: ElementType, at output: UnsafeMutableRawPointer
    ) -> Bool {
        guard let source = input.baseAddress else { return true }
        var overflow: UInt32 = 0
        switch type {
        case .float32:
            output.copyMemory(from: source, byteCount: input.count * 4)
        case .float16:
            for index in 0..<input.count {
                let half = Float16(source[index])
                output.storeBytes(of: half.bitPattern, toByteOffset: index &* 2, as: UInt16.self)
                overflow |= half.isInfinite && source[index].isFinite ? 1 : 0
            }
        case .bfloat16:
            for index in 0..<input.count {
                let bits = bfloat16(source[index])
                output.storeBytes(of: bits, toByteOffset: index &* 2, as: UInt16.self)
                overflow |= bits & 0x7fff == 0x7f80 && source[index].isFinite ? 1 : 0
            }
        }
        return overflow == 0
    }

    /// The exact value of a binary16, without a branch and without denormal arithmetic, so that it is vectorised and
    /// does not depend on the thread's flush-to-zero mode.
    ///
    /// The exponent is rebased by adding; a denormal is first read as if it had the implicit one, which subtracting
    /// 2^-14 takes off again and normalises on the way.
    @inline(__always)
    static func float(half: UInt16) -> Float {
        let wide = UInt32(half)
        let exponent = wide & 0x7c00
        let magnitude = ((wide & 0x7fff) &<< 13) &+ 0x3800_0000
        let special = exponent == 0x7c00 ? magnitude &+ 0x3800_0000 : magnitude
        let denormal = (Float(bitPattern: magnitude &+ 0x0080_0000) - Float(bitPattern: 0x3880_0000)).bitPattern
        return Float(bitPattern: (exponent == 0 ? denormal : special) | (wide & 0x8000) &<< 16)
    }

    @inline(__always)
    private static func bfloat16(_ value: Float) -> UInt16 {
        let bits = value.bitPattern
        let rounded = UInt16(truncatingIfNeeded: (bits &+ 0x7fff &+ ((bits &>> 16) & 1)) &>> 16)
        let quietNaN = UInt16(truncatingIfNeeded: bits &>> 16) | 0x40
        return value.isNaN ? quietNaN : rounded
    }
}

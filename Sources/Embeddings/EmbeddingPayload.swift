import Segmentation
import Tensors

/// The numbers of a feature map in each of the three precisions.
enum EmbeddingPayload {
    static let maximumChannels = 4096
    static let maximumGrid = 1024
    /// No payload is larger: 1 GiB.
    static let maximumBytes = 1 << 30

    /// The size of a payload; nil where it is none that we store.
    ///
    /// The arguments are at most 2^12 and 2^20, so their products fit.
    static func byteCount(_ precision: EmbeddingPrecision, channels: Int, area: Int) -> Int? {
        guard (1...maximumChannels).contains(channels), (1...maximumGrid * maximumGrid).contains(area) else {
            return nil
        }
        let count = channels * area
        let bytes =
            switch precision {
            case .fp32: count * 4
            case .fp16: count * 2
            case .int8: scaleBytes(channels) + count
            }
        return bytes <= maximumBytes ? bytes : nil
    }

    /// Returns false when a number is infinite or none.
    static func write(
        _ map: FeatureMap, as precision: EmbeddingPrecision, to payload: UnsafeMutableRawBufferPointer
    ) -> Bool {
        // Scales belong to channels, so int8 is written channel by channel.
        let tensor = precision == .int8 && map.layout == .channelsLast ? channelsFirst(map) : map.tensor
        return tensor.withUnsafeBufferPointer { write($0, channels: map.channels, as: precision, to: payload) }
    }

    private static func channelsFirst(_ map: FeatureMap) -> Tensor {
        let (channels, area) = (map.channels, map.height * map.width)
        return Tensor(shape: [channels, area]) { turned in
            map.tensor.withUnsafeBufferPointer { numbers in
                for channel in 0..<channels {
                    for place in 0..<area { turned[channel * area + place] = numbers[place * channels + channel] }
                }
            }
        }
    }

    private static func write(
        _ numbers: UnsafeBufferPointer<Float>, channels: Int, as precision: EmbeddingPrecision,
        to payload: UnsafeMutableRawBufferPointer
    ) -> Bool {
        guard isFinite(numbers), let input = numbers.baseAddress, let output = payload.baseAddress else { return false }
        switch precision {
        case .fp32:
            #if _endian(little)
                output.copyMemory(from: input, byteCount: numbers.count * 4)
            #else
                for index in 0..<numbers.count {
                    payload.storeBytes(
                        of: numbers[index].bitPattern.littleEndian, toByteOffset: index * 4, as: UInt32.self)
                }
            #endif
        case .fp16: HalfPrecision.narrow(input, to: output.assumingMemoryBound(to: UInt16.self), count: numbers.count)
        case .int8:
            let area = numbers.count / channels
            payload.initializeMemory(as: UInt8.self, repeating: 0)
            let values = (output + scaleBytes(channels)).assumingMemoryBound(to: Int8.self)
            for channel in 0..<channels {
                let scale = ChannelQuantization.narrow(input + channel * area, to: values + channel * area, count: area)
                payload.storeBytes(of: scale.bitPattern.littleEndian, toByteOffset: channel * 4, as: UInt32.self)
            }
        }
        return true
    }

    /// Reads as many numbers as `numbers` holds; the payload has the size that ``byteCount(_:channels:area:)`` says.
    static func read(
        _ payload: UnsafeRawBufferPointer, as precision: EmbeddingPrecision, channels: Int, layout: FeatureMap.Layout,
        into numbers: UnsafeMutableBufferPointer<Float>
    ) {
        guard let input = payload.baseAddress, let output = numbers.baseAddress else { return }
        switch precision {
        case .fp32:
            for index in 0..<numbers.count {
                let bits = input.loadUnaligned(fromByteOffset: index &* 4, as: UInt32.self)
                output[index] = Float(bitPattern: UInt32(littleEndian: bits))
            }
        case .fp16: HalfPrecision.widen(input, to: output, count: numbers.count)
        case .int8:
            let area = numbers.count / channels
            let values = (input + scaleBytes(channels)).assumingMemoryBound(to: Int8.self)
            for channel in 0..<channels {
                let bits = input.loadUnaligned(fromByteOffset: channel * 4, as: UInt32.self)
                let scale = Float(bitPattern: UInt32(littleEndian: bits))
                let from = values + channel * area
                switch layout {
                case .channelsFirst:
                    let to = output + channel * area
                    for index in 0..<area { to[index] = Float(from[index]) * scale }
                case .channelsLast:
                    for index in 0..<area { output[index * channels + channel] = Float(from[index]) * scale }
                }
            }
        }
    }

    private static func scaleBytes(_ channels: Int) -> Int { (channels * 4 + 63) / 64 * 64 }

    /// No bits of the exponent are all ones: a loop without branches, so that the compiler makes vectors of it.
    private static func isFinite(_ numbers: UnsafeBufferPointer<Float>) -> Bool {
        var largest: UInt32 = 0
        for number in numbers { largest = max(largest, number.bitPattern & 0x7fff_ffff) }
        return largest < 0x7f80_0000
    }
}

/// binary32 to binary16 and back, by integer arithmetic without branches, so that the compiler makes vectors of it.
///
/// On x86-64 without F16C `Float16` is a call for every number, which takes ten times as long; the tests hold every
/// result against it.
package enum HalfPrecision {
    /// Rounds finite numbers to the nearest half, ties to even; magnitudes beyond 65504 become 65504.
    package static func narrow(_ input: UnsafePointer<Float>, to output: UnsafeMutablePointer<UInt16>, count: Int) {
        for index in 0..<count {
            let bits = Int32(bitPattern: input[index].bitPattern)
            let sign = (bits >> 16) & 0x8000
            let magnitude = min(bits & 0x7fff_ffff, 0x477f_e000)
            // Rebias the exponent by 15 - 127 and round at bit 13, ties to the even neighbour.
            let normal = (magnitude &- 0x3800_0000 &+ 0xfff &+ ((magnitude >> 13) & 1)) >> 13
            // Below 2^-14 the unit of 0.5's fraction is the half's: the addition rounds as the hardware does.
            let shifted = Float(bitPattern: UInt32(bitPattern: magnitude)) + 0.5
            let denormal = Int32(bitPattern: shifted.bitPattern) &- 0x3f00_0000
            let half = magnitude < 0x3880_0000 ? denormal : normal
            output[index] = UInt16(truncatingIfNeeded: sign | half).littleEndian
        }
    }

    /// Reads `count` little-endian halves at any alignment: exact for every half, denormals, infinities and NaN
    /// included.
    package static func widen(_ input: UnsafeRawPointer, to output: UnsafeMutablePointer<Float>, count: Int) {
        let rebias = Float(bitPattern: 0x7780_0000)  // 2^112
        for index in 0..<count {
            let half = UInt32(UInt16(littleEndian: input.loadUnaligned(fromByteOffset: index &* 2, as: UInt16.self)))
            let magnitude = (half & 0x7fff) << 13
            let finite = (Float(bitPattern: magnitude) * rebias).bitPattern
            let number = magnitude >= 0x0f80_0000 ? magnitude | 0x7f80_0000 : finite
            output[index] = Float(bitPattern: number | (half & 0x8000) << 16)
        }
    }
}

/// A channel as signed bytes and one scale.
enum ChannelQuantization {
    /// Writes `round(number / scale)`, ties to even, and returns the scale: the largest magnitude / 127.
    static func narrow(_ input: UnsafePointer<Float>, to output: UnsafeMutablePointer<Int8>, count: Int) -> Float {
        var largest: UInt32 = 0
        for index in 0..<count { largest = max(largest, input[index].bitPattern & 0x7fff_ffff) }
        let magnitude = Float(bitPattern: largest)
        // So small a channel would make the reciprocal infinite; it is zero for every purpose.
        guard magnitude > 1e-30 else {
            for index in 0..<count { output[index] = 0 }
            return 0
        }
        let inverse = 127 / magnitude
        for index in 0..<count {
            // Adding 1.5 * 2^23 leaves the rounded integer in the lowest bits.
            let shifted = input[index] * inverse + 12_582_912
            output[index] = Int8(truncatingIfNeeded: shifted.bitPattern)
        }
        return magnitude / 127
    }
}

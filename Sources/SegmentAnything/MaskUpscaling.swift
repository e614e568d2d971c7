import CKernels
import NeuralNetworks
import Tensors

/// Brings the image features to four times the grid and takes their product with each mask's weights
/// (`mask_decoder.output_upscaling` and the hypernetwork product).
///
/// A transposed convolution of 2 × 2 with stride 2 is a matrix product that writes four pixels per token; both of
/// them, their norm and GELU, and the product run on one tile at a time, and only the asked-for masks are made.
struct MaskUpscaling: Sendable {
    private let channels: Int
    private let grid: Int
    /// (4 · C/4, C): row s · C/4 + c makes channel c of sub-pixel s = 2 · row + column.
    private let first: Tensor
    private let firstBias: Tensor
    private let norm: LayerNorm
    /// (4 · C/8, C/4).
    private let second: Tensor
    private let secondBias: Tensor

    /// C / 4 and C / 8: channels after the first and the second convolution.
    var middle: Int { channels / 4 }
    var fine: Int { channels / 8 }

    init(_ weights: some WeightSource, channels: Int, grid: Int) throws {
        self.channels = channels
        self.grid = grid
        let name = "mask_decoder.output_upscaling"
        let (middle, fine) = (channels / 4, channels / 8)
        first = Self.bySubpixel(try weights.tensor("\(name).0.weight", shape: [channels, middle, 2, 2]))
        let bias = try weights.tensor("\(name).0.bias", shape: [middle]).elements
        firstBias = Tensor(shape: [4 * middle], bias + bias + bias + bias)
        norm = try LayerNorm(weights, "\(name).1", features: middle, epsilon: 1e-6)
        second = Self.bySubpixel(try weights.tensor("\(name).3.weight", shape: [middle, fine, 2, 2]))
        secondBias = try weights.tensor("\(name).3.bias", shape: [fine])
    }

    /// (inputs, outputs, 2, 2) to (4 · outputs, inputs).
    private static func bySubpixel(_ weight: Tensor) -> Tensor {
        let (inputs, outputs) = (weight.shape[0], weight.shape[1])
        return Tensor(shape: [4 * outputs, inputs]) { memory in
            weight.withUnsafeBufferPointer { weight in
                for input in 0..<inputs {
                    for output in 0..<outputs {
                        for s in 0..<4 {
                            memory[(s * outputs + output) * inputs + input] = weight[(input * outputs + output) * 4 + s]
                        }
                    }
                }
            }
        }
    }

    /// Writes the low-resolution logits.
    ///
    /// - Parameters:
    ///   - image: (tiles, C, 64).
    ///   - weights: (masks, C / 8), from the hypernetworks.
    ///   - logits: (masks, 4g, 4g).
    func callAsFunction(
        image: UnsafePointer<Float>, weights: UnsafePointer<Float>, masks: Int,
        logits: UnsafeMutablePointer<Float>, pool: ThreadPool
    ) {
        let tokens = grid * grid
        pool.parallel(ImageTiles.tileCount(tokens)) { tile in
            Scratch.withFloats(channels * 64 + 4 * fine * 64 + masks * 16 * 64) { memory in
                let coarse = memory
                let mixed = coarse + channels * 64
                let pixels = mixed + 4 * fine * 64
                first.withUnsafeBufferPointer { first in
                    firstBias.withUnsafeBufferPointer { bias in
                        kirie_product(
                            4 * middle, 64, channels, first.baseAddress, channels, 1, image + tile * channels * 64,
                            64, coarse, 64, bias.baseAddress, nil, 0)
                    }
                }
                pixels.update(repeating: 0, count: masks * 16 * 64)
                for s in 0..<4 {
                    let part = coarse + s * middle * 64
                    norm.normalizeColumns(64, x: part, stride: 64)
                    kirie_gelu(middle * 64, part)
                    second.withUnsafeBufferPointer { second in
                        kirie_product(
                            4 * fine, 64, middle, second.baseAddress, middle, 1, part, 64, mixed, 64, nil, nil, 0)
                    }
                    secondBias.withUnsafeBufferPointer { bias in
                        for t in 0..<4 {
                            kirie_gelu_dot(
                                fine, masks, mixed + t * fine * 64, 64, bias.baseAddress, weights, fine,
                                pixels + (s * 4 + t) * 64, 16 * 64)
                        }
                    }
                }
                scatter(tile: tile, pixels: pixels, masks: masks, logits: logits)
            }
        }
    }

    /// From (masks, 4 sub-pixels, 4 sub-sub-pixels, 64 tokens) to the picture.
    private func scatter(
        tile: Int, pixels: UnsafePointer<Float>, masks: Int, logits: UnsafeMutablePointer<Float>
    ) {
        let side = 4 * grid
        let first = tile * 64
        for mask in 0..<masks {
            for s in 0..<4 {
                for t in 0..<4 {
                    let source = pixels + (mask * 16 + s * 4 + t) * 64
                    let (dy, dx) = (s / 2 * 2 + t / 2, s % 2 * 2 + t % 2)
                    for lane in 0..<min(64, grid * grid - first) {
                        let token = first + lane
                        let (row, column) = (token / grid, token % grid)
                        logits[(mask * side + 4 * row + dy) * side + 4 * column + dx] = source[lane]
                    }
                }
            }
        }
    }
}

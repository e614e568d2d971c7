import NeuralNetworks
import Tensors

/// What SAM-HQ's mask is fused with, of a picture alone: early features of the image encoder and its last ones, each scaled up
/// to four times the grid, and summed.
///
/// Ke et al., "Segment Anything in High Quality", 2023, <https://arxiv.org/abs/2306.01567>, section 3.2, "global-local fusion".
/// The mask decoder has these weights (`compress_vit_feat`, `embedding_encoder`), but nothing of them depends on a prompt, so
/// they are the image encoder's here and their sum is a map of the embedding's record, ``FeatureMap/highQuality``.
struct HighQualityFeatures: Sendable {
    /// Two transposed convolutions of 2 × 2 with stride 2, a norm and GELU between them.
    private struct Upscaling: Sendable {
        let inputs: Int
        let middle: Int
        let first: Projection
        let norm: LayerNorm
        let second: Projection
        let outputs: Int

        init(
            _ weights: some WeightSource, _ name: String, inputs: Int, middle: Int, outputs: Int, type: ElementType
        ) throws {
            func convolution(_ index: Int, _ inputs: Int, _ outputs: Int) throws -> Projection {
                let layer = TensorNames.part(index, of: name)
                let weight = try weights.tensor(TensorNames.weight(layer), shape: [inputs, outputs, 2, 2])
                let bias = try weights.tensor("\(layer).bias", shape: [outputs]).elements
                return Projection(
                    weight: MaskUpscaling.bySubpixel(weight),
                    bias: Tensor(shape: [4 * outputs], bias + bias + bias + bias), input: type)
            }
            (self.inputs, self.middle, self.outputs) = (inputs, middle, outputs)
            first = try convolution(0, inputs, middle)
            norm = try LayerNorm(weights, TensorNames.part(1, of: name), features: middle, epsilon: 1e-6)
            second = try convolution(3, middle, outputs)
        }

        /// Rows of tokens, (count, inputs), to (16 · count, outputs), by token, sub-pixel, and its own sub-pixel.
        func callAsFunction(_ count: Int, x: Features, y: UnsafeMutablePointer<Float>) {
            Scratch.withFloats(count * 4 * middle) { hidden in
                first(rows: count, x: x, y: Features(hidden, stride: 4 * middle))
                let rows = Features(hidden, stride: middle)
                norm(rows: 4 * count, x: rows, y: rows)
                applyGELU(count * 4 * middle, hidden)
                second(rows: 4 * count, x: rows, y: Features(y, stride: 4 * outputs))
            }
        }
    }

    private static let rowsAtOnce = 64

    private let grid: Int
    private let early: Upscaling
    private let last: Upscaling

    /// Numbers of the map.
    var count: Int { 16 * grid * grid * last.outputs }

    /// Reads `mask_decoder.compress_vit_feat` and `mask_decoder.embedding_encoder`.
    ///
    /// - Parameters:
    ///   - weights: a checkpoint's.
    ///   - inputs: features of the early tokens.
    ///   - channels: C.
    ///   - grid: g.
    ///   - type: of the products' inputs.
    /// - Throws: what the weights throw where a tensor is missing or of another shape.
    init(_ weights: some WeightSource, inputs: Int, channels: Int, grid: Int, type: ElementType) throws {
        self.grid = grid
        early = try Upscaling(
            weights, TensorNames.HighQuality.early, inputs: inputs, middle: channels, outputs: channels / 8, type: type)
        last = try Upscaling(
            weights, TensorNames.HighQuality.last, inputs: channels, middle: channels / 4, outputs: channels / 8,
            type: type)
    }

    /// Writes what early tokens, (g², inputs) in fp32, come to: `map` has a row of C / 8 for each of (4g)² positions.
    func write(early x: Features, to map: UnsafeMutablePointer<Float>, pool: ThreadPool) {
        pool.parallelRows(grid * grid, block: Self.rowsAtOnce) { rows in
            upscale(rows, by: early, x: x.from(row: rows.lowerBound)) { source, place in
                (map + place).update(from: source, count: early.outputs)
            }
        }
    }

    /// Adds what the embedding, (1, C, g, g), comes to.
    ///
    /// - Returns: (1, C / 8, 4g, 4g).
    func adding(_ embedding: Tensor, to map: UnsafeMutablePointer<Float>, pool: ThreadPool) -> Tensor {
        let (tokens, channels, outputs) = (grid * grid, last.inputs, last.outputs)
        pool.parallelRows(tokens, block: Self.rowsAtOnce) { rows in
            Scratch.withFloats(rows.count * channels) { turned in
                embedding.withUnsafeBufferPointer { embedding in
                    for (index, token) in rows.enumerated() {
                        for channel in 0..<channels {
                            turned[index * channels + channel] = embedding[channel * tokens + token]
                        }
                    }
                }
                upscale(rows, by: last, x: Features(turned, stride: channels)) { source, place in
                    TileSteps.add(outputs, source, to: map + place)
                }
            }
        }
        return Tensor(shape: [1, outputs, 4 * grid, 4 * grid]) { memory in
            guard let memory = memory.baseAddress else { return }
            pool.parallelRows(16 * tokens, block: 256) { rows in
                TileSteps.transpose(
                    rows: rows.count, columns: outputs, map + rows.lowerBound * outputs, stride: outputs,
                    to: memory + rows.lowerBound, stride: 16 * tokens)
            }
        }
    }

    /// Scales up tokens of the grid and gives each row of the answer with the place of its position in the map.
    private func upscale(
        _ tokens: Range<Int>, by upscaling: Upscaling, x: Features, store: (UnsafePointer<Float>, Int) -> Void
    ) {
        let outputs = upscaling.outputs
        Scratch.withFloats(tokens.count * 16 * outputs) { fine in
            upscaling(tokens.count, x: x, y: fine)
            for (index, token) in tokens.enumerated() {
                for part in 0..<16 {
                    let (corner, inner) = (part / 4, part % 4)
                    let row = 4 * (token / grid) + 2 * (corner / 2) + inner / 2
                    let column = 4 * (token % grid) + 2 * (corner % 2) + inner % 2
                    store(fine + (index * 16 + part) * outputs, (row * 4 * grid + column) * outputs)
                }
            }
        }
    }
}

extension FeatureMap {
    /// What SAM-HQ's mask is fused with, (1, C / 8, 4g, 4g).
    package static let highQuality = "high_quality"
}

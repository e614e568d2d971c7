import NeuralNetworks
import Tensors

/// What SAM 2 makes of its trunk's maps of strides 4, 8, 16 and 32: those that the mask decoder takes.
///
/// The embedding, of stride 16, with that of stride 32 and the embedding of "no memory" added; and the maps of strides 8 and
/// 4 as they are added while a mask is scaled up, through `conv_s1` and `conv_s0` of the mask decoder. These follow the
/// pyramid's own 1 × 1 convolutions without anything in between, so both are one matrix here, made when the weights are read.
///
/// Lin et al., "Feature Pyramid Networks", 2017, <https://arxiv.org/abs/1612.03144>; Ravi et al., "SAM 2", 2024,
/// <https://arxiv.org/abs/2408.00714>, appendix D.1.
struct SegmentAnything2Pyramid: Sendable {
    /// Stages of the trunk.
    static let stageCount = 4

    private let channels: Int
    /// Tokens along a side at each stage.
    private let grids: [Int]
    /// Whether the map of stride 16 has that of stride 32 added.
    private let isFused: Bool
    /// By stage.
    private let laterals: [Projection]
    /// (C), added to the embedding.
    private let noMemory: [Float]

    /// Reads `image_encoder.neck.convs.*`, `no_mem_embed`, and the mask decoder's `conv_s0` and `conv_s1`.
    ///
    /// - Parameters:
    ///   - weights: a checkpoint's.
    ///   - dims: features of each stage's map.
    ///   - channels: C.
    ///   - grids: tokens along a side of each stage's map, each half of the one before.
    ///   - isFused: whether the coarsest map is added to the one before.
    ///   - type: of the products' inputs.
    /// - Throws: what the weights throw where a tensor is missing or of another shape.
    init(
        _ weights: some WeightSource, dims: [Int], channels: Int, grids: [Int], isFused: Bool, type: ElementType
    ) throws {
        self.channels = channels
        self.grids = grids
        self.isFused = isFused
        laterals = try dims.enumerated().map { stage, dim in
            // The pyramid's convolutions are kept from the coarse to the fine.
            let name = TensorNames.Hiera.lateral(Self.stageCount - 1 - stage)
            let weight = try weights.tensor(TensorNames.weight(name), shape: [channels, dim, 1, 1])
                .reshaped(to: [channels, dim])
            let bias = try weights.tensor("\(name).bias", shape: [channels])
            guard stage < 2 else { return Projection(weight: weight, bias: bias, input: type) }
            let skip = TensorNames.MaskDecoder.skips[stage]
            let outputs = channels / (stage == 0 ? 8 : 4)
            let (joined, shift) = Self.joined(
                try weights.tensor("\(skip).weight", shape: [outputs, channels, 1, 1]),
                try weights.tensor("\(skip).bias", shape: [outputs]), after: weight, bias)
            return Projection(weight: joined, bias: shift, input: type)
        }
        noMemory = try weights.tensor(TensorNames.Hiera.noMemory, shape: [1, 1, channels]).elements
    }

    /// One matrix (outputs, dim) and its bias for two convolutions of 1 × 1.
    private static func joined(_ second: Tensor, _ shift: Tensor, after first: Tensor, _ bias: Tensor) -> (
        Tensor, Tensor
    ) {
        let (outputs, inner, dim) = (second.shape[0], second.shape[1], first.shape[1])
        let weight = Tensor(shape: [outputs, dim], packing: first) { memory in
            let (a, b) = (second.elements, first.elements)
            for row in 0..<outputs {
                var sums = [Double](repeating: 0, count: dim)
                for k in 0..<inner {
                    let factor = Double(a[row * inner + k])
                    for column in 0..<dim { sums[column] += factor * Double(b[k * dim + column]) }
                }
                for column in 0..<dim { memory.initializeElement(at: row * dim + column, to: Float(sums[column])) }
            }
        }
        let moved = Tensor(shape: [outputs], packing: bias) { memory in
            let (a, b, shift) = (second.elements, bias.elements, shift.elements)
            for row in 0..<outputs {
                let sum = (0..<inner).reduce(Double(shift[row])) { $0 + Double(a[row * inner + $1]) * Double(b[$1]) }
                memory.initializeElement(at: row, to: Float(sum))
            }
        }
        return (weight, moved)
    }

    /// What a stage's rows of tokens (rows, dim), fp32, become; valid during the call of `body`.
    func project(stage: Int, rows: Int, tokens: Features, _ body: (_ projected: Features, _ width: Int) -> Void) {
        let lateral = laterals[stage]
        Scratch.withFloats(rows * lateral.outputs) { scratch in
            let projected = Features(scratch, stride: lateral.outputs)
            lateral(rows: rows, x: tokens, y: projected)
            body(projected, lateral.outputs)
        }
    }

    /// The maps of the decoder; `fill` writes all of each stage's map, (grid², width).
    func maps(pool: ThreadPool, _ fill: (_ maps: [Features]) -> Void) -> [FeatureMap] {
        let sizes = zip(grids, laterals).map { $0 * $0 * $1.outputs }
        func parts(_ parts: inout MemoryParts) -> [Features] {
            zip(sizes, laterals).map { Features(parts.floats($0), stride: $1.outputs) }
        }
        var counted = MemoryParts(nil)
        _ = parts(&counted)
        return Scratch.withFloats(counted.count) { memory in
            var handedOut = MemoryParts(memory)
            let maps = parts(&handedOut)
            fill(maps)
            fuse(coarse: maps[3], into: maps[2], pool: pool)
            return zip([FeatureMap.imageEmbedding] + FeatureMap.skips, [2, 1, 0]).map { name, stage in
                FeatureMap(
                    name, channelsFirst(maps[stage], grid: grids[stage], channels: laterals[stage].outputs, pool: pool))
            }
        }
    }

    /// Adds each cell of stride 32 to its four of stride 16, and the embedding of no memory to all.
    private func fuse(coarse: Features, into fine: Features, pool: ThreadPool) {
        let grid = grids[2]
        pool.parallelRows(grid, block: 4) { rows in
            for token in rows.lowerBound * grid..<rows.upperBound * grid {
                let target = fine.from(row: token).floats
                if isFused {
                    let cell = token / grid / 2 * (grid / 2) + token % grid / 2
                    TileSteps.add(channels, coarse.from(row: cell).floats, to: target)
                }
                TileSteps.add(channels, noMemory, to: target)
            }
        }
    }

    /// (grid², channels) to (1, channels, grid, grid).
    private func channelsFirst(_ map: Features, grid: Int, channels: Int, pool: ThreadPool) -> Tensor {
        let cells = grid * grid
        return Tensor(shape: [1, channels, grid, grid]) { memory in
            guard let memory = memory.baseAddress else { return }
            pool.parallelRows(cells, block: 256) { rows in
                TileSteps.transpose(
                    rows: rows.count, columns: channels, map.from(row: rows.lowerBound).floats, stride: channels,
                    to: memory + rows.lowerBound, stride: cells)
            }
        }
    }
}

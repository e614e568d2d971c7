import CKernels
import Glibc
import NeuralNetworks
import Tensors

/// The passes of one prompt over the image, tile by tile, on the threads of a pool.
///
/// Image tokens are split into blocks of a fixed number of tiles; each block keeps its own running softmax, and the
/// blocks are merged in order, so that the sums do not depend on which thread did which block.
struct ImagePass {
    let channels: Int
    /// Tokens of the prompt and the outputs.
    let count: Int
    let state: TwoWayTransformer.ImageState
    let positions: ImageTiles
    /// (tiles, C, 64): the image features as the last pass left them.
    let image: UnsafeMutablePointer<Float>
    let pool: ThreadPool
    private let tilesAtOnce: Int

    /// One row per token and head: row t · 8 + h.
    private var rows: Int { count * DecoderHeads.count }
    /// The same rounded up to whole vectors.
    private var columns: Int { (rows + 15) / 16 * 16 }
    private var tileCount: Int { state.image.tileCount }
    private var blockCount: Int { (tileCount + tilesAtOnce - 1) / tilesAtOnce }
    private func tiles(of block: Int) -> Range<Int> {
        block * tilesAtOnce..<min(tileCount, (block + 1) * tilesAtOnce)
    }

    init(
        channels: Int, count: Int, state: TwoWayTransformer.ImageState, positions: ImageTiles,
        image: UnsafeMutablePointer<Float>, pool: ThreadPool, tilesAtOnce: Int
    ) {
        self.channels = channels
        self.count = count
        self.state = state
        self.positions = positions
        self.image = image
        self.pool = pool
        self.tilesAtOnce = tilesAtOnce
    }

    // MARK: tokens look at the image

    /// The first layer: keys and values were projected when the image was prepared.
    func readFirst(
        _ attention: TokenToImageAttention, placed: UnsafePointer<Float>, tokens: UnsafeMutablePointer<Float>
    ) {
        let (inner, headSize, padded) = (attention.inner, attention.headSize, attention.headPadded)
        let width = DecoderHeads.count * padded
        let perBlock = 2 * rows + count * width
        Scratch.withFloats(count * inner * 2 + blockCount * perBlock) { memory in
            let q = memory
            let read = memory + count * inner
            let partial = memory + 2 * count * inner
            attention.queries(placed, count: count, q: q, pool: pool)
            pool.parallel(blockCount) { block in
                let maximum = partial + block * perBlock
                let total = maximum + rows
                let sums = total + rows
                maximum.update(repeating: -1e30, count: rows)
                total.update(repeating: 0, count: rows + count * width)
                Scratch.withFloats(rows * 65) { scores in
                    let factor = scores + rows * 64
                    for tile in tiles(of: block) {
                        state.keys.withTile(tile) { keys in
                            for head in 0..<DecoderHeads.count {
                                kirie_product(
                                    count, 64, headSize, q + head * headSize, inner, 1, keys + head * headSize * 64,
                                    64, scores + head * 64, DecoderHeads.count * 64, nil, nil, 0)
                            }
                        }
                        kirie_softmax_step(rows, state.image.valid(tile), scores, maximum, total, factor)
                        for token in 0..<count {
                            for head in 0..<DecoderHeads.count {
                                let factor = factor[token * DecoderHeads.count + head]
                                let line = sums + token * width + head * padded
                                for d in 0..<padded { line[d] *= factor }
                            }
                        }
                        state.values.withUnsafeBufferPointer { values in
                            guard let values = values.baseAddress else { return }
                            for head in 0..<DecoderHeads.count {
                                kirie_product(
                                    count, padded, 64, scores + head * 64, DecoderHeads.count * 64, 1,
                                    values + tile * 64 * width + head * padded, width, sums + head * padded, width,
                                    nil, nil, 1)
                            }
                        }
                    }
                }
            }
            // Merge the blocks' softmaxes in order.
            for row in 0..<rows {
                let (token, head) = (row / DecoderHeads.count, row % DecoderHeads.count)
                let weights = mergeWeights(row, partial: partial, perBlock: perBlock)
                for d in 0..<headSize {
                    var sum: Float = 0
                    for block in 0..<blockCount {
                        sum += weights[block] * partial[block * perBlock + 2 * rows + token * width + head * padded + d]
                    }
                    read[token * inner + head * headSize + d] = sum
                }
            }
            attention.finish(read: read, count: count, tokens: tokens, pool: pool)
        }
    }

    /// By how much each block's sum counts: e^(maximum − overall maximum) / total.
    private func mergeWeights(_ row: Int, partial: UnsafePointer<Float>, perBlock: Int) -> [Float] {
        var top = -Float.greatestFiniteMagnitude
        for block in 0..<blockCount { top = max(top, partial[block * perBlock + row]) }
        var weights = [Float](repeating: 0, count: blockCount)
        var total: Float = 0
        for block in 0..<blockCount {
            weights[block] = expf(partial[block * perBlock + row] - top)
            total += weights[block] * partial[block * perBlock + rows + row]
        }
        for block in 0..<blockCount { weights[block] /= total }
        return weights
    }

    // MARK: the image looks at the tokens

    /// One pass: the image takes in what the tokens say, is normalised, and the next attention's tokens look at it.
    ///
    /// - Parameters:
    ///   - message: what the tokens say.
    ///   - isFirst: whether the image is still as it was prepared, with its queries projected.
    ///   - attention: the attention that reads the result; its output is added to `tokens`.
    ///   - placed: those tokens with their positions.
    func write(
        _ message: TokenMessage, norm: LayerNorm, isFirst: Bool, reading attention: TokenToImageAttention,
        placed: UnsafePointer<Float>, tokens: UnsafeMutablePointer<Float>
    ) {
        let inner = attention.inner
        let perBlock = 2 * rows + channels * columns
        Scratch.withFloats(count * inner * 2 + rows * channels + blockCount * perBlock) { memory in
            let q = memory
            let read = q + count * inner
            let probes = read + count * inner
            let partial = probes + rows * channels
            attention.queries(placed, count: count, q: q, pool: pool)
            attention.probes(q, count: count, probes: probes)
            pool.parallel(blockCount) { block in
                let maximum = partial + block * perBlock
                let total = maximum + rows
                let sums = total + rows
                maximum.update(repeating: -1e30, count: rows)
                total.update(repeating: 0, count: rows + channels * columns)
                // Positioned features, scores, factors, weights transposed.
                Scratch.withFloats(channels * 64 + rows * 64 + columns + 64 * columns) { tileMemory in
                    let positioned = tileMemory
                    let scores = positioned + channels * 64
                    let factor = scores + rows * 64
                    let weights = factor + columns
                    factor.update(repeating: 0, count: columns + 64 * columns)
                    for tile in tiles(of: block) {
                        takeIn(message, tile: tile, isFirst: isFirst, scores: scores, positioned: positioned)
                        let features = image + tile * channels * 64
                        norm.normalizeColumns(64, x: features, stride: 64)
                        position(tile, features: features, positioned: positioned)
                        kirie_product(
                            rows, 64, channels, probes, channels, 1, positioned, 64, scores, 64, nil, nil, 0)
                        kirie_softmax_step(rows, state.image.valid(tile), scores, maximum, total, factor)
                        kirie_transpose64(rows, scores, weights, columns)
                        kirie_scale_columns(channels, columns, factor, sums, columns)
                        kirie_product(
                            channels, columns, 64, features, 64, 1, weights, columns, sums, columns, nil, nil, 1)
                    }
                }
            }
            merge(partial: partial, perBlock: perBlock)
            attention.project(sums: partial + 2 * rows, sumStride: columns, count: count, read: read)
            attention.finish(read: read, count: count, tokens: tokens, pool: pool)
        }
    }

    /// features(tile) += what each image token takes from the tokens, before the norm.
    private func takeIn(
        _ message: TokenMessage, tile: Int, isFirst: Bool, scores: UnsafeMutablePointer<Float>,
        positioned: UnsafeMutablePointer<Float>
    ) {
        let features = image + tile * channels * 64
        if isFirst {
            state.image.withTile(tile) { features.update(from: $0, count: channels * 64) }
            state.queries.withTile(tile) { queries in
                let (inner, headSize) = (message.inner, message.inner / DecoderHeads.count)
                for head in 0..<DecoderHeads.count {
                    message.keys.withUnsafeBufferPointer { keys in
                        guard let keys = keys.baseAddress else { return }
                        kirie_product(
                            count, 64, headSize, keys + head * headSize, inner, 1, queries + head * headSize * 64, 64,
                            scores + head * 64, DecoderHeads.count * 64, nil, nil, 0)
                    }
                }
            }
        } else {
            position(tile, features: features, positioned: positioned)
            kirie_product(
                rows, 64, channels, message.probes, channels, 1, positioned, 64, scores, 64, message.shifts, nil, 0)
        }
        kirie_softmax_over_tokens(count, DecoderHeads.count, scores)
        message.outputBias.withUnsafeBufferPointer { bias in
            kirie_product(
                channels, 64, rows, message.gifts, 1, channels, scores, 64, features, 64, bias.baseAddress, nil, 1)
        }
    }

    /// positioned = features + positions of the tile.
    private func position(
        _ tile: Int, features: UnsafePointer<Float>, positioned: UnsafeMutablePointer<Float>
    ) {
        positions.withTile(tile) { places in
            positioned.update(from: places, count: channels * 64)
            kirie_add(channels * 64, features, positioned)
        }
    }

    /// Merges the blocks' sums (C, columns) into those of block 0, divided by the softmax's total.
    private func merge(partial: UnsafeMutablePointer<Float>, perBlock: Int) {
        Scratch.withFloats(blockCount * columns) { factors in
            factors.update(repeating: 0, count: blockCount * columns)
            for row in 0..<rows {
                for (block, weight) in mergeWeights(row, partial: partial, perBlock: perBlock).enumerated() {
                    factors[block * columns + row] = weight
                }
            }
            let sums = partial + 2 * rows
            kirie_scale_columns(channels, columns, factors, sums, columns)
            for block in 1..<max(1, blockCount) {
                let more = sums + block * perBlock
                kirie_scale_columns(channels, columns, factors + block * columns, more, columns)
                kirie_add(channels * columns, more, sums)
            }
        }
    }
}

/// What the tokens say to the image in one pass.
struct TokenMessage {
    let inner: Int
    /// Scaled keys, (count, inner): for an image whose queries were projected.
    let keys: [Float]
    /// The keys at the image's width, (count · 8, C), and what the queries' bias adds, (count · 8): for any other.
    let probes: [Float]
    let shifts: [Float]
    /// What each token's heads give, (count · 8, C).
    let gifts: [Float]
    /// (C).
    let outputBias: Tensor

    /// - Parameters:
    ///   - placed: the tokens with their positions, (count, C).
    ///   - tokens: the tokens without them.
    init(
        _ attention: ImageToTokenAttention, placed: UnsafePointer<Float>, tokens: UnsafePointer<Float>, count: Int,
        pool: ThreadPool
    ) {
        let rows = count * DecoderHeads.count
        let keys = Self.array(count * attention.inner) { attention.keys(placed, count: count, k: $0, pool: pool) }
        var shifts: [Float] = []
        probes = Self.array(rows * attention.channels) { probes in
            shifts = Self.array(rows) { attention.probes(keys, count: count, probes: probes, shifts: $0) }
        }
        self.shifts = shifts
        self.keys = keys
        gifts = Self.array(rows * attention.channels) {
            attention.gifts(tokens, count: count, gifts: $0, pool: pool)
        }
        inner = attention.inner
        outputBias = attention.outputBias
    }

    private static func array(_ count: Int, _ write: (UnsafeMutablePointer<Float>) -> Void) -> [Float] {
        [Float](unsafeUninitializedCapacity: count) { memory, initialized in
            if let start = memory.baseAddress { write(start) }
            initialized = count
        }
    }
}

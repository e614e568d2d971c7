import CKernels
import Glibc
import NeuralNetworks
import Tensors

/// A pass of one prompt over the image: layer l's tokens speak to it, and the next attention's tokens look at it.
///
/// Image tokens are split into blocks of a fixed number of tiles; each block keeps its own running softmax, and the
/// blocks are merged in order, so that the sums do not depend on which thread did which block.
extension PromptPass {
    private var heads: Int { DecoderHeads.count }

    /// Passes over the tiles of one block.
    ///
    /// - Parameter layer: whose tokens speak, and y_layer is read; with 0 nobody speaks.
    func run(block: Int, layer: Int) {
        let groups = layer * rows
        let memory = partial + block * partialSize
        let (maximum, total, valueSums) = (memory, memory + rows, memory + 2 * rows)
        let groupSums = valueSums + count * plan.valueWidth
        maximum.update(repeating: -1e30, count: rows)
        total.update(repeating: 0, count: rows + count * plan.valueWidth + groups * columns)
        let arithmetic = plan.arithmetic
        var sizes = MemoryParts(nil)
        _ = TileMemory(rows: rows, columns: columns, groups: groups, type: arithmetic.type, parts: &sizes)
        Scratch.withFloats(sizes.count) { scratch in
            var parts = MemoryParts(scratch)
            let tileMemory = TileMemory(
                rows: rows, columns: columns, groups: groups, type: arithmetic.type, parts: &parts)
            // Columns beyond the rows stand for nothing.
            tileMemory.shrink.update(repeating: 0, count: columns)
            memset(tileMemory.turned, 0, arithmetic.bytes(64 * columns))
            for tile in tiles(of: block) {
                if layer > 0 { takeIn(layer: layer, tile: tile, tileMemory) }
                score(layer: layer, tile: tile, tileMemory)
                kirie_softmax_step(
                    rows, state.valid(tile), tileMemory.scores, maximum, total, tileMemory.shrink)
                add(layer: layer, tile: tile, tileMemory, valueSums: valueSums, groupSums: groupSums)
            }
        }
    }

    /// Memory of one tile's steps.
    private struct TileMemory {
        /// (rows, 64).
        let scores: UnsafeMutablePointer<Float>
        /// (groups, 64).
        let overlap: UnsafeMutablePointer<Float>
        /// (64): a norm's factor.
        let factor: UnsafeMutablePointer<Float>
        /// (columns): by how much what was summed so far has to shrink.
        let shrink: UnsafeMutablePointer<Float>
        /// The groups' mix as a right operand over the groups, and as a left one over the tokens.
        let mixColumns: UnsafeMutableRawPointer
        let mixRows: UnsafeMutableRawPointer
        /// The weights as a left operand over the tokens, (rows, 64), and as a right one, (64, columns).
        let weights: UnsafeMutableRawPointer
        let turned: UnsafeMutableRawPointer

        init(rows: Int, columns: Int, groups: Int, type: ElementType, parts: inout MemoryParts) {
            scores = parts.floats(rows * 64)
            overlap = parts.floats(groups * 64)
            factor = parts.floats(64)
            shrink = parts.floats(columns)
            mixColumns = parts.numbers(groups * 64, type)
            mixRows = parts.numbers(groups * 64, type)
            weights = parts.numbers(rows * 64, type)
            turned = parts.numbers(64 * columns, type)
        }
    }

    private func mix(_ tile: Int) -> UnsafeMutablePointer<Float> { mix + tile * plan.depth * rows * 64 }

    /// scores (+)= each head of a left operand (count, inner) times the image's (inner, 64).
    private func perHead(
        _ a: UnsafeRawPointer, _ b: UnsafeRawPointer, _ scores: UnsafeMutablePointer<Float>, accumulate: Bool = false
    ) {
        plan.arithmetic.product(
            groups: heads, rows: count, depth: plan.headSize, a: a, aStep: plan.headSize, aStride: plan.inner, b: b,
            bStep: plan.headSize * 64, c: scores, cStep: 64, cStride: heads * 64, accumulate: accumulate)
    }

    /// The groups' mix as a right operand: in fp32 it is one already.
    private func mixColumns(_ tile: Int, groups: Int, from first: Int = 0, _ memory: TileMemory) -> UnsafeRawPointer {
        guard plan.arithmetic.isNarrow else { return UnsafeRawPointer(mix(tile)) }
        plan.arithmetic.writeColumns(
            depth: groups - first, mix(tile) + first * 64, to: memory.mixColumns + plan.arithmetic.bytes(first * 64))
        return UnsafeRawPointer(memory.mixColumns)
    }

    /// The image looks at layer `layer`'s tokens and is normalised: the mix and the running factor of the tile.
    private func takeIn(layer: Int, tile: Int, _ memory: TileMemory) {
        let (arithmetic, projections) = (plan.arithmetic, plan.projections)
        let (before, groups) = ((layer - 1) * rows, layer * rows)
        let running = running + tile * 64
        let new = mix(tile) + before * 64
        perHead(keys, state.section(projections.queries[layer - 1], tile), new)
        if layer == 1 {
            running.update(repeating: 1, count: 64)
        } else {
            kirie_scale_columns(rows, 64, running, new, 64)
            arithmetic.product(
                rows: rows, depth: before, a: writing, aStride: before,
                b: mixColumns(tile, groups: before, memory), c: new, accumulate: true)
            perHead(keys, plan.positions.queries(layer, tile), new, accumulate: true)
        }
        kirie_softmax_over_tokens(count, heads, new)

        // The sum of squares, and with it the norm's factor.
        for group in 1...layer {
            let target = memory.overlap + (group - 1) * rows * 64
            perHead(values(of: group), state.section(projections.overlaps[layer - 1][group - 1], tile), target)
            state.withScalars(projections.constant(layer, group), tile) { constant in
                for token in 0..<count { kirie_add(64, constant, target + token * heads * 64) }
            }
        }
        withUnsafeTemporaryAllocation(of: Float.self, capacity: 64) { twice in
            guard let twice = twice.baseAddress else { return }
            for lane in 0..<64 { twice[lane] = 2 * running[lane] }
            kirie_scale_columns(groups, 64, twice, memory.overlap, 64)
        }
        let columns = mixColumns(tile, groups: groups, from: before, memory)
        for group in 1...layer {
            arithmetic.product(
                rows: rows, depth: group * rows, a: quadratic(of: group), aStride: group * rows, b: columns,
                c: memory.overlap + (group - 1) * rows * 64, accumulate: true)
        }
        state.withScalars(projections.squares(layer), tile) { squares in
            kirie_norm_factors(
                groups, mix(tile), memory.overlap, squares, running, 1 / Float(plan.channels),
                plan.norms[layer - 1].epsilon, memory.factor)
        }
        kirie_scale_columns(groups, 64, memory.factor, mix(tile), 64)
    }

    /// The scores of the tokens that look at y_layer.
    private func score(layer: Int, tile: Int, _ memory: TileMemory) {
        perHead(queries, state.section(plan.projections.keys[layer], tile), memory.scores)
        guard layer > 0 else { return }
        let groups = layer * rows
        kirie_scale_columns(rows, 64, running + tile * 64, memory.scores, 64)
        plan.arithmetic.product(
            rows: rows, depth: groups, a: reading, aStride: groups, b: mixColumns(tile, groups: groups, memory),
            c: memory.scores, accumulate: true)
        perHead(queries, plan.positions.keys(layer, tile), memory.scores, accumulate: true)
    }

    /// Adds what the weights in `memory.scores` take of the tile.
    private func add(
        layer: Int, tile: Int, _ memory: TileMemory, valueSums: UnsafeMutablePointer<Float>,
        groupSums: UnsafeMutablePointer<Float>
    ) {
        let (arithmetic, padded, width) = (plan.arithmetic, plan.headPadded, plan.valueWidth)
        if layer > 0 {
            let groups = layer * rows
            var mixRows = UnsafeRawPointer(mix(tile))
            if arithmetic.isNarrow {
                arithmetic.writeRow(rows * 64, memory.scores, to: memory.weights)
                kirie_transpose(rows, 32, memory.weights, 32, memory.turned, columns)
                arithmetic.writeRow(groups * 64, mix(tile), to: memory.mixRows)
                mixRows = UnsafeRawPointer(memory.mixRows)
            } else {
                kirie_transpose(rows, 64, memory.scores, 64, memory.turned, columns)
            }
            kirie_scale_columns(groups, columns, memory.shrink, groupSums, columns)
            arithmetic.product(
                rows: groups, columns: columns, depth: 64, a: mixRows, aStride: 64, b: memory.turned, bStride: columns,
                c: groupSums, cStride: columns, accumulate: true)
            kirie_scale_columns(rows, 64, running + tile * 64, memory.scores, 64)
        }
        arithmetic.writeRow(rows * 64, memory.scores, to: memory.weights)
        for row in 0..<rows {
            let factor = memory.shrink[row]
            let line = valueSums + row / heads * width + row % heads * padded
            for d in 0..<padded { line[d] *= factor }
        }
        arithmetic.product(
            groups: heads, rows: count, columns: padded, depth: 64, a: memory.weights, aStep: 64, aStride: heads * 64,
            b: state.section(plan.projections.values[layer], tile), bStep: arithmetic.columnStep(padded),
            bStride: width, c: valueSums, cStep: padded, cStride: width, accumulate: true)
    }

    // MARK: the blocks together

    /// Merges the blocks' softmaxes in order: what the tokens read of y_layer, (count, inner), without the bias.
    func merge(layer: Int, attention: TokenToImageAttention, read: UnsafeMutablePointer<Float>) {
        let groups = layer * rows
        let (padded, width, size) = (plan.headPadded, plan.valueWidth, partialSize)
        Scratch.withFloats(blockCount * columns) { weights in
            weights.update(repeating: 0, count: blockCount * columns)
            for row in 0..<rows { weigh(row, weights) }
            for row in 0..<rows {
                let (token, head) = (row / heads, row % heads)
                let target = read + token * plan.inner + head * plan.headSize
                for d in 0..<plan.headSize { target[d] = 0 }
                for block in 0..<blockCount {
                    let weight = weights[block * columns + row]
                    let line = partial + block * size + 2 * rows + token * width + head * padded
                    for d in 0..<plan.headSize { target[d] += weight * line[d] }
                }
            }
            guard layer > 0 else { return }
            let sums = partial + 2 * rows + count * width
            for block in 0..<blockCount {
                let more = sums + block * size
                kirie_scale_columns(groups, columns, weights + block * columns, more, columns)
                if block > 0 { kirie_add(groups * columns, more, sums) }
            }
            Scratch.withFloats(plan.channels * columns) { wide in
                widen(layer: layer, sums, to: wide)
                attention.project(sums: wide, sumStride: columns, count: count, read: read)
            }
        }
    }

    /// By how much each block's sum counts: e^(maximum − overall maximum) / total.
    private func weigh(_ row: Int, _ weights: UnsafeMutablePointer<Float>) {
        var top = -Float.greatestFiniteMagnitude
        for block in 0..<blockCount { top = max(top, partial[block * partialSize + row]) }
        var total: Float = 0
        for block in 0..<blockCount {
            let weight = expf(partial[block * partialSize + row] - top)
            weights[block * columns + row] = weight
            total += weight * partial[block * partialSize + rows + row]
        }
        for block in 0..<blockCount { weights[block * columns + row] /= total }
    }

    // MARK: y_L for the up-scaling

    /// x (rows of the first transposed convolution, 64) = its answer to y_L, less what the image alone gives and the
    /// bias, which ``MaskUpscaling`` adds.
    func upscale(tile: Int, x: UnsafeMutablePointer<Float>, memory: UnsafeMutableRawPointer) {
        let groups = plan.depth * rows
        var columns = UnsafeRawPointer(mix(tile))
        if plan.arithmetic.isNarrow {
            plan.arithmetic.writeColumns(depth: groups, mix(tile), to: memory)
            columns = UnsafeRawPointer(memory)
        }
        plan.arithmetic.product(
            rows: plan.upscaling.shape[0], depth: groups, a: upscaling, aStride: groups, b: columns, c: x)
    }
}

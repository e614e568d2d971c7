import Glibc
import NeuralNetworks
import Tensors

/// A pass of one prompt over the image: the image attends to layer l's tokens, and the tokens of the next attention to it.
///
/// Image tokens are split into blocks of a fixed number of tiles; each block keeps its own running softmax, and the
/// blocks are merged in order, so that the sums do not depend on which thread did which block.
extension PromptPass {
    private var heads: Int { DecoderHeads.count }

    /// Passes over the tiles of one block.
    ///
    /// The image attends to the tokens of layer l, and so the tokens to y_l; with 0 they attend to the embedding.
    func run(block: Int, layer: Int) {
        let updateRows = layer * rows
        let memory = partial + block * partialSize
        let (maximum, total, valueSums) = (memory, memory + rows, memory + 2 * rows)
        let updateSums = valueSums + count * plan.valueWidth
        maximum.update(repeating: -1e30, count: rows)
        total.update(repeating: 0, count: rows + count * plan.valueWidth + updateRows * columns)
        let arithmetic = plan.arithmetic
        var sizes = MemoryParts(nil)
        _ = TileMemory(
            rows: rows, columns: columns, updateRows: updateRows, type: arithmetic.type, parts: &sizes)
        Scratch.withFloats(sizes.count) { scratch in
            var parts = MemoryParts(scratch)
            let tileMemory = TileMemory(
                rows: rows, columns: columns, updateRows: updateRows, type: arithmetic.type, parts: &parts)
            // Columns beyond the rows stand for nothing.
            tileMemory.rescaling.update(repeating: 0, count: columns)
            memset(tileMemory.transposed, 0, arithmetic.bytes(64 * columns))
            for tile in tiles(of: block) {
                if layer > 0 { attendToTokens(layer: layer, tile: tile, tileMemory) }
                scoreTokens(layer: layer, tile: tile, tileMemory)
                TileSteps.softmaxStep(
                    rows: rows, valid: state.valid(tile), tileMemory.scores, maximum: maximum, total: total,
                    rescaling: tileMemory.rescaling)
                addValues(layer: layer, tile: tile, tileMemory, valueSums: valueSums, updateSums: updateSums)
            }
        }
    }

    /// Memory of one tile's steps.
    private struct TileMemory {
        /// (rows, 64).
        let scores: UnsafeMutablePointer<Float>
        /// (updates' rows, 64): the updates' products with the features, of which the sum of squares is made.
        let crossTerms: UnsafeMutablePointer<Float>
        /// (64): a norm's factor.
        let factor: UnsafeMutablePointer<Float>
        /// (columns): the factor by which a larger maximum rescales what was summed so far.
        let rescaling: UnsafeMutablePointer<Float>
        /// The image's weights as a right operand over the updates' rows, and as a left one over the image tokens.
        let imageColumns: UnsafeMutableRawPointer
        let imageRows: UnsafeMutableRawPointer
        /// The tokens' weights as a left operand over the image tokens, (rows, 64), and as a right one, (64, columns).
        let weights: UnsafeMutableRawPointer
        let transposed: UnsafeMutableRawPointer

        init(rows: Int, columns: Int, updateRows: Int, type: ElementType, parts: inout MemoryParts) {
            scores = parts.floats(rows * 64)
            crossTerms = parts.floats(updateRows * 64)
            factor = parts.floats(64)
            rescaling = parts.floats(columns)
            imageColumns = parts.numbers(updateRows * 64, type)
            imageRows = parts.numbers(updateRows * 64, type)
            weights = parts.numbers(rows * 64, type)
            transposed = parts.numbers(64 * columns, type)
        }
    }

    func imageWeights(of tile: Int) -> UnsafeMutablePointer<Float> { imageWeights + tile * plan.depth * rows * 64 }

    /// scores (+)= each head of a left operand (count, inner) times the image's (inner, 64).
    private func perHead(
        _ a: UnsafeRawPointer, _ b: UnsafeRawPointer, _ scores: UnsafeMutablePointer<Float>, accumulate: Bool = false
    ) {
        plan.arithmetic.product(
            groups: heads, rows: count, depth: plan.headSize, a: a, aStep: plan.headSize, aStride: plan.inner, b: b,
            bStep: plan.headSize * 64, c: scores, cStep: 64, cStride: heads * 64, accumulate: accumulate)
    }

    /// The image's weights over the rows of some updates as a right operand: in fp32 they are one already.
    private func imageColumns(
        _ tile: Int, updateRows: Int, from first: Int = 0, _ memory: TileMemory
    ) -> UnsafeRawPointer {
        guard plan.arithmetic.isNarrow else { return UnsafeRawPointer(imageWeights(of: tile)) }
        plan.arithmetic.writeColumns(
            depth: updateRows - first, imageWeights(of: tile) + first * 64,
            to: memory.imageColumns + plan.arithmetic.bytes(first * 64))
        return UnsafeRawPointer(memory.imageColumns)
    }

    /// Attention of the image to layer `layer`'s tokens, and the norm after it: the weights and the running factor of the
    /// tile.
    private func attendToTokens(layer: Int, tile: Int, _ memory: TileMemory) {
        let (arithmetic, projections) = (plan.arithmetic, plan.projections)
        let (before, updateRows) = ((layer - 1) * rows, layer * rows)
        let running = running + tile * 64
        let new = imageWeights(of: tile) + before * 64
        perHead(keys, state.section(projections.queries[layer - 1], tile), new)
        if layer == 1 {
            running.update(repeating: 1, count: 64)
        } else {
            TileSteps.scaleColumns(rows: rows, by: running, new)
            arithmetic.product(
                rows: rows, depth: before, a: keyProducts, aStride: before,
                b: imageColumns(tile, updateRows: before, memory), c: new, accumulate: true)
            perHead(keys, plan.positions.queries(layer, tile), new, accumulate: true)
        }
        TileSteps.softmaxOverTokens(count, heads: heads, new)

        // The sum of squares, and with it the norm's factor.
        for update in 1...layer {
            let target = memory.crossTerms + (update - 1) * rows * 64
            perHead(values(of: update), state.section(projections.crossTerms[layer - 1][update - 1], tile), target)
            state.withScalars(projections.constant(layer, update), tile) { constant in
                for token in 0..<count { TileSteps.add(64, constant, to: target + token * heads * 64) }
            }
        }
        withUnsafeTemporaryAllocation(of: Float.self, capacity: 64) { twice in
            guard let twice = twice.baseAddress else { return }
            for lane in 0..<64 { twice[lane] = 2 * running[lane] }
            TileSteps.scaleColumns(rows: updateRows, by: twice, memory.crossTerms)
        }
        let columns = imageColumns(tile, updateRows: updateRows, from: before, memory)
        for update in 1...layer {
            arithmetic.product(
                rows: rows, depth: update * rows, a: gram(of: update), aStride: update * rows, b: columns,
                c: memory.crossTerms + (update - 1) * rows * 64, accumulate: true)
        }
        state.withScalars(projections.squares(layer), tile) { squares in
            TileSteps.normFactors(
                rows: updateRows, weights: imageWeights(of: tile), products: memory.crossTerms, squares: squares,
                running: running, channels: plan.channels, epsilon: plan.norms[layer - 1].epsilon,
                factor: memory.factor)
        }
        TileSteps.scaleColumns(rows: updateRows, by: memory.factor, imageWeights(of: tile))
    }

    /// The scores of the tokens' attention to y_layer.
    private func scoreTokens(layer: Int, tile: Int, _ memory: TileMemory) {
        perHead(queries, state.section(plan.projections.keys[layer], tile), memory.scores)
        guard layer > 0 else { return }
        let updateRows = layer * rows
        TileSteps.scaleColumns(rows: rows, by: running + tile * 64, memory.scores)
        plan.arithmetic.product(
            rows: rows, depth: updateRows, a: queryProducts, aStride: updateRows,
            b: imageColumns(tile, updateRows: updateRows, memory), c: memory.scores, accumulate: true)
        perHead(queries, plan.positions.keys(layer, tile), memory.scores, accumulate: true)
    }

    /// Adds the tile's values by the weights in `memory.scores`.
    private func addValues(
        layer: Int, tile: Int, _ memory: TileMemory, valueSums: UnsafeMutablePointer<Float>,
        updateSums: UnsafeMutablePointer<Float>
    ) {
        let (arithmetic, padded, width) = (plan.arithmetic, plan.headPadded, plan.valueWidth)
        if layer > 0 {
            let updateRows = layer * rows
            var imageRows = UnsafeRawPointer(imageWeights(of: tile))
            if arithmetic.isNarrow {
                arithmetic.writeRow(rows * 64, memory.scores, to: memory.weights)
                TileSteps.transpose(
                    rows: rows, columns: 32, memory.weights, stride: 32, to: memory.transposed, stride: columns)
                arithmetic.writeRow(updateRows * 64, imageWeights(of: tile), to: memory.imageRows)
                imageRows = UnsafeRawPointer(memory.imageRows)
            } else {
                TileSteps.transpose(
                    rows: rows, columns: 64, memory.scores, stride: 64, to: memory.transposed, stride: columns)
            }
            TileSteps.scaleColumns(rows: updateRows, columns: columns, by: memory.rescaling, updateSums)
            arithmetic.product(
                rows: updateRows, columns: columns, depth: 64, a: imageRows, aStride: 64, b: memory.transposed,
                bStride: columns, c: updateSums, cStride: columns, accumulate: true)
            TileSteps.scaleColumns(rows: rows, by: running + tile * 64, memory.scores)
        }
        arithmetic.writeRow(rows * 64, memory.scores, to: memory.weights)
        for row in 0..<rows {
            let factor = memory.rescaling[row]
            let line = valueSums + row / heads * width + row % heads * padded
            for d in 0..<padded { line[d] *= factor }
        }
        arithmetic.product(
            groups: heads, rows: count, columns: padded, depth: 64, a: memory.weights, aStep: 64, aStride: heads * 64,
            b: state.section(plan.projections.values[layer], tile), bStep: arithmetic.columnStep(padded),
            bStride: width, c: valueSums, cStep: padded, cStride: width, accumulate: true)
    }

    // MARK: the blocks together

    /// Merges the blocks' softmaxes in order: the tokens' weighted sums of y_layer's values, (count, inner), without the bias.
    func merge(layer: Int, attention: TokenToImageAttention, to attended: UnsafeMutablePointer<Float>) {
        let updateRows = layer * rows
        let (padded, width, size) = (plan.headPadded, plan.valueWidth, partialSize)
        Scratch.withFloats(blockCount * columns) { weights in
            weights.update(repeating: 0, count: blockCount * columns)
            for row in 0..<rows { writeBlockWeights(row, weights) }
            for row in 0..<rows {
                let (token, head) = (row / heads, row % heads)
                let target = attended + token * plan.inner + head * plan.headSize
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
                let part = sums + block * size
                TileSteps.scaleColumns(rows: updateRows, columns: columns, by: weights + block * columns, part)
                if block > 0 { TileSteps.add(updateRows * columns, part, to: sums) }
            }
            Scratch.withFloats(plan.channels * columns) { features in
                sumFeatures(layer: layer, of: sums, to: features)
                attention.addValues(of: features, sumStride: columns, count: count, to: attended)
            }
        }
    }

    /// By how much each block's sum counts: e^(maximum − overall maximum) / total.
    private func writeBlockWeights(_ row: Int, _ weights: UnsafeMutablePointer<Float>) {
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

    /// x (rows of the first transposed convolution, 64) = the updates' part of its product with y_L; ``MaskUpscaling`` adds the
    /// embedding's part and the bias.
    ///
    /// The image's coarse skip is added to it, if there is one.
    func upscale(tile: Int, x: UnsafeMutablePointer<Float>, memory: UnsafeMutableRawPointer) {
        let updateRows = plan.depth * rows
        var columns = UnsafeRawPointer(imageWeights(of: tile))
        if plan.arithmetic.isNarrow {
            plan.arithmetic.writeColumns(depth: updateRows, imageWeights(of: tile), to: memory)
            columns = UnsafeRawPointer(memory)
        }
        plan.arithmetic.product(
            rows: plan.upscaling.shape[0], depth: updateRows, a: upscaling, aStride: updateRows, b: columns, c: x,
            accumulate: state.skips?.writeCoarse(tile, to: x) ?? false)
    }
}

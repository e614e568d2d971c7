import Glibc
package import NeuralNetworks
package import Segmentation
import Tensors

/// The prompt encoder and the mask decoder as the published code has them: one operation after the other, in double.
///
/// Slow, and for nothing but to be read and to be compared with.
///
/// ``SamDecoder`` computes the same by another road, which the article <doc:MaskDecoding> describes. Kirillov et al.,
/// "Segment Anything", 2023, appendix A; <https://github.com/facebookresearch/segment-anything>, `modeling/prompt_encoder.py`,
/// `modeling/transformer.py` and `modeling/mask_decoder.py`, whose names are in the comments.
package struct ReferenceMaskDecoder {
    let weights: any WeightSource
    let configuration: MaskDecoder.Configuration
    let imageSize: Int
    let maskChannels: Int
    let conventions: PromptConventions

    var channels: Int { configuration.channels }
    var grid: Int { configuration.grid }
    private var heads: Int { DecoderHeads.count }

    package init(
        _ weights: any WeightSource, imageSize: Int, maskChannels: Int, configuration: MaskDecoder.Configuration,
        conventions: PromptConventions = PromptConventions()
    ) {
        self.conventions = conventions
        self.weights = weights
        self.configuration = configuration
        self.imageSize = imageSize
        self.maskChannels = maskChannels
    }

    /// All stages of one prompt in their order; the last two are the predicted IoU and the logits.
    ///
    /// - Parameters:
    ///   - prompt: in pixels of the original picture.
    ///   - embedding: the picture's.
    ///   - selection: the masks whose IoU and logits are computed.
    /// - Returns: each stage's name and its numbers, row-major.
    /// - Throws: where a tensor is missing or of another shape, or the embedding is another model's.
    package func stages(
        _ prompt: Prompt, on embedding: ImageFeatures, selection: MaskSelection
    ) throws -> [DecoderStage] {
        var stages: [DecoderStage] = []
        func record(_ name: DecoderStage.Name, _ matrix: Rows) { stages.append(DecoderStage(name, matrix.floats)) }

        // PromptEncoder.forward, and what MaskDecoder.predict_masks does before the transformer.
        var queries = try outputTokens().appending(promptTokens(prompt, embedding.frame))
        let iouToken = configuration.hasObjectScore ? 1 : 0
        var keys = Rows(
            channelMajor: try embedding.tensor(FeatureShape(FeatureMap.imageEmbedding, [1, channels, grid, grid])),
            channels: channels
        ).adding(try densePrompt(prompt.mask))
        let (queryPositions, keyPositions) = (queries, try densePositions())
        record(.promptTokens, queries)
        record(.imageFeatures(layer: 0), keys)
        stages += try projections(of: keys, positions: keyPositions)

        // TwoWayTransformer.forward.
        let name = "mask_decoder.transformer"
        var normFactors = [Double](repeating: 1, count: keys.count)
        for index in 0..<configuration.depth {
            let (block, layer) = ("\(name).layers.\(index)", index + 1)
            if index == 0 {
                queries = try attention("\(block).self_attn", queries, queries, queries, inner: channels).output
            } else {
                let positioned = queries.adding(queryPositions)
                queries = queries.adding(
                    try attention("\(block).self_attn", positioned, positioned, queries, inner: channels).output)
            }
            queries = try norm("\(block).norm1", queries, 1e-5).rows
            record(.selfAttention(layer: layer), queries)

            let toImage = try attention(
                "\(block).cross_attn_token_to_image", queries.adding(queryPositions), keys.adding(keyPositions), keys)
            queries = try norm("\(block).norm2", queries.adding(toImage.output), 1e-5).rows
            record(.tokenToImageSums(layer: layer), toImage.sums)
            record(.tokenToImage(layer: layer), queries)

            var hidden = try linear("\(block).mlp.lin1", queries, configuration.mlpDim)
            hidden.apply { max($0, 0) }
            queries = queries.adding(try linear("\(block).mlp.lin2", hidden, channels))
            queries = try norm("\(block).norm3", queries, 1e-5).rows
            record(.mlp(layer: layer), queries)

            let toTokens = try attention(
                "\(block).cross_attn_image_to_token", keys.adding(keyPositions), queries.adding(queryPositions), queries
            )
            let normalized = try norm("\(block).norm4", keys.adding(toTokens.output), 1e-5)
            keys = normalized.rows
            for token in normFactors.indices { normFactors[token] *= normalized.factors[token] }
            record(.imageToTokenWeights(layer: layer), toTokens.weights)
            stages.append(DecoderStage(.normFactors(layer: layer), normFactors.map(Float.init)))
            record(.imageFeatures(layer: layer), keys)
        }
        let last = try attention(
            "\(name).final_attn_token_to_image", queries.adding(queryPositions), keys.adding(keyPositions), keys)
        queries = try norm("\(name).norm_final_attn", queries.adding(last.output), 1e-5).rows
        record(.tokenToImageSums(layer: configuration.depth + 1), last.sums)
        record(.tokenToImage(layer: configuration.depth + 1), queries)

        // MaskDecoder.predict_masks after the transformer.
        func hypernetworks(_ indices: [Int]) throws -> Rows {
            try indices.reduce(Rows(width: channels / 8)) { rows, index in
                rows.appending(
                    try perceptron(
                        "mask_decoder.output_hypernetworks_mlps.\(index)", queries.row(iouToken + 1 + index),
                        [channels, channels, channels / 8]))
            }
        }
        let hyper = try hypernetworks(Array(selection.indices))
        record(.hypernetworks, hyper)
        var fine = try transposedConvolution("mask_decoder.output_upscaling.0", keys, side: grid, channels / 4)
        let skips = try configuration.featureShapes.dropFirst().map {
            Rows(channelMajor: try embedding.tensor($0), channels: $0.shape[1])
        }
        if let coarse = skips.first { fine = fine.adding(coarse) }
        fine = try norm("mask_decoder.output_upscaling.1", fine, 1e-6).rows
        fine.apply(gelu)
        record(.upscaling(step: 1), fine)
        fine = try transposedConvolution("mask_decoder.output_upscaling.3", fine, side: 2 * grid, channels / 8)
        if let last = skips.last { fine = fine.adding(last) }
        record(.upscaling(step: 2), fine)
        fine.apply(gelu)
        let widths = [Int](repeating: configuration.iouHeadHidden, count: configuration.iouHeadDepth - 1)
        var quality = try perceptron(
            "mask_decoder.iou_prediction_head", queries.row(iouToken), widths + [configuration.maskTokenCount])
        if configuration.usesSigmoid { quality.apply { 1 / (1 + exp(-$0)) } }
        var (masks, indices) = (hyper.times(transposed: fine), Array(selection.indices))
        if selection == .single, let stability = configuration.stability {
            // MaskDecoder._dynamic_multimask_via_stability.
            let inner = masks.values.count { $0 > Double(stability.delta) }
            let outer = masks.values.count { $0 > -Double(stability.delta) }
            if outer > 0, Double(inner) / Double(outer) < Double(stability.threshold) {
                indices = [MaskSelection.multiple.indices.max { quality.values[$0] < quality.values[$1] } ?? 1]
                masks = try hypernetworks(indices).times(transposed: fine)
            }
        }
        stages.append(DecoderStage(.predictedIoU, indices.map { Float(quality.values[$0]) }))
        record(.logits, masks)
        return stages
    }

    // MARK: the prompt encoder

    private func outputTokens() throws -> Rows {
        let tokens = try Rows(weights, "mask_decoder.iou_token.weight", [1, channels]).appending(
            Rows(weights, "mask_decoder.mask_tokens.weight", [configuration.maskTokenCount, channels]))
        guard configuration.hasObjectScore else { return tokens }
        return try Rows(weights, "mask_decoder.obj_score_token.weight", [1, channels]).appending(tokens)
    }

    /// `PositionEmbeddingRandom`: x and y from 0 to 1.
    private func position(_ x: Double, _ y: Double) throws -> [Double] {
        let name = "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"
        let matrix = try Rows(weights, name, [2, channels / 2])
        let angles = (0..<channels / 2).map {
            2 * Double.pi * ((2 * x - 1) * matrix.values[$0] + (2 * y - 1) * matrix.values[channels / 2 + $0])
        }
        return angles.map(sin) + angles.map(cos)
    }

    /// `get_dense_pe`, (g², C).
    func densePositions() throws -> Rows {
        var rows = Rows(width: channels)
        for cell in 0..<grid * grid {
            let (row, column) = (Double(cell / grid), Double(cell % grid))
            rows.values += try position((column + 0.5) / Double(grid), (row + 0.5) / Double(grid))
        }
        return rows
    }

    /// `_embed_points` and `_embed_boxes`.
    private func promptTokens(_ prompt: Prompt, _ frame: ImageFrame) throws -> Rows {
        var rows = Rows(width: channels)
        func append(_ x: Double, _ y: Double, kind: Int) throws {
            let ((x, y), size) = (frame.apply(x: x, y: y), Double(imageSize))
            let position = try position((Double(x) + 0.5) / size, (Double(y) + 0.5) / size)
            let kinds = "prompt_encoder.point_embeddings"
            let kind =
                conventions.hasPointTable
                ? try Rows(weights, "\(kinds).weight", [4, channels]).row(kind)
                : try Rows(weights, "\(kinds).\(kind).weight", [1, channels])
            rows.values += zip(position, kind.values).map { $0 + $1 }
        }
        for point in prompt.points { try append(point.x, point.y, kind: point.label.rawValue) }
        if let box = prompt.box {
            try append(box.x0, box.y0, kind: 2)
            try append(box.x1, box.y1, kind: 3)
        }
        if prompt.box == nil ? !prompt.points.isEmpty : conventions.padsBoxes {
            rows = rows.appending(try Rows(weights, "prompt_encoder.not_a_point_embed.weight", [1, channels]))
        }
        return rows
    }

    /// `_embed_masks` or `no_mask_embed`, (g², C).
    private func densePrompt(_ mask: LowResolutionLogits?) throws -> Rows {
        guard let mask else {
            let row = try Rows(weights, "prompt_encoder.no_mask_embed.weight", [1, channels])
            return (0..<grid * grid).reduce(Rows(width: channels)) { rows, _ in rows.appending(row) }
        }
        let name = "prompt_encoder.mask_downscaling"
        var rows = Rows(width: 1, mask.values.map(Double.init))
        for (index, (side, outputs)) in [(4 * grid, maskChannels / 4), (2 * grid, maskChannels)].enumerated() {
            rows = try convolution("\(name).\(3 * index)", rows, side: side, outputs)
            rows = try norm("\(name).\(3 * index + 1)", rows, 1e-6).rows
            rows.apply(gelu)
        }
        let weight = try Rows(weights, "\(name).6.weight", [channels, maskChannels, 1, 1], width: maskChannels)
        return rows.times(transposed: weight, plus: try Rows(weights, "\(name).6.bias", [channels]).values)
    }

    // MARK: layers

    /// `nn.Linear`.
    func linear(_ name: String, _ x: Rows, _ outputs: Int) throws -> Rows {
        x.times(
            transposed: try Rows(weights, "\(name).weight", [outputs, x.width]),
            plus: try Rows(weights, "\(name).bias", [outputs]).values)
    }

    /// `MLP` with ReLU between its layers.
    private func perceptron(_ name: String, _ x: Rows, _ widths: [Int]) throws -> Rows {
        var x = x
        for (index, width) in widths.enumerated() {
            if index > 0 { x.apply { max($0, 0) } }
            x = try linear("\(name).layers.\(index)", x, width)
        }
        return x
    }

    /// `LayerNorm2d` or `nn.LayerNorm` of each row, and the factor by which each was scaled.
    private func norm(_ name: String, _ x: Rows, _ epsilon: Double) throws -> (rows: Rows, factors: [Double]) {
        let gain = try Rows(weights, "\(name).weight", [x.width]).values
        let shift = try Rows(weights, "\(name).bias", [x.width]).values
        var (rows, factors) = (Rows(width: x.width), [Double]())
        for index in 0..<x.count {
            let row = x.row(index).values
            let mean = row.reduce(0, +) / Double(x.width)
            let variance = row.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Double(x.width)
            factors.append(1 / (variance + epsilon).squareRoot())
            for channel in row.indices {
                rows.values.append((row[channel] - mean) * factors[index] * gain[channel] + shift[channel])
            }
        }
        return (rows, factors)
    }

    /// What an attention makes: (queries, C), the weighted sums of the values before the output projection, and the weights,
    /// (keys · heads, queries), row k · 8 + h.
    private struct Attended {
        let output: Rows
        let sums: Rows
        let weights: Rows
    }

    /// `Attention`: Vaswani et al., 2017, section 3.2.2.
    private func attention(_ name: String, _ q: Rows, _ k: Rows, _ v: Rows, inner: Int? = nil) throws -> Attended {
        let inner = inner ?? configuration.crossAttentionDim
        let (q, k) = (try linear("\(name).q_proj", q, inner), try linear("\(name).k_proj", k, inner))
        let v = try linear("\(name).v_proj", v, inner)
        let size = inner / heads
        var sums = Rows(width: inner, [Double](repeating: 0, count: q.count * inner))
        var weights = Rows(width: q.count, [Double](repeating: 0, count: k.count * heads * q.count))
        for head in 0..<heads {
            for query in 0..<q.count {
                var scores = [Double](repeating: 0, count: k.count)
                for key in 0..<k.count {
                    for d in head * size..<(head + 1) * size {
                        scores[key] += q.values[query * inner + d] * k.values[key * inner + d]
                    }
                    scores[key] /= Double(size).squareRoot()
                }
                let peak = scores.reduce(-.infinity, max)
                let exponentials = scores.map { exp($0 - peak) }
                let total = exponentials.reduce(0, +)
                for key in 0..<k.count {
                    let weight = exponentials[key] / total
                    weights.values[(key * heads + head) * q.count + query] = weight
                    for d in head * size..<(head + 1) * size {
                        sums.values[query * inner + d] += weight * v.values[key * inner + d]
                    }
                }
            }
        }
        return Attended(output: try linear("\(name).out_proj", sums, channels), sums: sums, weights: weights)
    }

    /// `nn.Conv2d` of 2 × 2 with stride 2 over (side², inputs).
    private func convolution(_ name: String, _ x: Rows, side: Int, _ outputs: Int) throws -> Rows {
        var patches = Rows(width: 4 * x.width)
        for row in 0..<side / 2 {
            for column in 0..<side / 2 {
                for channel in 0..<x.width {
                    for corner in 0..<4 {
                        let pixel = (2 * row + corner / 2) * side + 2 * column + corner % 2
                        patches.values.append(x.values[pixel * x.width + channel])
                    }
                }
            }
        }
        let weight = try Rows(weights, "\(name).weight", [outputs, x.width, 2, 2], width: 4 * x.width)
        return patches.times(transposed: weight, plus: try Rows(weights, "\(name).bias", [outputs]).values)
    }

    /// `nn.ConvTranspose2d` of 2 × 2 with stride 2: (side², inputs) to (4 · side², outputs).
    private func transposedConvolution(_ name: String, _ x: Rows, side: Int, _ outputs: Int) throws -> Rows {
        let weight = try Rows(weights, "\(name).weight", [x.width, outputs, 2, 2], width: 4 * outputs)
        let bias = try Rows(weights, "\(name).bias", [outputs]).values
        let products = x.times(transposed: weight.transposed)
        var y = Rows(width: outputs, [Double](repeating: 0, count: 4 * x.count * outputs))
        for pixel in 0..<x.count {
            for corner in 0..<4 {
                let target = (2 * (pixel / side) + corner / 2) * 2 * side + 2 * (pixel % side) + corner % 2
                for output in 0..<outputs {
                    y.values[target * outputs + output] =
                        products.values[pixel * 4 * outputs + output * 4 + corner] + bias[output]
                }
            }
        }
        return y
    }

    private func gelu(_ x: Double) -> Double { 0.5 * x * (1 + erf(x / 2.0.squareRoot())) }
}

import NeuralNetworks
import Tensors

extension ReferenceMaskDecoder {
    /// What ``ImageProjections`` and ``PositionState`` prepare, each from its definition: X_l as a matrix and the
    /// checkpoint's weights as they are.
    ///
    /// The embedding with the dense prompt, `x`, and the positions are (g², C) both.
    func projections(of x: Rows, positions: Rows) throws -> [DecoderStage] {
        let (depth, inner) = (configuration.depth, configuration.crossAttentionDim)
        var stages: [DecoderStage] = []
        func record(_ name: DecoderStage.Name, _ rows: Rows) { stages.append(DecoderStage(name, rows.floats)) }
        func vector(_ name: String) throws -> [Double] { try Rows(weights, name, [channels]).values }
        func tokenToImage(_ layer: Int, _ part: String) throws -> Rows {
            let name =
                layer < depth ? "layers.\(layer).cross_attn_token_to_image" : "final_attn_token_to_image"
            return try Rows(weights, "mask_decoder.transformer.\(name).\(part)_proj.weight", [inner, channels])
        }
        func layer(_ index: Int) -> String { "mask_decoder.transformer.layers.\(index - 1)" }
        let gains = try (1...depth).map { try vector("\(layer($0)).norm4.weight") }
        let shifts = try (1...depth).map { try vector("\(layer($0)).norm4.bias") }

        // X_1 = C x, X_{l+1} = C(g_l ∘ X_l).
        var centered = [x.centered]
        for gain in gains.dropLast() { centered.append(centered[centered.count - 1].scaled(by: gain).centered) }
        /// The embedding's part of y_l.
        func part(_ layer: Int) -> Rows { layer == 0 ? x : centered[layer - 1].scaled(by: gains[layer - 1]) }

        for index in 0...depth {
            let keys = try tokenToImage(index, "k")
            record(.keys(layer: index), (index == 0 ? x.adding(positions) : part(index)).times(transposed: keys))
            record(.values(layer: index), part(index).times(transposed: try tokenToImage(index, "v")))
            if index > 0 { record(.positionKeys(layer: index), positions.times(transposed: keys)) }
        }
        for index in 1...depth {
            let name = "\(layer(index)).cross_attn_image_to_token.q_proj"
            if index == 1 {
                record(.queries(layer: 1), try linear(name, x.adding(positions), inner))
            } else {
                let weight = try Rows(weights, "\(name).weight", [inner, channels])
                record(.queries(layer: index), part(index - 1).times(transposed: weight))
                let shift = Rows(width: channels, (0..<x.count).flatMap { _ in shifts[index - 2] })
                record(.positionQueries(layer: index), try linear(name, positions.adding(shift), inner))
            }
            let squares = (0..<x.count).map { centered[index - 1].row($0).values.reduce(0) { $0 + $1 * $1 } }
            stages.append(DecoderStage(.squares(layer: index), squares.map(Float.init)))
            for update in 1...index {
                let name = "\(layer(update)).cross_attn_image_to_token.out_proj"
                var constant = try vector("\(name).bias")
                if update > 1 { constant = zip(constant, shifts[update - 2]).map { $0 + $1 } }
                var rows = try Rows(weights, "\(name).weight", [channels, inner]).transposed
                rows = rows.appending(Rows(width: channels, constant)).centered
                for step in update..<index { rows = rows.scaled(by: gains[step - 1]).centered }
                let products = centered[index - 1].times(transposed: rows).transposed
                record(
                    .crossTerms(layer: index, update: update),
                    Rows(width: x.count, Array(products.values.dropLast(x.count))).transposed)
                record(.constants(layer: index, update: update), products.row(inner))
            }
        }
        let weight = try Rows(
            weights, "mask_decoder.output_upscaling.0.weight", [channels, channels / 4, 2, 2], width: channels)
        // (C, outputs, corner) to (corner, outputs, C).
        let middle = channels / 4
        var rows = Rows(width: channels)
        for corner in 0..<4 {
            for output in 0..<middle {
                for input in 0..<channels { rows.values.append(weight.values[(input * middle + output) * 4 + corner]) }
            }
        }
        record(.upscalingProjection, part(depth).times(transposed: rows))
        return stages
    }
}

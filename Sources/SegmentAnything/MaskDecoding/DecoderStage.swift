/// What one stage of the mask decoder computes for one prompt, as ``ReferenceMaskDecoder`` and ``DecoderTrace`` record it.
///
/// Layers count from 1, as in the article <doc:MaskDecoding>; layer L + 1 is the final attention.
package struct DecoderStage: Sendable {
    /// Which stage; the shapes are those of ``DecoderStage/values``, tokens of the image row by row over the grid.
    package enum Name: Hashable, Sendable {
        /// (tokens, C): output tokens and prompt tokens.
        case promptTokens
        /// (g², C): with 0 the embedding with the dense prompt, with l the image's features after layer l.
        case imageFeatures(layer: Int)

        // What is prepared.
        /// (g², inner): projections of the positions.
        case positionKeys(layer: Int), positionQueries(layer: Int)
        /// (g², inner): the embedding's parts of keys and values for y_layer, and of layer's queries.
        case keys(layer: Int), values(layer: Int), queries(layer: Int)
        /// (g², inner), (g²) and (g²): X_layer's products with update's output projection, with its constant, and itself.
        case crossTerms(layer: Int, update: Int), constants(layer: Int, update: Int), squares(layer: Int)
        /// (g², C): the embedding's part of the first transposed convolution.
        case upscalingProjection

        // The two-way transformer.
        /// (tokens, C) after `norm1`, and after `norm3`.
        case selfAttention(layer: Int), mlp(layer: Int)
        /// (tokens, inner): the weighted sums of the values before the output projection, and (tokens, C) after `norm2`.
        case tokenToImageSums(layer: Int), tokenToImage(layer: Int)
        /// (tokens · 8, g²) after the softmax, and (g²): the product of `norm4`'s factors up to the layer.
        case imageToTokenWeights(layer: Int), normFactors(layer: Int)

        // The outputs.
        /// (masks, C / 8).
        case hypernetworks
        /// (4g², C / 4) after GELU, and (16g², C / 8) before it.
        case upscaling(step: Int)
        /// (masks) and (masks, 16g²).
        case predictedIoU, logits
    }

    package let name: Name
    package let values: [Float]

    init(_ name: Name, _ values: [Float]) {
        self.name = name
        self.values = values
    }
}

package import NeuralNetworks
package import Tensors

/// SAM 2's image encoder: a Hiera, a feature pyramid, and what else of the model depends on the picture alone.
///
/// Tokens of a window see no others, and windows of one stage are those of the next, of a quarter of the tokens. So a few of
/// them at a time go through as many blocks as there are until one looks further, and what is kept between is no larger than a
/// cache: see ``HieraTrunk``. What the mask decoder takes is made by ``SegmentAnything2Pyramid``.
///
/// Ryali et al., "Hiera", 2023, <https://arxiv.org/abs/2306.00989>; Ravi et al., "SAM 2", 2024,
/// <https://arxiv.org/abs/2408.00714>, section 4 and appendix D.1.
package struct Hiera: ImageEncoder {
    private let trunk: HieraTrunk
    private let pyramid: SegmentAnything2Pyramid

    /// Reads `image_encoder.*`, `no_mem_embed`, and the mask decoder's `conv_s0` and `conv_s1`.
    package init(_ weights: some WeightSource, _ configuration: HieraConfiguration, precision: Precision) throws {
        trunk = try HieraTrunk(weights, configuration, precision: precision)
        pyramid = try SegmentAnything2Pyramid(
            weights, dims: configuration.dims, channels: configuration.outChannels, grids: configuration.grids,
            isFused: configuration.isFused, type: precision.elementType)
    }

    package func encode(_ image: Tensor, pool: ThreadPool) -> Tensor { maps(image, pool: pool)[0].tensor }

    package func maps(_ image: Tensor, pool: ThreadPool) -> [FeatureMap] {
        pyramid.maps(pool: pool) { maps in
            trunk(image, pool: pool) { stage, rows, tokens, write in
                pyramid.project(stage: stage, rows: rows, tokens: tokens) { write($0, maps[stage], $1) }
            }
        }
    }
}

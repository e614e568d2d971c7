package import Tensors

/// Features of all image tokens, cut into tiles of 64 tokens: (tiles, channels, 64).
///
/// The mask decoder works tile by tile: a tile of all its channels fits the second-level cache, its rows are whole
/// vectors, and normalising over channels needs no sum across a vector. Tokens run row by row over the grid; where
/// their number is no multiple of 64 the last tile is filled up with zeros.
package struct ImageTiles: Sendable {
    /// Tokens in a tile.
    package static let width = 64

    /// Tokens that count.
    package let tokens: Int
    package let channels: Int
    /// (tiles, channels, 64).
    package let tensor: Tensor

    package var tileCount: Int { Self.tileCount(tokens) }
    /// Floats in a tile.
    package var tileSize: Int { channels * Self.width }

    package static func tileCount(_ tokens: Int) -> Int { (tokens + width - 1) / width }

    /// How many tokens of that tile count.
    package func valid(_ tile: Int) -> Int { min(Self.width, tokens - tile * Self.width) }

    /// Cuts (channels, tokens) features into tiles, adding `shift` (one per channel) to each.
    package init(_ features: Tensor, channels: Int, adding shift: Tensor? = nil) {
        let tokens = features.count / channels
        self.tokens = tokens
        self.channels = channels
        tensor = Tensor(shape: [Self.tileCount(tokens), channels, Self.width]) { memory in
            memory.initialize(repeating: 0)
            let shift = shift?.elements ?? [Float](repeating: 0, count: channels)
            features.withUnsafeBufferPointer { features in
                for token in 0..<tokens {
                    let (tile, lane) = (token / Self.width, token % Self.width)
                    for channel in 0..<channels {
                        memory[(tile * channels + channel) * Self.width + lane] =
                            features[channel * tokens + token] + shift[channel]
                    }
                }
            }
        }
    }

    /// Makes tiles that `write` fills, one call per tile, on the threads of the pool.
    package init(
        tokens: Int, channels: Int, pool: ThreadPool,
        write: (_ tile: Int, _ memory: UnsafeMutablePointer<Float>) -> Void
    ) {
        self.tokens = tokens
        self.channels = channels
        tensor = Tensor(shape: [Self.tileCount(tokens), channels, Self.width]) { memory in
            guard let memory = memory.baseAddress else { return }
            pool.parallel(Self.tileCount(tokens)) { write($0, memory + $0 * channels * Self.width) }
        }
    }

    /// Calls `body` with the tile's (channels, 64) features.
    package func withTile<Result>(_ tile: Int, _ body: (UnsafePointer<Float>) -> Result) -> Result {
        tensor.withUnsafeBufferPointer { memory in
            guard let memory = memory.baseAddress else { preconditionFailure("tiles are never empty") }
            return body(memory + tile * tileSize)
        }
    }
}

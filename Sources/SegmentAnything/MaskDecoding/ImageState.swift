import NeuralNetworks
import Tensors

/// One image's projections, tile by tile.
struct ImageState: Sendable {
    let tokens: Int
    private let tileNumbers: Int
    private let scalarRows: Int
    private let numbers: TileOperand
    private let scalars: Tensor
    /// What is added while a mask is scaled up, whatever the prompt.
    var skips: UpscalingSkips?
    /// What SAM-HQ's masks are fused with, (1, C / 8, 4g, 4g).
    var highQuality: Tensor?

    var tileCount: Int { ImageTiles.tileCount(tokens) }
    var byteCount: Int {
        numbers.byteCount + 4 * scalars.count + (skips?.byteCount ?? 0) + 4 * (highQuality?.count ?? 0)
    }

    /// How many tokens of that tile count.
    func valid(_ tile: Int) -> Int { min(ImageTiles.width, tokens - tile * ImageTiles.width) }

    init(
        tokens: Int, tileNumbers: Int, scalarRows: Int, arithmetic: TileArithmetic, pool: ThreadPool,
        write: (_ tile: Int, _ numbers: UnsafeMutableRawPointer, _ scalars: UnsafeMutablePointer<Float>) -> Void
    ) {
        self.tokens = tokens
        self.tileNumbers = tileNumbers
        self.scalarRows = scalarRows
        let tiles = ImageTiles.tileCount(tokens)
        var operand: TileOperand?
        scalars = Tensor(shape: [tiles, scalarRows, 64]) { scalars in
            operand = TileOperand(type: arithmetic.type, count: tiles * tileNumbers) { numbers in
                guard let scalars = scalars.baseAddress else { return }
                pool.parallel(tiles) { tile in
                    write(
                        tile, numbers + arithmetic.bytes(tile * tileNumbers), scalars + tile * scalarRows * 64)
                }
            }
        }
        guard let operand else { preconditionFailure("a tensor is always initialised") }
        numbers = operand
    }

    /// All sections of a tile.
    func tile(_ tile: Int) -> UnsafeRawPointer { numbers.at(tile * tileNumbers) }

    /// A section of a tile.
    func section(_ section: ImageProjections.Section, _ tile: Int) -> UnsafeRawPointer {
        numbers.at(tile * tileNumbers + section.offset)
    }

    /// Calls `body` with 64 scalars of a tile.
    func withScalars<Result>(_ row: Int, _ tile: Int, _ body: (UnsafePointer<Float>) -> Result) -> Result {
        scalars.withUnsafeBufferPointer { memory in
            guard let memory = memory.baseAddress else { preconditionFailure("scalars are never empty") }
            return body(memory + (tile * scalarRows + row) * 64)
        }
    }
}

/// The projections of the positions, which belong to the model: computed when it is loaded.
struct PositionState: Sendable {
    private let inner: Int
    private let depth: Int
    private let numbers: TileOperand

    /// Projects the positions of the image's tokens; the attentions and norms are by layer, as in ``ImageProjections``.
    init(
        _ positions: ImageTiles, imageToToken: [ImageToTokenAttention], tokenToImage: [TokenToImageAttention],
        norms: [LayerNorm], channels: Int, arithmetic: TileArithmetic
    ) {
        let inner = tokenToImage[0].inner
        let depth = imageToToken.count
        self.inner = inner
        self.depth = depth
        let rowsPerTile = (2 * depth - 1) * inner
        let keys = tokenToImage.dropFirst().map { arithmetic.matrix(Tensor(shape: [inner, channels], $0.keyRows)) }
        let queries = imageToToken.dropFirst().map {
            arithmetic.matrix(Tensor(shape: [inner, channels], $0.queryRows))
        }
        // What the norm's shift and the queries' own bias add.
        let biases = (1..<max(1, depth)).map { layer in
            zip(
                imageToToken[layer].queryBiases,
                TokenToImageAttention.product(imageToToken[layer].queryRows, norms[layer - 1].shifts)
            )
            .map { $0 + $1 }
        }
        numbers = TileOperand(type: arithmetic.type, count: positions.tileCount * rowsPerTile * 64) { memory in
            ThreadPool.inline.parallel(positions.tileCount) { tile in
                Scratch.withFloats((channels + inner) * 64) { scratch in
                    let projected = scratch + channels * 64
                    positions.withTile(tile) { arithmetic.writeColumns(depth: channels, $0, to: scratch) }
                    for (index, weight) in (keys + queries).enumerated() {
                        arithmetic.product(
                            rows: inner, depth: channels, a: weight.at(0), aStride: channels, b: scratch, c: projected)
                        if index >= depth {
                            for row in 0..<inner {
                                for lane in 0..<64 { projected[row * 64 + lane] += biases[index - depth][row] }
                            }
                        }
                        arithmetic.writeColumns(
                            depth: inner, projected,
                            to: memory + arithmetic.bytes((tile * rowsPerTile + index * inner) * 64))
                    }
                }
            }
        }
    }

    /// Keys of the positions for the tokens' attention to y_l, l from 1, (inner, 64).
    func keys(_ layer: Int, _ tile: Int) -> UnsafeRawPointer {
        numbers.at((tile * (2 * depth - 1) + layer - 1) * inner * 64)
    }

    /// Queries of the positions, with bias, for the image's attention to the tokens of layer l, l from 2, (inner, 64).
    func queries(_ layer: Int, _ tile: Int) -> UnsafeRawPointer {
        numbers.at((tile * (2 * depth - 1) + depth + layer - 2) * inner * 64)
    }
}

import Tensors

/// One image's skips as the up-scaling adds them, tile by tile: computed once, whatever the prompts.
///
/// Each is laid out as the product whose sum begins with it, so that adding it costs a copy: in fp32, as sums are in either
/// arithmetic.
struct UpscalingSkips: Sendable {
    /// (tiles, 4, C/4, 64): by sub-pixel 2 · row + column of a token, and channel.
    private let coarse: Tensor
    /// (tiles, 4, 4, C/8, 64): by sub-pixel, its own sub-pixel, and channel.
    private let fine: Tensor
    /// Numbers of a tile, and of a tile's sub-pixel.
    private let coarseSize: Int
    private let fineSize: Int

    /// Bytes that keeping them takes.
    var byteCount: Int { 4 * (coarse.count + fine.count) }

    /// Lays out skips of (1, C/4, 2g, 2g) and (1, C/8, 4g, 4g).
    init(coarse: Tensor, fine: Tensor, grid: Int, pool: ThreadPool) {
        self.coarse = Self.tiled(coarse, grid: grid, steps: 1, pool: pool)
        self.fine = Self.tiled(fine, grid: grid, steps: 2, pool: pool)
        coarseSize = 4 * coarse.shape[1] * ImageTiles.width
        fineSize = 4 * fine.shape[1] * ImageTiles.width
    }

    /// (tiles, 4 for each step, channels, 64) of a map with 2 to the `steps` positions along a side of each token.
    private static func tiled(_ map: Tensor, grid: Int, steps: Int, pool: ThreadPool) -> Tensor {
        let (channels, side) = (map.shape[1], map.shape[3])
        let (scale, parts, width) = (1 << steps, 1 << (2 * steps), ImageTiles.width)
        let tiles = ImageTiles.tileCount(grid * grid)
        return Tensor(shape: [tiles, parts, channels, width]) { memory in
            map.withUnsafeBufferPointer { map in
                guard let memory = memory.baseAddress, let map = map.baseAddress else { return }
                pool.parallel(tiles) { tile in
                    let target = memory + tile * parts * channels * width
                    target.initialize(repeating: 0, count: parts * channels * width)
                    for lane in 0..<min(width, grid * grid - tile * width) {
                        let token = tile * width + lane
                        for part in 0..<parts {
                            var (row, column) = (scale * (token / grid), scale * (token % grid))
                            // The first step's sub-pixel is the larger one.
                            for step in 0..<steps {
                                let corner = (part >> (2 * step)) % 4
                                row += (corner / 2) << step
                                column += (corner % 2) << step
                            }
                            let source = map + row * side + column
                            for channel in 0..<channels {
                                target[(part * channels + channel) * width + lane] = source[channel * side * side]
                            }
                        }
                    }
                }
            }
        }
    }

    /// Begins the sums of the first transposed convolution, (4 · C/4, 64); true, as the product is then added to them.
    func writeCoarse(_ tile: Int, to x: UnsafeMutablePointer<Float>) -> Bool {
        write(coarse, at: tile * coarseSize, count: coarseSize, to: x)
    }

    /// Begins the sums of the second one at a sub-pixel, (4 · C/8, 64); true, as the product is then added to them.
    func writeFine(_ tile: Int, subpixel: Int, to x: UnsafeMutablePointer<Float>) -> Bool {
        write(fine, at: (4 * tile + subpixel) * fineSize, count: fineSize, to: x)
    }

    private func write(_ numbers: Tensor, at start: Int, count: Int, to x: UnsafeMutablePointer<Float>) -> Bool {
        numbers.withUnsafeBufferPointer { numbers in
            if let numbers = numbers.baseAddress { x.update(from: numbers + start, count: count) }
        }
        return true
    }
}

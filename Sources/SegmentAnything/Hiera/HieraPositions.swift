import Tensors

/// The position embedding of a Hiera's first tokens: a small map for the whole picture, scaled to the grid, and one for a
/// window, laid out again and again.
///
/// Bolya et al., "Window Attention is Bugged", 2023, <https://arxiv.org/abs/2311.05613>, section 3. The scaling is PyTorch's
/// `interpolate(mode="bicubic")`: Keys' cubic with a = −0.75, half-pixel centres, edges repeated.
enum HieraPositions {
    /// (grid², dim) from the picture's (1, dim, rows, columns) and the window's (1, dim, window, window).
    static func embedding(_ picture: Tensor, window: Tensor, grid: Int) -> Tensor {
        let (dim, height, width) = (picture.shape[1], picture.shape[2], picture.shape[3])
        let side = window.shape[3]
        let (rows, columns) = (taps(from: height, to: grid), taps(from: width, to: grid))
        return Tensor(shape: [grid * grid, dim], packing: picture) { memory in
            guard let memory = memory.baseAddress else { return }
            // Channels last, so that a token's numbers are made together.
            let picture = channelsLast(picture), window = channelsLast(window)
            var line = [Float](repeating: 0, count: width * dim)
            for row in 0..<grid {
                for index in line.indices { line[index] = 0 }
                for (source, weight) in rows[row] {
                    for index in line.indices { line[index] += weight * picture[source * width * dim + index] }
                }
                for column in 0..<grid {
                    let token = memory + (row * grid + column) * dim
                    let place = (row % side * side + column % side) * dim
                    for channel in 0..<dim { (token + channel).initialize(to: window[place + channel]) }
                    for (source, weight) in columns[column] {
                        for channel in 0..<dim { token[channel] += weight * line[source * dim + channel] }
                    }
                }
            }
        }
    }

    /// (1, channels, height, width) to (height, width, channels).
    private static func channelsLast(_ map: Tensor) -> [Float] {
        let (channels, cells) = (map.shape[1], map.shape[2] * map.shape[3])
        let elements = map.elements
        return (0..<cells * channels).map { elements[$0 % channels * cells + $0 / channels] }
    }

    /// For each output sample the four input samples that it is made of, and their weights.
    private static func taps(from input: Int, to output: Int) -> [[(source: Int, weight: Float)]] {
        let a: Float = -0.75
        func near(_ x: Float) -> Float { ((a + 2) * x - (a + 3)) * x * x + 1 }
        func far(_ x: Float) -> Float { ((a * x - 5 * a) * x + 8 * a) * x - 4 * a }
        let scale = Float(input) / Float(output)
        return (0..<output).map { index in
            let place = scale * (Float(index) + 0.5) - 0.5
            let first = place.rounded(.down)
            let t = place - first
            return [far(t + 1), near(t), near(1 - t), far(2 - t)].enumerated().map { tap, weight in
                (min(max(Int(first) - 1 + tap, 0), input - 1), weight)
            }
        }
    }
}

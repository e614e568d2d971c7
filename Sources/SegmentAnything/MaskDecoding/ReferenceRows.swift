import NeuralNetworks
import Tensors

/// A matrix of doubles by rows, for ``ReferenceMaskDecoder``.
struct Rows {
    let width: Int
    var values: [Double]

    var count: Int { width == 0 ? 0 : values.count / width }
    var floats: [Float] { values.map(Float.init) }

    init(width: Int, _ values: [Double] = []) {
        self.width = width
        self.values = values
    }

    /// The tensor of that name, whose rows are its last axis, or `width` long.
    init(_ weights: any WeightSource, _ name: String, _ shape: [Int], width: Int? = nil) throws {
        self.init(
            width: width ?? shape[shape.count - 1], try weights.tensor(name, shape: shape).elements.map(Double.init))
    }

    /// (channels, tokens) as a row for each token.
    init(channelMajor tensor: Tensor, channels: Int) {
        self = Rows(width: tensor.count / channels, tensor.elements.map(Double.init)).transposed
    }

    func row(_ index: Int) -> Rows { Rows(width: width, Array(values[index * width..<(index + 1) * width])) }

    func appending(_ other: Rows) -> Rows { Rows(width: width, values + other.values) }

    func adding(_ other: Rows) -> Rows { Rows(width: width, zip(values, other.values).map { $0 + $1 }) }

    mutating func apply(_ function: (Double) -> Double) {
        for index in values.indices { values[index] = function(values[index]) }
    }

    /// The product with a matrix of as wide rows, each of which makes a column, and a number added to each column.
    func times(transposed other: Rows, plus bias: [Double]? = nil) -> Rows {
        var product = Rows(width: other.count, [Double](repeating: 0, count: count * other.count))
        for row in 0..<count {
            for column in 0..<other.count {
                var sum = bias?[column] ?? 0
                for k in 0..<width { sum += values[row * width + k] * other.values[column * width + k] }
                product.values[row * other.count + column] = sum
            }
        }
        return product
    }

    var transposed: Rows {
        var columns = Rows(width: count, values)
        for row in 0..<count {
            for column in 0..<width { columns.values[column * count + row] = values[row * width + column] }
        }
        return columns
    }

    /// Each row less its mean.
    var centered: Rows {
        var rows = self
        for row in 0..<count {
            let mean = values[row * width..<(row + 1) * width].reduce(0, +) / Double(width)
            for column in 0..<width { rows.values[row * width + column] -= mean }
        }
        return rows
    }

    /// Each column times a number.
    func scaled(by gains: [Double]) -> Rows {
        var rows = self
        for index in values.indices { rows.values[index] *= gains[index % width] }
        return rows
    }
}

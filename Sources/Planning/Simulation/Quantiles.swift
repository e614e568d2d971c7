import Glibc
import Platform

/// How long something takes, as a distribution to draw from: milliseconds.
///
/// What was measured is known by some of its quantiles; between them the quantile function is a straight line, so that
/// the least, the middle and the tail are those of the measurement, and not a mean alone. `constant` and `exponential`
/// are those of the queues whose answers are known in closed form, with which the tests hold the simulation.
package enum Quantiles: Sendable, Equatable {
    case constant(Double)
    /// By its mean.
    case exponential(Double)
    /// Parts of all, rising from 0 to 1, and the value below which each lies.
    case measured([Point])

    /// A part of all and the value below which it lies.
    package struct Point: Sendable, Equatable {
        package var part: Double
        package var value: Double

        package init(_ part: Double, _ value: Double) {
            self.part = part
            self.value = value
        }
    }

    /// The value below which a part of all lies.
    package func value(_ part: Double) -> Double {
        switch self {
        case .constant(let value): return value
        case .exponential(let mean): return -mean * log(max(1 - part, 1e-15))
        case .measured(let points):
            guard let first = points.first, let last = points.last else { return 0 }
            if part <= first.part { return first.value }
            for (low, high) in zip(points, points.dropFirst()) where part <= high.part {
                let width = high.part - low.part
                return width <= 0 ? high.value : low.value + (high.value - low.value) * (part - low.part) / width
            }
            return last.value
        }
    }

    /// Draws a value.
    func draw(_ random: inout SplitMix64) -> Double {
        if case .constant(let value) = self { return value }
        return value(random.part())
    }

    package var mean: Double {
        switch self {
        case .constant(let value), .exponential(let value): value
        case .measured(let points):
            zip(points, points.dropFirst()).reduce(0) { sum, pair in
                sum + (pair.1.part - pair.0.part) * (pair.0.value + pair.1.value) / 2
            }
        }
    }

    /// The same, each value times a factor.
    package func scaled(by factor: Double) -> Quantiles {
        switch self {
        case .constant(let value): .constant(value * factor)
        case .exponential(let mean): .exponential(mean * factor)
        case .measured(let points): .measured(points.map { Point($0.part, $0.value * factor) })
        }
    }

    /// The same, each value and something more.
    package func shifted(by amount: Double) -> Quantiles {
        switch self {
        case .constant(let value): .constant(value + amount)
        case .exponential: self
        case .measured(let points): .measured(points.map { Point($0.part, max(0, $0.value + amount)) })
        }
    }
}

extension SplitMix64 {
    /// A number from 0 up to 1.
    mutating func part() -> Double { Double(next() >> 11) * 0x1p-53 }

    /// A time of a Poisson process to its next event.
    mutating func exponential(mean: Double) -> Double { -mean * log(1 - part()) }
}

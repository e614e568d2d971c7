import CKernels
package import Tensors

/// Products over tiles of 64 image tokens, in fp32 or in bf16 with sums in fp32.
///
/// The left operand lies by rows, (rows, depth). The right one is (depth, columns) in fp32; in bf16 two neighbours
/// along the depth lie side by side, (depth / 2, columns, 2), as the processor takes them. A row's bits do not depend
/// on how many rows come along.
package struct TileArithmetic: Sendable {
    /// How operands are written: `float32` or `bfloat16`.
    package let type: ElementType

    package var isNarrow: Bool { type == .bfloat16 }

    package init(type: ElementType) { self.type = type }

    /// Bytes of `count` numbers.
    package func bytes(_ count: Int) -> Int { count * type.byteCount }

    /// Numbers between neighbouring groups of `columns` columns of a right operand.
    package func columnStep(_ columns: Int) -> Int { isNarrow ? 2 * columns : columns }

    /// c (+)= a b, for `groups` products whose operands lie side by side.
    ///
    /// - Parameters:
    ///   - groups: how many products.
    ///   - rows: rows of a and of c.
    ///   - columns: columns of b and of c, whole vectors of 16.
    ///   - depth: columns of a and rows of b; even in bf16.
    ///   - a: the left operands, by rows.
    ///   - aStep: numbers from one group's left operand to the next.
    ///   - aStride: numbers from row to row of the left operand.
    ///   - b: the right operands, in bf16 with two neighbours along the depth side by side.
    ///   - bStep: numbers from one group's right operand to the next.
    ///   - bStride: columns from one depth to the next of the right operand.
    ///   - c: the products, fp32 in either arithmetic.
    ///   - cStep: numbers from one group's product to the next.
    ///   - cStride: numbers from row to row of the product.
    ///   - accumulate: adds to what `c` holds instead of replacing it.
    package func product(
        groups: Int = 1, rows: Int, columns: Int = 64, depth: Int, a: UnsafeRawPointer, aStep: Int = 0, aStride: Int,
        b: UnsafeRawPointer, bStep: Int = 0, bStride: Int = 64, c: UnsafeMutablePointer<Float>, cStep: Int = 0,
        cStride: Int = 64, accumulate: Bool = false
    ) {
        if isNarrow {
            var arguments = kirie_bf16_product_arguments(
                groups: groups, rows: rows, columns: columns, pairs: depth / 2,
                a: a.assumingMemoryBound(to: UInt16.self), a_step: aStep, a_row: aStride,
                b: b.assumingMemoryBound(to: UInt16.self), b_step: bStep, b_stride: bStride, c: c, c_step: cStep,
                c_stride: cStride, accumulate: accumulate ? 1 : 0)
            kirie_bf16_product(&arguments)
        } else {
            var arguments = kirie_product_arguments(
                groups: groups, rows: rows, columns: columns, depth: depth, a: a.assumingMemoryBound(to: Float.self),
                a_step: aStep, a_row: aStride, a_column: 1, b: b.assumingMemoryBound(to: Float.self), b_step: bStep,
                b_stride: bStride, c: c, c_step: cStep, c_stride: cStride, row_bias: nil, column_bias: nil,
                accumulate: accumulate ? 1 : 0)
            kirie_product(&arguments)
        }
    }

    /// Writes `count` numbers as a left operand keeps them.
    package func writeRow(_ count: Int, _ x: UnsafePointer<Float>, to y: UnsafeMutableRawPointer) {
        if isNarrow {
            kirie_bf16_narrow(count, x, y.assumingMemoryBound(to: UInt16.self))
        } else {
            y.assumingMemoryBound(to: Float.self).update(from: x, count: count)
        }
    }

    /// Writes (depth, columns) numbers as a right operand keeps them.
    package func writeColumns(
        depth: Int, columns: Int = 64, _ x: UnsafePointer<Float>, to y: UnsafeMutableRawPointer
    ) {
        if isNarrow {
            kirie_bf16_pair_rows(depth, columns, x, columns, y.assumingMemoryBound(to: UInt16.self))
        } else {
            y.assumingMemoryBound(to: Float.self).update(from: x, count: depth * columns)
        }
    }

    /// y += x, whatever the order of the numbers.
    package func add(_ count: Int, _ x: UnsafeRawPointer, to y: UnsafeMutableRawPointer) {
        if isNarrow {
            kirie_bf16_add(count, x.assumingMemoryBound(to: UInt16.self), y.assumingMemoryBound(to: UInt16.self))
        } else {
            kirie_add(count, x.assumingMemoryBound(to: Float.self), y.assumingMemoryBound(to: Float.self))
        }
    }

    /// Norm over the channels and GELU of a tile, as a right operand.
    ///
    /// - Parameters:
    ///   - channels: rows of the tile.
    ///   - x: (channels, 64), used up; in fp32 also the answer.
    ///   - part: (channels, 64), a left operand, which is added times `factor`.
    ///   - factor: (64), one for each image token.
    ///   - bias: of which `channels` numbers count, from its number `first` on.
    ///   - first: where they begin.
    ///   - gains: (channels), of the norm.
    ///   - shifts: (channels), of the norm.
    ///   - epsilon: what the norm adds to the variance.
    ///   - narrow: memory for the answer in bf16.
    /// - Returns: GELU(norm(x + factor · part + bias)).
    package func normGELU(
        channels: Int, _ x: UnsafeMutablePointer<Float>, adding part: UnsafeRawPointer,
        times factor: UnsafePointer<Float>,
        bias: [Float], from first: Int, gains: [Float], shifts: [Float], epsilon: Float,
        narrow: UnsafeMutableRawPointer
    ) -> UnsafeRawPointer {
        bias.withUnsafeBufferPointer { bias in
            let bias = bias.baseAddress.map { $0 + first }
            guard isNarrow else {
                kirie_upscale_norm(
                    channels, x, part.assumingMemoryBound(to: Float.self), factor, bias, gains, shifts, epsilon)
                return UnsafeRawPointer(x)
            }
            gains.withUnsafeBufferPointer { gains in
                shifts.withUnsafeBufferPointer { shifts in
                    var arguments = kirie_bf16_upscale_norm_arguments(
                        rows: channels, x: x, part: part.assumingMemoryBound(to: UInt16.self), factor: factor,
                        bias: bias, gain: gains.baseAddress, shift: shifts.baseAddress, epsilon: epsilon,
                        y: narrow.assumingMemoryBound(to: UInt16.self))
                    kirie_bf16_upscale_norm(&arguments)
                }
            }
            return UnsafeRawPointer(narrow)
        }
    }

    /// sums (count, sumStride) += weights (count, channels) GELU(x + bias), x (channels, 64).
    package func addGELUProducts(
        channels: Int, count: Int, _ x: UnsafePointer<Float>, bias: UnsafePointer<Float>, weights: UnsafePointer<Float>,
        to sums: UnsafeMutablePointer<Float>, sumStride: Int
    ) {
        var arguments = kirie_gelu_dot_arguments(
            rows: channels, masks: count, x: x, x_stride: 64, bias: bias, weight: weights, weight_stride: channels,
            logits: sums, logits_stride: sumStride)
        if isNarrow { kirie_bf16_gelu_dot(&arguments) } else { kirie_gelu_dot(&arguments) }
    }

    /// A number of a left operand.
    package func number(of operand: UnsafeRawPointer, at index: Int) -> Float {
        guard isNarrow else { return operand.assumingMemoryBound(to: Float.self)[index] }
        return Float(bitPattern: UInt32(operand.assumingMemoryBound(to: UInt16.self)[index]) << 16)
    }

    /// A number of a right operand, (depth, columns).
    package func number(of operand: UnsafeRawPointer, row: Int, column: Int, columns: Int = 64) -> Float {
        number(of: operand, at: isNarrow ? (row / 2 * columns + column) * 2 + row % 2 : row * columns + column)
    }

    /// A matrix as a left operand.
    package func matrix(_ tensor: Tensor) -> TileOperand {
        TileOperand(type: type, count: tensor.count) { memory in
            tensor.withUnsafeBufferPointer { elements in
                if let elements = elements.baseAddress { writeRow(tensor.count, elements, to: memory) }
            }
        }
    }
}

/// Numbers of either type that are written once and then only read.
///
/// `@unchecked Sendable`: `memory` is written before the object can be reached by anybody else.
package final class TileOperand: @unchecked Sendable {
    private let memory: UnsafeMutableRawBufferPointer
    private let type: ElementType

    package var byteCount: Int { memory.count }

    package init(type: ElementType, count: Int, _ write: (UnsafeMutableRawPointer) -> Void) {
        self.type = type
        memory = .allocate(byteCount: max(64, count * type.byteCount), alignment: 64)
        if let start = memory.baseAddress { write(start) }
    }

    deinit { memory.deallocate() }

    /// The number at `index`; valid as long as the object.
    package func at(_ index: Int) -> UnsafeRawPointer {
        guard let start = memory.baseAddress else { preconditionFailure("operands are never empty") }
        return UnsafeRawPointer(start + index * type.byteCount)
    }
}

/// Hands out the parts of one block of memory.
package struct MemoryParts {
    private let base: UnsafeMutablePointer<Float>?
    /// Floats handed out so far, in whole cache lines.
    package private(set) var count = 0

    /// Hands out parts of `base`; without one it only counts, and the parts must not be touched.
    package init(_ base: UnsafeMutablePointer<Float>?) { self.base = base }

    package mutating func floats(_ count: Int) -> UnsafeMutablePointer<Float> {
        defer { self.count += (count + 15) / 16 * 16 }
        guard let base else { return Self.nowhere }
        return base + self.count
    }

    package mutating func numbers(_ count: Int, _ type: ElementType) -> UnsafeMutableRawPointer {
        UnsafeMutableRawPointer(floats((count * type.byteCount + 3) / 4))
    }

    private static var nowhere: UnsafeMutablePointer<Float> {
        guard let nowhere = UnsafeMutablePointer<Float>(bitPattern: 64) else { preconditionFailure("64 is not 0") }
        return nowhere
    }
}

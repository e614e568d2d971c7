import Tensors

/// What a product of bf16 rows answers, and what one of the same numbers in fp32 does; fp32 answers are added to 0.25.
func answers(
    of narrow: LinearProduct, and wide: LinearProduct, rows: Int, x: [UInt16], output: ElementType
) -> (found: [Float], expected: [Float]) {
    let (columns, depth) = (wide.columns, wide.depth)
    let accumulates = output == .float32
    var (x, wideX) = (x, x.map(widened))
    var expected = [Float](repeating: 0.25, count: rows * columns)
    var floats = expected
    var halves = [UInt16](repeating: 0, count: rows * columns)
    x.withUnsafeMutableBytes { x in
        wideX.withUnsafeMutableBytes { wideX in
            expected.withUnsafeMutableBytes { expected in
                floats.withUnsafeMutableBytes { floats in
                    halves.withUnsafeMutableBytes { halves in
                        guard let x = x.baseAddress, let wideX = wideX.baseAddress,
                            let expected = expected.baseAddress, let floats = floats.baseAddress,
                            let halves = halves.baseAddress
                        else { return }
                        wide(
                            rows: rows, x: Features(wideX, type: .float32, stride: depth),
                            y: Features(expected, type: .float32, stride: columns), accumulate: accumulates)
                        narrow(
                            rows: rows, x: Features(x, type: .bfloat16, stride: depth),
                            y: Features(accumulates ? floats : halves, type: output, stride: columns),
                            accumulate: accumulates)
                    }
                }
            }
        }
    }
    return (accumulates ? floats : halves.map(widened), expected)
}

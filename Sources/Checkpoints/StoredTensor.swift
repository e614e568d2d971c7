public import Tensors

/// One tensor of a checkpoint, where it lies in the file: nothing of it is read before it is asked for.
///
/// Element `(i, j, …)` lies at byte `offset + (i·strides[0] + j·strides[1] + …)·byteCount` of the file. The
/// constructor has proved that every element lies inside the file.
public struct StoredTensor: Sendable {
    /// The tensor's name in the file.
    public let name: String
    /// The extent of every axis, outermost first; empty for a scalar.
    public let shape: [Int]
    /// Elements from one index to the next along each axis; 0 where an axis was expanded.
    public let strides: [Int]
    /// How the numbers are written.
    public let storedType: StoredElementType
    /// The number of elements.
    public let count: Int
    /// The bytes of the file from the tensor's first element to its last.
    package let range: Range<Int>
    /// The file.
    package let file: CheckpointFile

    /// The type that arithmetic reads it as, or nil for a buffer of integers and the like.
    public var elementType: ElementType? { storedType.elementType }

    /// Bytes that the elements take when they are written one after the other.
    public var byteCount: Int { count * storedType.byteCount }

    /// Whether the elements lie one after the other in row-major order.
    public let isContiguous: Bool

    /// Describes a tensor after proving that it lies inside `region`.
    ///
    /// - Parameters:
    ///   - name: its name in the file, for errors too.
    ///   - shape: the extent of every axis, outermost first; ``rankLimit`` axes at most.
    ///   - strides: elements from one index to the next along each axis, at least 0; nil for row-major order without
    ///     gaps.
    ///   - elementOffset: elements from the region's first byte to the tensor's first element.
    ///   - type: how the numbers are written.
    ///   - region: the bytes of the file that the tensor may touch; inside the file.
    ///   - file: open, and kept so by the tensor.
    /// - Throws: `.corrupt`, naming the tensor, where an extent or offset is negative, a product overflows, the tensor
    ///   would be larger than its file, or an element would lie outside the region.
    package init(
        name: String, shape: [Int], strides: [Int]? = nil, elementOffset: Int = 0, type: StoredElementType,
        in region: Range<Int>, of file: CheckpointFile
    ) throws(CheckpointError) {
        func corrupt(_ reason: String) -> CheckpointError {
            CheckpointError(
                .corrupt, file: file.path, at: "tensor \(CheckpointError.quoted(name))", reason,
                remedy: "Fetch or save the checkpoint again")
        }
        precondition(region.lowerBound >= 0 && region.upperBound <= file.bytes.count)
        guard shape.count <= Self.rankLimit else {
            throw corrupt("has \(shape.count) axes, more than the \(Self.rankLimit) that are supported")
        }
        guard shape.allSatisfy({ $0 >= 0 }), elementOffset >= 0 else {
            throw corrupt("has a negative extent or offset")
        }
        guard let rowMajor = Self.rowMajor(shape) else { throw corrupt("the product of its shape \(shape) overflows") }
        let strides = strides ?? rowMajor.strides
        guard strides.count == shape.count, strides.allSatisfy({ $0 >= 0 }) else {
            throw corrupt("has strides that do not belong to its shape \(shape)")
        }
        let (byteCount, tooMany) = rowMajor.count.multipliedReportingOverflow(by: type.byteCount)
        // A stride of 0 repeats elements; without this bound, a few bytes could claim any amount of memory.
        guard !tooMany, byteCount <= file.bytes.count else {
            throw corrupt("is larger than the file that holds it: shape \(shape)")
        }
        var last = elementOffset
        var overflow = false
        for (extent, stride) in zip(shape, strides) where extent > 1 {
            let (reach, first) = (extent - 1).multipliedReportingOverflow(by: stride)
            let (sum, second) = last.addingReportingOverflow(reach)
            last = sum
            overflow = overflow || first || second
        }
        let capacity = region.count / type.byteCount
        guard !overflow, rowMajor.count == 0 || last < capacity else {
            throw corrupt("reaches beyond its storage of \(capacity) elements: offset \(elementOffset), shape \(shape)")
        }
        let start = rowMajor.count == 0 ? region.lowerBound : region.lowerBound + elementOffset * type.byteCount
        let end = rowMajor.count == 0 ? start : region.lowerBound + (last + 1) * type.byteCount
        self.name = name
        self.shape = shape
        self.strides = strides
        self.storedType = type
        self.count = rowMajor.count
        self.range = start..<end
        self.file = file
        self.isContiguous =
            rowMajor.count == 0
            || zip(shape, zip(strides, rowMajor.strides)).allSatisfy { $0 <= 1 || $1.0 == $1.1 }
    }

    /// Axes that a tensor may have; PyTorch's own limit.
    static let rankLimit = 64

    /// The number of elements of a shape and its strides in row-major order, or nil where they overflow.
    private static func rowMajor(_ shape: [Int]) -> (count: Int, strides: [Int])? {
        var strides = [Int](repeating: 1, count: shape.count)
        var count = 1
        for axis in shape.indices.reversed() {
            strides[axis] = count
            let (product, overflow) = count.multipliedReportingOverflow(by: max(shape[axis], 1))
            guard !overflow else { return nil }
            count = product
        }
        return (shape.contains(0) ? 0 : count, strides)
    }

    /// Gives the tensor's mapped pages back to the system, once the weights were copied or packed elsewhere.
    ///
    /// The tensor stays readable; its pages come back from the file when they are touched.
    public func releasePages() { file.releasePages(of: range) }
}

extension StoredTensor {
    /// Calls `body` with the elements' bytes in row-major order, piece by piece, each piece whole elements.
    ///
    /// A contiguous tensor comes as the mapped memory itself; another is gathered into a buffer first.
    func withPieces<Failure: Error>(
        ofBytes limit: Int, _ body: (UnsafeRawBufferPointer) throws(Failure) -> Void
    ) throws(Failure) {
        let width = storedType.byteCount
        let step = max(limit / width, 1)
        if isContiguous {
            for start in stride(from: 0, to: count, by: step) {
                let bytes = range.lowerBound + start * width..<range.lowerBound + min(start + step, count) * width
                try body(UnsafeRawBufferPointer(rebasing: file.bytes[bytes]))
            }
            return
        }
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: min(step, count) * width, alignment: 64)
        defer { buffer.deallocate() }
        for start in stride(from: 0, to: count, by: step) {
            let piece = UnsafeMutableRawBufferPointer(rebasing: buffer[..<(min(step, count - start) * width)])
            gather(from: start, into: piece)
            try body(UnsafeRawBufferPointer(piece))
        }
    }

    /// Copies elements in row-major order, from the `start`th on, into `buffer`.
    private func gather(from start: Int, into buffer: UnsafeMutableRawBufferPointer) {
        let width = storedType.byteCount
        let base = UnsafeRawBufferPointer(rebasing: file.bytes[range])
        var index = [Int](repeating: 0, count: shape.count)
        var rest = start
        for axis in shape.indices.reversed() {
            index[axis] = rest % shape[axis]
            rest /= shape[axis]
        }
        var source = zip(index, strides).reduce(0) { $0 + $1.0 * $1.1 } * width
        for target in stride(from: 0, to: buffer.count, by: width) {
            for byte in 0..<width { buffer[target &+ byte] = base[source &+ byte] }
            var axis = shape.count - 1
            while axis >= 0 {
                index[axis] += 1
                source += strides[axis] * width
                if index[axis] < shape[axis] { break }
                source -= shape[axis] * strides[axis] * width
                index[axis] = 0
                axis -= 1
            }
        }
    }

    /// The tensor's numbers as `Float`, row-major.
    ///
    /// Mapped memory is borrowed, not copied, where it holds contiguous binary32 numbers at a multiple of 4 bytes; binary64
    /// is rounded.
    ///
    /// - Throws: `.elementType` where the tensor holds integers or the like, or a number beyond binary32.
    public func tensor() throws(CheckpointError) -> Tensor {
        guard elementType != nil else {
            throw CheckpointError(
                .elementType, file: file.path, at: "tensor \(CheckpointError.quoted(name))",
                "holds \(storedType.rawValue) where weights are expected",
                remedy: "Save the weights as F32, F16 or BF16")
        }
        if storedType == .float32, isContiguous, count > 0, let address = file.bytes.baseAddress {
            let start = address + range.lowerBound
            if UInt(bitPattern: start) % 4 == 0 {
                let floats = UnsafeBufferPointer(start: start.assumingMemoryBound(to: Float.self), count: count)
                return Tensor(shape: shape, borrowing: floats, from: file)
            }
        }
        var fits = true
        let tensor = Tensor(shape: shape) { output in
            var done = 0
            withPieces(ofBytes: 1 << 20) { piece in
                let elements = piece.count / storedType.byteCount
                fits = read(piece, to: UnsafeMutableBufferPointer(rebasing: output[done..<done + elements])) && fits
                done += elements
            }
        }
        guard fits else {
            throw CheckpointError(
                .elementType, file: file.path, at: "tensor \(CheckpointError.quoted(name))",
                "holds a number of \(storedType.rawValue) that is too large for F32",
                remedy: "Save weights that F32 can hold")
        }
        return tensor
    }

    /// Reads one piece of whole elements as `Float`; returns false where a finite number is beyond what that can hold.
    ///
    /// - Precondition: ``elementType`` is not nil.
    func read(_ piece: UnsafeRawBufferPointer, to output: UnsafeMutableBufferPointer<Float>) -> Bool {
        guard let source = piece.baseAddress, let elementType else { return true }
        if storedType == .float64 { return ElementConversion.round(doubles: source, to: output) }
        ElementConversion.widen(source, of: elementType, to: output)
        return true
    }
}

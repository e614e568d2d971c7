import Glibc

/// A dense array of `Float` in row-major order (the last axis runs fastest), shared by reference and never written
/// after it was made.
///
/// A tensor is a value: it can be handed to any thread. Scratch memory that is written again and again is not a
/// tensor but a ``Workspace``.
public struct Tensor: Sendable {
    /// The extent of every axis, outermost first; an empty shape is a scalar.
    public let shape: [Int]

    /// The memory, 64-byte aligned when this module allocated it.
    private let storage: Storage

    /// The number of elements.
    public var count: Int { storage.elements.count }

    /// Makes a tensor whose elements `initialize` writes.
    ///
    /// - Parameters:
    ///   - shape: the extent of every axis; each at least 0.
    ///   - initialize: receives the uninitialised, 64-byte aligned memory and must write every element.
    /// - Throws: what `initialize` throws.
    public init<Failure: Error>(
        shape: [Int], initializingWith initialize: (UnsafeMutableBufferPointer<Float>) throws(Failure) -> Void
    ) throws(Failure) {
        let storage = Storage(count: shape.reduce(1, *))
        try initialize(storage.elements)
        self.shape = shape
        self.storage = storage
    }

    /// Makes a tensor with the given elements in row-major order.
    ///
    /// - Precondition: `elements` holds exactly as many numbers as `shape` says.
    public init(shape: [Int], _ elements: some Collection<Float>) {
        precondition(elements.count == shape.reduce(1, *), "\(elements.count) elements do not fill shape \(shape)")
        self.init(shape: shape) { memory in
            _ = memory.initialize(fromContentsOf: elements)
        }
    }

    /// Makes a tensor over memory that somebody else keeps, such as a mapped file: nothing is copied.
    ///
    /// - Parameters:
    ///   - shape: the extent of every axis.
    ///   - elements: memory that stays valid and unchanged for as long as `owner` lives.
    ///   - owner: kept alive by the tensor.
    /// - Precondition: `elements` holds exactly as many numbers as `shape` says.
    public init(shape: [Int], borrowing elements: UnsafeBufferPointer<Float>, from owner: any AnyObject & Sendable) {
        precondition(elements.count == shape.reduce(1, *), "\(elements.count) elements do not fill shape \(shape)")
        self.shape = shape
        self.storage = Storage(borrowing: elements, from: owner)
    }

    /// Zeros that take no memory until somebody reads them: for running a loader that is only asked what it would load.
    public static func placeholder(shape: [Int]) -> Tensor {
        Tensor(shape: shape, storage: Storage(zeros: shape.reduce(1, *)))
    }

    /// Whether the tensor is a ``placeholder(shape:)``.
    package var isPlaceholder: Bool { storage.isPlaceholder }

    /// Makes a tensor of another one's numbers, such as packed weights; of a placeholder one more, and nothing is computed.
    package init(
        shape: [Int], packing source: Tensor, _ initialize: (UnsafeMutableBufferPointer<Float>) -> Void
    ) {
        if source.isPlaceholder {
            self = .placeholder(shape: shape)
        } else {
            self.init(shape: shape, initializingWith: initialize)
        }
    }

    /// Calls `body` with the elements in row-major order; the pointer is valid during the call only.
    public func withUnsafeBufferPointer<Result, Failure: Error>(
        _ body: (UnsafeBufferPointer<Float>) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        defer { withExtendedLifetime(storage) {} }
        return try body(UnsafeBufferPointer(storage.elements))
    }

    /// The same elements under another shape; nothing is copied.
    ///
    /// - Precondition: both shapes hold the same number of elements.
    public func reshaped(to shape: [Int]) -> Tensor {
        precondition(shape.reduce(1, *) == count, "\(count) elements do not fill shape \(shape)")
        return Tensor(shape: shape, storage: storage)
    }

    /// The elements as an array, row-major: a copy, for tests and small tensors.
    public var elements: [Float] { withUnsafeBufferPointer { Array($0) } }

    private init(shape: [Int], storage: Storage) {
        self.shape = shape
        self.storage = storage
    }
}

/// The memory behind a tensor.
///
/// `@unchecked Sendable`: the elements are written only inside ``Tensor/init(shape:initializingWith:)``, before the
/// object is reachable by anybody else, and are read-only afterwards.
private final class Storage: @unchecked Sendable {
    let elements: UnsafeMutableBufferPointer<Float>
    private let owner: (any AnyObject & Sendable)?
    let isPlaceholder: Bool

    private static func byteCount(_ count: Int) -> Int { max(count, 1) * MemoryLayout<Float>.stride }

    /// The system gives pages of zeros when they are first read.
    init(zeros count: Int) {
        // calloc would write them where it uses memory again.
        guard
            let raw = mmap(
                nil, Self.byteCount(count), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0),
            raw != MAP_FAILED
        else { preconditionFailure("no address space for \(count) zeros") }
        elements = UnsafeMutableBufferPointer(start: raw.bindMemory(to: Float.self, capacity: count), count: count)
        owner = nil
        isPlaceholder = true
    }

    init(count: Int) {
        let raw = UnsafeMutableRawPointer.allocate(
            byteCount: max(count, 1) * MemoryLayout<Float>.stride, alignment: 64)
        elements = UnsafeMutableBufferPointer(start: raw.bindMemory(to: Float.self, capacity: count), count: count)
        owner = nil
        isPlaceholder = false
    }

    init(borrowing memory: UnsafeBufferPointer<Float>, from owner: any AnyObject & Sendable) {
        elements = UnsafeMutableBufferPointer(mutating: memory)
        self.owner = owner
        isPlaceholder = false
    }

    deinit {
        if isPlaceholder {
            munmap(elements.baseAddress, Self.byteCount(elements.count))
        } else if owner == nil {
            UnsafeMutableRawPointer(elements.baseAddress)?.deallocate()
        }
    }
}

extension Tensor {
    /// A part of a matrix, in memory of its own unless it is all of it.
    package func rectangle(rows: Range<Int>, columns: Range<Int>) -> Tensor {
        let width = shape[1]
        guard rows.count < shape[0] || columns.count < width else { return self }
        return Tensor(shape: [rows.count, columns.count], packing: self) { memory in
            withUnsafeBufferPointer { elements in
                guard let from = elements.baseAddress, let to = memory.baseAddress else { return }
                for (index, row) in rows.enumerated() {
                    (to + index * columns.count).update(
                        from: from + row * width + columns.lowerBound, count: columns.count)
                }
            }
        }
    }
}

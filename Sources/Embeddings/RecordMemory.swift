/// The bytes of a record, and who keeps them.
///
/// `@unchecked Sendable`: written before the record exists, read-only afterwards.
final class RecordMemory: @unchecked Sendable {
    let bytes: UnsafeRawBufferPointer
    private let owner: (any AnyObject & Sendable)?

    /// Takes 64-byte aligned memory, to be written through ``writable`` before anybody else sees it.
    init(byteCount: Int) {
        let start = UnsafeMutableRawPointer.allocate(byteCount: max(byteCount, 1), alignment: 64)
        bytes = UnsafeRawBufferPointer(start: start, count: byteCount)
        owner = nil
    }

    init(borrowing bytes: UnsafeRawBufferPointer, from owner: any AnyObject & Sendable) {
        self.bytes = bytes
        self.owner = owner
    }

    deinit {
        if owner == nil { bytes.deallocate() }
    }

    var writable: UnsafeMutableRawBufferPointer { UnsafeMutableRawBufferPointer(mutating: bytes) }
}

import CTIFF
import Synchronization

/// libtiff's functions.
package struct TIFFLibrary: @unchecked Sendable {
    // Addresses of code, which never change.
    typealias Handle = UnsafeMutableRawPointer
    private typealias Read = @convention(c) (Handle?, UnsafeMutableRawPointer?, Int) -> Int
    private typealias Seek = @convention(c) (Handle?, UInt64, Int32) -> UInt64
    private typealias Close = @convention(c) (Handle?) -> Int32
    private typealias Size = @convention(c) (Handle?) -> UInt64
    private typealias Map = @convention(c) (Handle?, UnsafeMutableRawPointer?, UnsafeMutableRawPointer?) -> Int32
    private typealias Unmap = @convention(c) (Handle?, UnsafeMutableRawPointer?, UInt64) -> Void
    private typealias Open =
        @convention(c) (
            UnsafePointer<CChar>, UnsafePointer<CChar>, Handle?, Read?, Read?, Seek?, Close?, Size?, Map?, Unmap?
        ) -> Handle?

    private let open: Open
    let close: @convention(c) (Handle) -> Void
    let isTiled: @convention(c) (Handle) -> Int32
    let isLast: @convention(c) (Handle) -> Int32
    let stripSize: @convention(c) (Handle) -> Int
    let tileSize: @convention(c) (Handle) -> Int
    let strip: @convention(c) (Handle, UInt32, UInt16) -> UInt32
    let tile: @convention(c) (Handle, UInt32, UInt32, UInt32, UInt16) -> UInt32
    let readStrip: @convention(c) (Handle, UInt32, UnsafeMutableRawPointer?, Int) -> Int
    let readTile: @convention(c) (Handle, UInt32, UnsafeMutableRawPointer?, Int) -> Int
    let getField: UnsafeMutableRawPointer
    let getFieldOrDefault: UnsafeMutableRawPointer
    let setField: UnsafeMutableRawPointer

    /// Opened by the first TIFF picture.
    package static let shared = TIFFLibrary()

    package init?(named name: String = "libtiff.so.6") {
        typealias SetPlainHandler = @convention(c) (Handle?) -> Handle?
        guard let library = DynamicLibrary(name),
            let open: Open = library.function("TIFFClientOpen"),
            let close: @convention(c) (Handle) -> Void = library.function("TIFFClose"),
            let isTiled: @convention(c) (Handle) -> Int32 = library.function("TIFFIsTiled"),
            let isLast: @convention(c) (Handle) -> Int32 = library.function("TIFFLastDirectory"),
            let stripSize: @convention(c) (Handle) -> Int = library.function("TIFFStripSize"),
            let tileSize: @convention(c) (Handle) -> Int = library.function("TIFFTileSize"),
            let strip: @convention(c) (Handle, UInt32, UInt16) -> UInt32 = library.function("TIFFComputeStrip"),
            let tile: @convention(c) (Handle, UInt32, UInt32, UInt32, UInt16) -> UInt32 =
                library.function("TIFFComputeTile"),
            let readStrip: @convention(c) (Handle, UInt32, UnsafeMutableRawPointer?, Int) -> Int =
                library.function("TIFFReadEncodedStrip"),
            let readTile: @convention(c) (Handle, UInt32, UnsafeMutableRawPointer?, Int) -> Int =
                library.function("TIFFReadEncodedTile"),
            let getField = library.address(of: "TIFFGetField"),
            let getFieldOrDefault = library.address(of: "TIFFGetFieldDefaulted"),
            let setField = library.address(of: "TIFFSetField"),
            let setErrors = library.address(of: "TIFFSetErrorHandlerExt"),
            let setPlainErrors: SetPlainHandler = library.function("TIFFSetErrorHandler"),
            let setPlainWarnings: SetPlainHandler = library.function("TIFFSetWarningHandler")
        else { return nil }
        (self.open, self.close, self.isTiled, self.isLast) = (open, close, isTiled, isLast)
        (self.stripSize, self.tileSize, self.strip, self.tile) = (stripSize, tileSize, strip, tile)
        (self.readStrip, self.readTile) = (readStrip, readTile)
        (self.getField, self.getFieldOrDefault, self.setField) = (getField, getFieldOrDefault, setField)
        // The handlers are the whole process's: nothing goes to standard error, each file keeps its own message.
        _ = setPlainErrors(nil)
        _ = setPlainWarnings(nil)
        kirie_tiff_set_handler(setErrors) { client, _, format, arguments in
            guard let client, let format, let arguments else { return }
            var buffer = [CChar](repeating: 0, count: 256)
            kirie_tiff_write_message(&buffer, UInt(buffer.count), format, arguments)
            let text = String(decoding: buffer.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
            Unmanaged<TIFFBytes>.fromOpaque(client).takeUnretainedValue().note(text)
        }
    }

    /// Opens the file in `bytes`, which must live as long as the handle; nil where it is no TIFF.
    func open(_ bytes: TIFFBytes) -> Handle? {
        // "m": nothing is mapped, so every read passes by the bounds of `TIFFBytes`.
        open(
            "picture", "rm", Unmanaged.passUnretained(bytes).toOpaque(),
            { client, buffer, count in
                guard let client, let buffer else { return -1 }
                return Unmanaged<TIFFBytes>.fromOpaque(client).takeUnretainedValue().read(buffer, count)
            },
            { _, _, _ in -1 },
            { client, offset, origin in
                guard let client else { return .max }
                return Unmanaged<TIFFBytes>.fromOpaque(client).takeUnretainedValue().seek(offset, origin)
            },
            { _ in 0 },
            { client in
                guard let client else { return 0 }
                return UInt64(Unmanaged<TIFFBytes>.fromOpaque(client).takeUnretainedValue().count)
            },
            nil, nil)
    }
}

/// A file in memory as libtiff reads it, and what libtiff said of it first.
final class TIFFBytes {
    private let bytes: UnsafeRawBufferPointer
    private var position: UInt64 = 0
    private(set) var message: String?

    init(_ bytes: UnsafeRawBufferPointer) { self.bytes = bytes }

    var count: Int { bytes.count }

    func note(_ text: String) { message = message ?? text }

    func read(_ buffer: UnsafeMutableRawPointer, _ count: Int) -> Int {
        guard count > 0, position < UInt64(bytes.count) else { return 0 }
        let start = Int(position)
        let length = min(count, bytes.count - start)
        UnsafeMutableRawBufferPointer(start: buffer, count: length)
            .copyMemory(from: UnsafeRawBufferPointer(rebasing: bytes[start..<(start + length)]))
        position += UInt64(length)
        return length
    }

    /// A place past the end is a place where nothing can be read.
    func seek(_ offset: UInt64, _ origin: Int32) -> UInt64 {
        switch origin {
        case 0: position = offset
        case 1: position &+= offset
        default: position = UInt64(bytes.count) &+ offset
        }
        return position
    }
}

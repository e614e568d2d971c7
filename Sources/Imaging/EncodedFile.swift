import Glibc
import Platform

/// A picture's file as bytes: read whole, written whole or not at all.
package enum EncodedFile {
    /// Reads the file at `path`.
    ///
    /// A pipe that a shell laid is read to its end. A named pipe, a socket, a device, and whatever has more than `limit`
    /// bytes, is refused.
    package static func read(_ path: String, atMost limit: Int) throws(ImageError) -> [UInt8] {
        let descriptor: Int32
        do throws(FileFault) { descriptor = try InputFile.open(path) } catch { throw unreadable(error) }
        defer { close(descriptor) }
        var status = stat()
        guard fstat(descriptor, &status) == 0 else { throw unreadable(path, errno) }
        let isRegular = status.st_mode & S_IFMT == S_IFREG
        if isRegular, status.st_size > limit { throw tooLarge(path, limit) }

        // One byte more than a regular file holds, so that its end is seen without growing.
        var capacity = isRegular ? Int(status.st_size) + 1 : 1 << 16
        var bytes: [UInt8] = []
        while true {
            var failure: Int32 = 0
            var reachedEnd = false
            let start = bytes.count
            let part = [UInt8](unsafeUninitializedCapacity: capacity) { buffer, initialized in
                while initialized < capacity, !reachedEnd, failure == 0 {
                    let rest = UnsafeMutableBufferPointer(rebasing: buffer[initialized..<capacity])
                    let count = Glibc.read(descriptor, rest.baseAddress, rest.count)
                    if count > 0 {
                        initialized += count
                    } else if count == 0 {
                        reachedEnd = true
                    } else if errno != EINTR {
                        failure = errno
                    }
                }
            }
            guard failure == 0 else { throw unreadable(path, failure) }
            if start == 0 { bytes = part } else { bytes += part }
            if bytes.count > limit { throw tooLarge(path, limit) }
            if reachedEnd { break }
            capacity = min(max(bytes.count, 1 << 16), 1 << 26)
        }
        guard !bytes.isEmpty else {
            throw ImageError(.empty, in: path, "the file is empty", remedy: "Give a PNG, JPEG, WebP or TIFF picture")
        }
        return bytes
    }

    /// Writes `bytes` to a temporary file beside `path` and renames it into place.
    ///
    /// A reader of `path` sees the old file or the whole new one. On failure the temporary file is gone and `path` is
    /// as it was. A device or a pipe at `path` is written to directly; a symbolic link keeps pointing where it points.
    package static func write(_ bytes: [UInt8], to path: String) throws(ImageError) {
        var status = stat()
        let exists = stat(path, &status) == 0
        if exists, status.st_mode & S_IFMT == S_IFDIR { throw unwritable(path, EISDIR) }
        if exists, status.st_mode & S_IFMT != S_IFREG {
            let descriptor = open(path, O_WRONLY | O_CLOEXEC)
            guard descriptor >= 0 else { throw unwritable(path, errno) }
            defer { close(descriptor) }
            if let failure = writeAll(bytes, to: descriptor) { throw unwritable(path, failure) }
            return
        }
        if exists, access(path, W_OK) != 0 { throw unwritable(path, errno) }
        do throws(FileFault) {
            var file = try AtomicFile(replacing: path)
            try file.write(bytes)
            try file.commit()
        } catch {
            guard case .system(let code) = error.reason else { throw unwritable(path, EISDIR) }
            throw unwritable(path, code)
        }
    }

    private static func writeAll(_ bytes: [UInt8], to descriptor: Int32) -> Int32? {
        bytes.withUnsafeBytes { buffer in
            var rest = buffer[...]
            while !rest.isEmpty {
                let count = Glibc.write(descriptor, UnsafeRawBufferPointer(rebasing: rest).baseAddress, rest.count)
                if count >= 0 {
                    rest = rest.dropFirst(count)
                } else if errno != EINTR {
                    return errno
                }
            }
            return nil
        }
    }

    private static func unreadable(_ fault: FileFault) -> ImageError {
        switch fault.reason {
        case .system(let code): unreadable(fault.path, code)
        case .directory, .special:
            ImageError(
                .unreadable, in: fault.path, "it \(fault.clause)", remedy: "Give the path of a picture's file")
        }
    }

    private static func unreadable(_ path: String, _ code: Int32) -> ImageError {
        let remedy =
            switch code {
            case ENOENT, ENOTDIR: "Check the path"
            case EACCES, EPERM: "Give yourself the right to read it"
            default: "Check the file and the disk it is on"
            }
        return ImageError(
            .unreadable, in: path, "it cannot be read: \(String(cString: strerror(code)))", remedy: remedy)
    }

    private static func unwritable(_ path: String, _ code: Int32) -> ImageError {
        let remedy =
            switch code {
            case ENOENT, ENOTDIR: "Create the directory first"
            case EISDIR: "Give the path of a file, not of a directory"
            case EACCES, EPERM, EROFS: "Choose a place that you may write to"
            case ENOSPC, EDQUOT: "Make room on the disk"
            case ENAMETOOLONG: "Give a shorter name"
            default: "Choose another place"
            }
        return ImageError(
            .unwritable, in: path, "it cannot be written: \(String(cString: strerror(code)))", remedy: remedy)
    }

    private static func tooLarge(_ path: String, _ limit: Int) -> ImageError {
        ImageError(
            .tooLarge, in: path, "the file is larger than \(limit) bytes, more than a picture within the limit takes",
            remedy: PixelLimit.remedy)
    }
}

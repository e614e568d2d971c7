import Glibc
public import Platform

/// Reads the lines of a jobs file or pipe, some at a time, in bounded memory.
///
/// It reads no further than it is asked to, on a thread outside the cooperative pool; a line that is longer than the
/// limit is skipped without being kept. What comes through a pipe is handed on as soon as it is there.
public actor JobLineReader {
    /// What stands on a line.
    public enum Entry: Sendable, Hashable {
        /// The line's number, counted from 1, and its bytes without the end of line.
        case line(number: Int, text: [UInt8])
        /// A line that is too long to be read, and how long it is.
        case tooLong(number: Int, bytes: Int)
    }

    /// The longest line that is read unless told otherwise: a picture of 90 MB in base64.
    public static let longestLine = 128 << 20

    private let thread = BlockingExecutor()
    /// Where it runs.
    public nonisolated var unownedExecutor: UnownedSerialExecutor { thread.asUnownedSerialExecutor() }

    private let name: String
    private let descriptor: Int32
    private let closesDescriptor: Bool
    private let limit: Int
    private let batchLines: Int
    private let batchBytes: Int
    /// How many bytes the file has; nil for a pipe.
    public nonisolated let byteCount: Int?

    private var buffer: [UInt8] = []
    /// Where the next line begins in the buffer, and up to where no end of line was found.
    private var start = 0
    private var searched = 0
    private var number = 0
    private var skipped = 0
    private var hasEnded = false
    /// How many bytes were handed on or skipped.
    public private(set) var bytesRead = 0

    /// Opens a file.
    ///
    /// - Parameters:
    ///   - path: a regular file, or a pipe that a shell laid; `-` for standard input, whatever that is.
    ///   - limit: bytes of the longest line that is read.
    ///   - batchLines: how many lines ``next()`` returns at most.
    ///   - batchBytes: from how many bytes on it returns fewer.
    /// - Throws: ``JobFileError`` where the file cannot be opened, is a directory, or is a device or the like, which is
    ///   read as standard input alone.
    public init(
        _ path: String, limit: Int = JobLineReader.longestLine, batchLines: Int = 512, batchBytes: Int = 8 << 20
    ) throws(JobFileError) {
        name = path == "-" ? "standard input" : path
        closesDescriptor = path != "-"
        self.limit = limit
        self.batchLines = max(1, batchLines)
        self.batchBytes = batchBytes
        if path == "-" {
            descriptor = STDIN_FILENO
        } else {
            do throws(FileFault) { descriptor = try InputFile.open(path) } catch {
                let remedy =
                    if case .special = error.reason { "give it as standard input: --jobs - <\(path)" } else {
                        error.remedy.prefix(1).lowercased() + error.remedy.dropFirst()
                    }
                throw JobFileError(file: path, reason: "\(error.clause): \(remedy)")
            }
        }
        var status = stat()
        let isKnown = fstat(descriptor, &status) == 0
        byteCount = isKnown && status.st_mode & S_IFMT == S_IFREG ? Int(status.st_size) : nil
        if isKnown, status.st_mode & S_IFMT == S_IFDIR {
            throw JobFileError(file: name, reason: "is a directory; a file of lines is expected")
        }
    }

    deinit { if closesDescriptor, descriptor >= 0 { close(descriptor) } }

    /// The next lines that are not blank; nil at the end.
    ///
    /// - Throws: where reading fails, or the task was cancelled (an error of its own kind, ``JobFileError``).
    public func next() throws(JobFileError) -> [Entry]? {
        var entries: [Entry] = []
        var bytes = 0
        while entries.count < batchLines, bytes < batchBytes {
            if let entry = takeLine() {
                if case .line(_, let text) = entry {
                    if text.allSatisfy({ $0 == 0x20 || $0 == 0x09 || $0 == 0x0D }) { continue }
                    bytes += text.count
                }
                entries.append(entry)
                continue
            }
            if hasEnded { break }
            // Somebody may feed us by hand: what is there is handed on before we wait for more.
            if !entries.isEmpty, !isReady(within: 0) { break }
            try fill()
        }
        return entries.isEmpty ? nil : entries
    }

    /// The next whole line of the buffer, or the rest at the end of the file.
    private func takeLine() -> Entry? {
        let newline = buffer.withUnsafeBytes { bytes -> Int? in
            guard let base = bytes.baseAddress, searched < bytes.count,
                let found = memchr(base + searched, 0x0A, bytes.count - searched)
            else { return nil }
            return UnsafeRawPointer(found) - base
        }
        let end: Int
        if let newline {
            end = newline
        } else if hasEnded, start < buffer.count || skipped > 0 {
            end = buffer.count
        } else {
            searched = buffer.count
            if buffer.count - start > limit {
                skipped += buffer.count - start
                buffer.removeAll(keepingCapacity: true)
                (start, searched) = (0, 0)
            }
            return nil
        }
        number += 1
        let length = end - start + skipped
        bytesRead += length + 1
        var text = buffer[start..<end]
        start = min(end + 1, buffer.count)
        searched = start
        guard length <= limit else {
            skipped = 0
            return .tooLong(number: number, bytes: length)
        }
        // Editors on some systems put a byte order mark at the head of a file.
        if number == 1, text.starts(with: [0xEF, 0xBB, 0xBF]) { text = text.dropFirst(3) }
        return .line(number: number, text: Array(text))
    }

    private func fill() throws(JobFileError) {
        if start > 0 {
            buffer.removeSubrange(..<start)
            searched -= start
            start = 0
        }
        while !isReady(within: 100) {
            if Task.isCancelled { throw JobFileError(file: name, reason: "reading was cancelled") }
        }
        let room = 256 << 10
        let old = buffer.count
        buffer.append(contentsOf: repeatElement(0, count: room))
        let count = buffer.withUnsafeMutableBytes { bytes in
            bytes.baseAddress.map { read(descriptor, $0 + old, room) } ?? 0
        }
        let code = errno
        buffer.removeLast(room - max(0, count))
        if count < 0, code != EINTR, code != EAGAIN {
            throw JobFileError(file: name, reason: "cannot be read: \(String(cString: strerror(code)))")
        }
        if count == 0 { hasEnded = true }
    }

    private func isReady(within milliseconds: Int32) -> Bool {
        var request = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
        return poll(&request, 1, milliseconds) != 0
    }
}

/// A file of jobs that cannot be read.
public struct JobFileError: ReportableError, Sendable, Hashable {
    /// Which file.
    public let file: String
    /// Why.
    public let reason: String
    /// File and reason.
    public var report: ErrorReport { ErrorReport(.input, "unreadable-jobs-file", at: file, reason) }

    /// The report in one line.
    public var description: String { report.text }
}

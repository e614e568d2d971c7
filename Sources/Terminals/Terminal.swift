import Glibc
import Platform

/// Standard error, where progress and complaints go, so that standard output holds the answer alone.
package enum Terminal {
    package static let isInteractive = isatty(STDERR_FILENO) == 1

    /// Columns of the window.
    package static var columns: Int {
        var size = winsize()
        return ioctl(STDERR_FILENO, UInt(TIOCGWINSZ), &size) == 0 && size.ws_col > 0 ? Int(size.ws_col) : 80
    }

    package static func complain(_ text: String) { write(text + "\n") }

    package static func write(_ text: String) {
        // A file is called what it was called by whoever named it.
        var bytes = FileName.bytes(of: text)[...]
        while !bytes.isEmpty {
            let count = bytes.withUnsafeBytes { Glibc.write(STDERR_FILENO, $0.baseAddress, $0.count) }
            guard count > 0 else { return }
            bytes = bytes.dropFirst(count)
        }
    }
}

/// The three streams that a process is born with.
package enum StandardStreams {
    /// Puts something that gives nothing and takes nothing in the place of a stream that was closed by whoever started us.
    ///
    /// Otherwise the first file or socket to be opened would be standard output, and answers would be written into it.
    package static func open() {
        for descriptor in STDIN_FILENO...STDERR_FILENO where fcntl(descriptor, F_GETFD) < 0 {
            // The lowest free descriptor is this one. To write to what was opened for reading is an error, as it should be.
            _ = Glibc.open("/dev/null", descriptor == STDERR_FILENO ? O_WRONLY : O_RDONLY)
        }
    }
}

/// One line that tells how far a long task has come: drawn in place on a terminal, a line per tenth elsewhere.
package struct ProgressBar {
    private let title: String
    private let total: Int
    private let unit: (Int) -> String
    private var shown = -1

    /// A bar that is full at `total`, with amounts written by `unit`.
    package init(_ title: String, total: Int, unit: @escaping (Int) -> String = { "\($0)" }) {
        self.title = title
        self.total = max(1, total)
        self.unit = unit
    }

    package mutating func show(_ amount: Int) {
        let percent = min(100, amount * 100 / total)
        let step = Terminal.isInteractive ? percent : percent / 10
        guard step != shown else { return }
        shown = step
        let counts = "\(percent)% (\(unit(amount)) of \(unit(total)))"
        guard Terminal.isInteractive else {
            Terminal.complain("\(title): \(counts)")
            return
        }
        let width = 30
        let filled = percent * width / 100
        let bar = String(repeating: "█", count: filled) + String(repeating: "·", count: width - filled)
        Terminal.write("\r\u{1B}[2K\(title) \(bar) \(counts)")
        if percent == 100 { Terminal.write("\n") }
    }
}

/// Sizes as people read them.
package enum ByteText {
    package static func of(_ bytes: Int) -> String {
        if bytes < 10_000 { return "\(bytes) B" }
        if bytes < 10_000_000 { return "\(bytes / 1000) kB" }
        return "\(bytes / 1_000_000) MB"
    }
}

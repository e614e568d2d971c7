import FoundationEssentials
import Glibc
package import JSON
package import Platform
import Synchronization

/// Standard output for many tasks: whole lines, written outside the cooperative pool, however slow the reader is.
package actor StandardOutput {
    private let thread = BlockingExecutor()
    package nonisolated var unownedExecutor: UnownedSerialExecutor { thread.asUnownedSerialExecutor() }
    private let status: StatusLine?

    /// - Parameter status: what must make way where both go to a terminal.
    package init(status: StatusLine? = nil) { self.status = status }

    /// Writes bytes; returns when the system has taken them.
    ///
    /// - Throws: ``ClosedOutput`` when the reader went away.
    package func write(_ bytes: [UInt8]) throws {
        if OutputTerminal.isInteractive { status?.hide() }
        try Self.print(bytes)
    }

    package func write(_ value: JSONValue) throws { try write(value.line) }

    package func write(_ values: [JSONValue]) throws { try write(values.flatMap(\.line)) }

    /// Writes lines, coloured where that is wanted.
    package func write(_ lines: [TintedLine]) throws {
        try write(lines.flatMap { Array("\($0.text(colour: OutputTerminal.hasColour))\n".utf8) })
    }

    /// Writes to standard output.
    ///
    /// - Throws: when the reader went away or the disk is full, so that a half-written answer is no success.
    package static func print(_ bytes: [UInt8]) throws {
        var rest = bytes[...]
        while !rest.isEmpty {
            let count = rest.withUnsafeBytes { Glibc.write(STDOUT_FILENO, $0.baseAddress, $0.count) }
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { throw ClosedOutput(reason: String(cString: strerror(errno))) }
            rest = rest.dropFirst(count)
        }
    }

    /// Writes one JSON object, its members by name, and an end of line.
    ///
    /// - Throws: as ``print(_:)`` does, and where a number of it has no word in JSON.
    package static func print(json value: some Encodable) throws {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys]
        try print(Array(try encoder.encode(value)) + [UInt8(ascii: "\n")])
    }
}

/// Standard output that takes no more.
package struct ClosedOutput: ReportableError {
    package let reason: String
    package var report: ErrorReport {
        ErrorReport(.ours, "closed-output", at: "standard output", "cannot be written: \(reason)")
    }

    /// The report in one line.
    package var description: String { report.text }
}

/// The last line of a terminal's screen, drawn on standard error over and over while complaints scroll by above it.
///
/// Nothing is drawn where standard error is no terminal.
package final class StatusLine: Sendable {
    private struct State: Sendable {
        var text = ""
        var isShown = false
        var drawn: ContinuousClock.Instant?
    }

    /// Guards what is on the screen.
    private let state = Mutex(State())

    /// A line that is not shown yet.
    package init() {}

    /// Draws the line, at most ten times a second.
    package func show(_ text: String) {
        guard Terminal.isInteractive else { return }
        state.withLock { state in
            let now = ContinuousClock.now
            state.text = text
            if let drawn = state.drawn, state.isShown, now - drawn < .milliseconds(100) { return }
            state.drawn = now
            state.isShown = true
            // A line that is wider than the window would scroll it away piece by piece.
            Terminal.write("\r\u{1B}[2K\(text.prefix(Terminal.columns - 1))")
        }
    }

    /// Clears it; the next ``show(_:)`` draws it again.
    package func hide() {
        state.withLock { state in
            if state.isShown { Terminal.write("\r\u{1B}[2K") }
            state.isShown = false
        }
    }

    /// Writes a line of its own above.
    package func say(_ text: String) {
        state.withLock { state in
            if state.isShown { Terminal.write("\r\u{1B}[2K") }
            Terminal.complain(text)
            if state.isShown { Terminal.write(String(state.text.prefix(Terminal.columns - 1))) }
        }
    }

    /// `██████····` for a part of the whole.
    package static func bar(_ part: Double) -> String {
        let width = 24
        let filled = Int((max(0, min(1, part)) * Double(width)).rounded(.down))
        return String(repeating: "█", count: filled) + String(repeating: "·", count: width - filled)
    }
}

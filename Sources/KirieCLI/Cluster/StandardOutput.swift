import Cluster
import Glibc
import Synchronization

/// Standard output for many tasks: whole lines, written outside the cooperative pool, however slow the reader is.
actor StandardOutput {
    private let thread = BlockingExecutor()
    nonisolated var unownedExecutor: UnownedSerialExecutor { thread.asUnownedSerialExecutor() }
    private let status: StatusLine?

    /// - Parameter status: what must make way where both go to a terminal.
    init(status: StatusLine? = nil) { self.status = status }

    /// Writes bytes; returns when the system has taken them.
    ///
    /// - Throws: ``ClosedOutput`` when the reader went away.
    func write(_ bytes: [UInt8]) throws {
        if OutputTerminal.isInteractive { status?.hide() }
        try FileOutput.print(bytes)
    }

    func write(_ value: JSONLine) throws { try write(value.line) }

    func write(_ values: [JSONLine]) throws { try write(values.flatMap(\.line)) }

    /// Writes lines, coloured where that is wanted.
    func write(_ lines: [TintedLine]) throws {
        try write(lines.flatMap { Array("\($0.text(colour: OutputTerminal.hasColour))\n".utf8) })
    }
}

/// The last line of a terminal's screen, drawn on standard error over and over while complaints scroll by above it.
///
/// Nothing is drawn where standard error is no terminal.
final class StatusLine: Sendable {
    private struct State: Sendable {
        var text = ""
        var isShown = false
        var drawn: ContinuousClock.Instant?
    }

    /// Guards what is on the screen.
    private let state = Mutex(State())

    /// Draws the line, at most ten times a second.
    func show(_ text: String) {
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
    func hide() {
        state.withLock { state in
            if state.isShown { Terminal.write("\r\u{1B}[2K") }
            state.isShown = false
        }
    }

    /// Writes a line of its own above.
    func say(_ text: String) {
        state.withLock { state in
            if state.isShown { Terminal.write("\r\u{1B}[2K") }
            Terminal.complain(text)
            if state.isShown { Terminal.write(String(state.text.prefix(Terminal.columns - 1))) }
        }
    }

    /// `██████····` for a part of the whole.
    static func bar(_ part: Double) -> String {
        let width = 24
        let filled = Int((max(0, min(1, part)) * Double(width)).rounded(.down))
        return String(repeating: "█", count: filled) + String(repeating: "·", count: width - filled)
    }
}

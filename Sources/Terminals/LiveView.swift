import Glibc
package import JSON
import Platform
import UnixSignals

/// What one look brought.
package struct LiveFrame: Sendable {
    package let lines: [TintedLine]
    package let json: JSONValue

    /// A frame in both forms.
    package init(lines: [TintedLine], json: JSONValue) {
        self.lines = lines
        self.json = json
    }
}

/// Shows something once, or again and again: drawn in place on a terminal, one block or JSON line after another elsewhere.
package struct LiveView: Sendable {
    private enum Event: Sendable {
        case frame(LiveFrame)
        case fault(String)
        case resized
        case quit
    }

    package let title: String
    /// Seconds between two looks; nil to look once.
    package let interval: Double?
    /// Whether JSON is wanted, and nothing drawn.
    package let isJSON: Bool

    /// A view that is not shown yet.
    package init(title: String, interval: Double?, isJSON: Bool) {
        self.title = title
        self.interval = interval
        self.isJSON = isJSON
    }

    /// Asks `look` for frames and shows them; once watching, what it throws is shown, and it is asked again.
    package func run(_ look: @escaping @Sendable () async throws -> LiveFrame) async throws {
        let output = StandardOutput()
        let first = try await look()
        guard let interval else {
            if isJSON { try await output.write(first.json) } else { try await output.write(first.lines) }
            return
        }
        let isInPlace = OutputTerminal.isInteractive && !isJSON && Environment["TERM"] != "dumb"
        let signals = await UnixSignalsSequence(trapping: .sigint, .sigterm, .sighup, .sigwinch)
        let (events, announce) = AsyncStream.makeStream(of: Event.self)
        announce.yield(.frame(first))
        try await withThrowingTaskGroup(of: Void.self) { group in
            defer { group.cancelAll() }
            group.addTask {
                for await signal in signals {
                    announce.yield(signal == .sigwinch ? .resized : .quit)
                }
            }
            group.addTask {
                while !Task.isCancelled {
                    try await Task.sleep(for: .seconds(interval))
                    do { announce.yield(.frame(try await look())) } catch { announce.yield(.fault("\(error)")) }
                }
            }
            let screen = isInPlace ? Screen(title: title, interval: interval) : nil
            if screen != nil, isatty(STDIN_FILENO) == 1 {
                group.addTask {
                    let keyboard = Keyboard()
                    await keyboard.waitForQuit()
                    announce.yield(.quit)
                }
            }
            try await show(events, on: screen, output)
        }
    }

    private func show(_ events: AsyncStream<Event>, on screen: Screen?, _ output: StandardOutput) async throws {
        try screen?.enter()
        // Whatever ends the view gives the terminal back as it was.
        defer { screen?.leave() }
        var frame: LiveFrame?
        var fault: String?
        for await event in events {
            switch event {
            case .frame(let new):
                let isFirst = frame == nil
                frame = new
                fault = nil
                if screen == nil {
                    if isJSON {
                        try await output.write(new.json)
                    } else {
                        try await output.write((isFirst ? [] : [TintedLine()]) + new.lines)
                    }
                }
            case .fault(let reason):
                fault = reason
                if screen == nil { Terminal.complain("kirie: \(reason); trying again") }
            case .resized: break
            case .quit: return
            }
            if let screen, let frame { try screen.draw(frame.lines, fault: fault) }
        }
    }
}

/// The terminal's other screen, on which a view is drawn over its predecessor.
private final class Screen {
    private let title: String
    private let interval: Double
    private var saved: termios?
    private var isEntered = false

    init(title: String, interval: Double) {
        self.title = title
        self.interval = interval
    }

    func enter() throws {
        isEntered = true
        var settings = termios()
        if isatty(STDIN_FILENO) == 1, tcgetattr(STDIN_FILENO, &settings) == 0 {
            saved = settings
            settings.c_lflag &= ~tcflag_t(ICANON | ECHO)
            // A stopped program would leave its screen behind.
            withUnsafeMutableBytes(of: &settings.c_cc) { $0[Int(VSUSP)] = 0 }
            tcsetattr(STDIN_FILENO, TCSANOW, &settings)
        }
        // The alternate screen, without a cursor and without wrapping of what is too long.
        try StandardOutput.print(Array("\u{1B}[?1049h\u{1B}[?25l\u{1B}[?7l\u{1B}[2J".utf8))
    }

    /// Gives the terminal back; harmless when repeated.
    func leave() {
        guard isEntered else { return }
        isEntered = false
        try? StandardOutput.print(Array("\u{1B}[?7h\u{1B}[?25h\u{1B}[?1049l".utf8))
        if var saved { tcsetattr(STDIN_FILENO, TCSANOW, &saved) }
    }

    /// Draws in one write: lines over lines, so that nothing flickers.
    func draw(_ lines: [TintedLine], fault: String?) throws {
        let (columns, rows) = OutputTerminal.size
        var head = TintedLine(title, .heading)
        let hint = "\(Figures.timeOfDay)  every \(Figures.interval(interval))  q quits"
        head.add(String(repeating: " ", count: max(2, columns - head.width - hint.count)))
        head.add(hint, .quiet)
        var all = [head, TintedLine()] + lines
        if let fault { all.insert(TintedLine("\(fault); trying again", .bad), at: 1) }
        if all.count > rows {
            let hidden = all.count - rows + 1
            all = Array(all.prefix(max(1, rows - 1)))
            all.append(TintedLine("… \(hidden) more lines: make the window higher", .quiet))
        }
        var text = "\u{1B}[?2026h\u{1B}[H"
        for (index, line) in all.prefix(rows).enumerated() {
            if index > 0 { text += "\r\n" }
            text += line.text(colour: OutputTerminal.hasColour, limit: columns) + "\u{1B}[K"
        }
        text += "\u{1B}[J\u{1B}[?2026l"
        try StandardOutput.print(Array(text.utf8))
    }
}

/// The keys that somebody presses.
private actor Keyboard {
    private let thread = BlockingExecutor()
    nonisolated var unownedExecutor: UnownedSerialExecutor { thread.asUnownedSerialExecutor() }

    /// Returns when q was pressed, or the task is cancelled.
    func waitForQuit() {
        var request = pollfd(fd: STDIN_FILENO, events: Int16(POLLIN), revents: 0)
        while !Task.isCancelled {
            guard poll(&request, 1, 100) > 0 else { continue }
            var byte: UInt8 = 0
            guard read(STDIN_FILENO, &byte, 1) == 1 else { return waitForCancellation() }
            if byte == UInt8(ascii: "q") || byte == UInt8(ascii: "Q") { return }
        }
    }

    /// A keyboard that is gone presses no keys.
    private func waitForCancellation() { while !Task.isCancelled { poll(nil, 0, 100) } }
}

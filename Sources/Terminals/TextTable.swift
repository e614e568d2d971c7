import Glibc
import Platform

/// How a piece of text looks on a terminal.
package enum Tint: String, Sendable {
    case plain = ""
    case heading = "1"
    case quiet = "2"
    case good = "32"
    case warning = "33"
    case bad = "31"
}

/// A line of text in pieces, so that it can be cut to a width and coloured or not.
package struct TintedLine: Sendable {
    private(set) var pieces: [(text: String, tint: Tint)] = []

    package init(_ text: String = "", _ tint: Tint = .plain) { add(text, tint) }

    package mutating func add(_ text: String, _ tint: Tint = .plain) {
        if !text.isEmpty { pieces.append((text, tint)) }
    }

    package var width: Int { pieces.reduce(0) { $0 + $1.text.count } }

    /// The line cut to `limit` columns of the terminal, nil for no end, with or without its tints.
    package func text(colour: Bool, limit: Int? = nil) -> String {
        var left = limit ?? .max
        var line = ""
        for (piece, tint) in pieces where left > 0 {
            let shown = String(piece.prefix(left))
            left -= shown.count
            line += colour && tint != .plain ? "\u{1B}[\(tint.rawValue)m\(shown)\u{1B}[0m" : shown
        }
        // Without colour, nothing says where trailing blanks end.
        while !colour, line.last == " " { line.removeLast() }
        return line
    }
}

/// Rows under a heading, each column as wide as it must be.
package struct TextTable {
    package enum Side { case left, right }

    package struct Column {
        package let title: String
        package let side: Side
        package let leastWidth: Int
    }

    package struct Cell {
        package let text: String
        package let tint: Tint
        package init(_ text: String, _ tint: Tint = .plain) {
            self.text = text
            self.tint = tint
        }
        /// A number that is of interest when it is not 0.
        package static func count(_ number: Int?, _ tint: Tint = .plain) -> Cell {
            guard let number else { return Cell(Figures.nothing, .quiet) }
            return Cell(Figures.count(number), number == 0 ? .quiet : tint)
        }
        package static func duration(_ duration: Duration?) -> Cell {
            Cell(Figures.duration(duration), duration == nil ? .quiet : .plain)
        }
    }

    private let columns: [Column]
    private var rows: [[Cell]] = []

    /// - Parameter columns: title, side and the width that it has at least, so that a table that is drawn again stays put.
    package init(_ columns: [(title: String, side: Side, leastWidth: Int)]) {
        self.columns = columns.map { Column(title: $0.title, side: $0.side, leastWidth: $0.leastWidth) }
    }

    package mutating func add(_ cells: [Cell]) { rows.append(cells) }

    package var lines: [TintedLine] {
        let widths = columns.indices.map { index in
            rows.reduce(max(columns[index].title.count, columns[index].leastWidth)) { max($0, $1[index].text.count) }
        }
        var lines: [TintedLine] = []
        for cells in [columns.map { Cell($0.title, .heading) }] + rows {
            var line = TintedLine()
            for (index, cell) in cells.enumerated() {
                if index > 0 { line.add("  ") }
                let blank = String(repeating: " ", count: widths[index] - cell.text.count)
                if columns[index].side == .right { line.add(blank) }
                line.add(cell.text, cell.tint)
                if columns[index].side == .left { line.add(blank) }
            }
            lines.append(line)
        }
        return lines
    }
}

/// What standard output can show.
package enum OutputTerminal {
    package static let isInteractive = isatty(STDOUT_FILENO) == 1

    /// Colour only where somebody looks on who did not say no (<https://no-color.org>).
    package static let hasColour =
        isInteractive && (Environment["NO_COLOR"] ?? "").isEmpty && Environment["TERM"] != "dumb"

    /// Columns and rows of the window.
    package static var size: (columns: Int, rows: Int) {
        var size = winsize()
        guard ioctl(STDOUT_FILENO, UInt(TIOCGWINSZ), &size) == 0, size.ws_col > 0, size.ws_row > 0 else {
            return (80, 24)
        }
        return (Int(size.ws_col), Int(size.ws_row))
    }
}

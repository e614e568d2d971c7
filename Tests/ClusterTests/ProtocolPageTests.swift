import Cluster
import Foundation
import Testing

/// The page of the protocol says what the library's own contracts say.
///
/// `KIRIE_WRITE_PAGES=1 swift test --filter ProtocolPageTests` writes it anew.
@Suite struct ProtocolPageTests {
    private static let path = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent().appending(path: "Sources/Cluster/Cluster.docc/Protocol.md")

    @Test func thePageIsThatOfTheLibrary() throws {
        let page = ProtocolPage(of: FunctionsLibrary.source)
        if ProcessInfo.processInfo.environment["KIRIE_WRITE_PAGES"] == "1" {
            try Data(page.text.utf8).write(to: Self.path)
        }
        let written = try String(contentsOf: Self.path, encoding: .utf8)
        #expect(written == page.text, "write it anew: KIRIE_WRITE_PAGES=1 swift test --filter ProtocolPageTests")
    }

    /// Every function that the library registers has a contract, which says how it is called, what it replies and how it
    /// fails.
    @Test func everyFunctionHasAContract() {
        let page = ProtocolPage(of: FunctionsLibrary.source)
        let source = FunctionsLibrary.source
        let registered = source.matches(of: #/(?:register|read_only)\('(kirie_\w+)'|function_name = '(kirie_\w+)'/#)
            .map { String($0.1 ?? $0.2 ?? "") }
        #expect(registered.count >= 20)
        #expect(Set(page.functions.map(\.name)) == Set(registered))
        for function in page.functions {
            #expect(function.call.contains("FCALL"), "\(function.name)")
            #expect(function.parts.contains { $0.hasPrefix("Reply:") }, "\(function.name) does not say what it replies")
        }
    }
}

/// The protocol as a page that a person reads, made of the comments in the library.
private struct ProtocolPage {
    /// What stands above a function.
    struct Contract {
        let name: String
        let call: String
        /// What it does, then `Reply: …` and `Errors: …`.
        let parts: [String]
    }

    let functions: [Contract]
    private let sections: [(title: String, lines: [String])]
    private let settings: [[String]]

    init(of source: String) {
        let lines = source.components(separatedBy: "\n")
        var functions: [Contract] = []
        var sections: [(title: String, lines: [String])] = []
        var index = 0
        let header = lines.prefix { $0 != "]]" }
        for line in header.dropFirst(2) {
            if line.prefixMatch(of: #/[A-Z][A-Z ]{2,}/#) != nil {
                sections.append((line, []))
            } else if !sections.isEmpty {
                sections[sections.count - 1].lines.append(line)
            }
        }
        while index < lines.count {
            if let match = lines[index].wholeMatch(of: #/--\[\[ (kirie_\w+) +(.*)/#) {
                var block = [String(match.2)]
                while !block[block.count - 1].hasSuffix("]]"), index + 1 < lines.count {
                    index += 1
                    block.append(lines[index])
                }
                functions.append(Self.contract(String(match.1), block))
            }
            index += 1
        }
        self.functions = functions
        self.sections = sections
        settings = source.matches(of: #/^ {4}.*$/#.anchorsMatchLineEndings()).flatMap { line in
            let comment = line.0.firstRange(of: "-- ").map { String(line.0[$0.upperBound...]) } ?? ""
            return line.0.matches(of: #/(?:\['([\w:]+)'\]|(\w+)) = \{ (\w+), (\w+), (\w+) \}/#).map {
                [String($0.1 ?? $0.2 ?? ""), String($0.3), String($0.4), Self.bound(String($0.5)), comment]
            }
        }
    }

    private static func bound(_ name: String) -> String {
        ["COUNT": "10^9", "BYTES": "10^15", "TIME": "10^13"][name] ?? name
    }

    private static func contract(_ name: String, _ block: [String]) -> Contract {
        var call = block[0]
        var rest = block.dropFirst()
        // The call goes on where the next lines stand under it.
        while let line = rest.first, line.hasPrefix("          ") {
            call += " " + line.trimmingCharacters(in: .whitespaces)
            rest = rest.dropFirst()
        }
        var text = ""
        for line in rest {
            let piece = line.trimmingCharacters(in: .whitespaces)
            text += (line.hasPrefix("    ") ? "\n    " : text.isEmpty ? "" : " ") + piece
        }
        text = text.replacing("]]", with: "").replacing(" Reply:", with: "\u{0}Reply:").replacing(
            " Errors:", with: "\u{0}Errors:")
        let parts = text.components(separatedBy: "\u{0}")
        return Contract(name: name, call: call, parts: parts.map { $0.trimmingCharacters(in: .whitespacesAndNewlines) })
    }

    var text: String {
        var page = """
            # The protocol

            The atomic steps of the cluster, as functions that any Redis client can call.

            <!-- Made from the comments in Sources/Cluster/Resources/kirie, and held equal to them by a test. -->

            ## Overview

            | function | what it does |
            |---|---|

            """
        for function in functions {
            let sentence = function.parts[0].prefix { $0 != "." && $0 != "\n" }
            page += "| `\(function.name)` | \(sentence) |\n"
        }
        for (title, lines) in sections {
            let head = title.prefixMatch(of: #/[A-Z][A-Z, ]+[A-Z]/#)?.0 ?? title[...]
            let name = head.prefix(1) + head.dropFirst().lowercased()
            let after = title.dropFirst(head.count).trimmingCharacters(in: .whitespaces)
            let body = ([after].filter { !$0.isEmpty } + lines).joined(separator: "\n")
            let isDrawn = body.contains("─") || body.firstMatch(of: #/\S {3,}\S/#) != nil
            let paragraphs = lines.map { $0.trimmingCharacters(in: .whitespaces) }.joined(separator: "\n")
            page += "\n## \(name)\n\n"
            let block = "\(([title.dropFirst(head.count)] + lines.map { $0[...] }).joined(separator: "\n"))"
            page +=
                isDrawn
                ? "```\n\(block.trimmingCharacters(in: .newlines))\n```\n"
                : paragraphs.trimmingCharacters(in: .newlines) + "\n"
        }
        page += "\n## Settings\n\nFields of the hash `<prefix>limits`; `kirie_limits` changes them.\n\n"
        page += "| setting | default | least | greatest | |\n|---|---|---|---|---|\n"
        for row in settings { page += "| `\(row[0])` | \(row[1...].joined(separator: " | ")) |\n" }
        page += "\n## Functions\n"
        for function in functions {
            page += "\n### \(function.name)\n\n```\n\(function.call)\n```\n"
            for part in function.parts where !part.isEmpty { page += "\n\(part)\n" }
        }
        return page
    }
}

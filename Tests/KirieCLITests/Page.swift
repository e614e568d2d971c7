import Foundation

/// A page of the project's documents, in the parts that tests hold to the truth.
struct Page: Sendable, CustomStringConvertible {
    /// What stands between two fences.
    struct Block: Sendable {
        /// The word behind the fence; empty for none.
        let language: String
        let lines: [String]

        var text: String { lines.joined(separator: "\n") }
    }

    static let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent()

    /// Every page, by its path.
    static let all: [Page] = {
        let folders = ["Sources", "Tests", "deploy", "weights"]
        let below = folders.flatMap { folder in
            let entries = FileManager.default.enumerator(atPath: root.appending(path: folder).path)
            return (entries?.compactMap { $0 as? String } ?? []).map { "\(folder)/\($0)" }
        }
        return (["README.md"] + below.filter { $0.hasSuffix(".md") }.sorted()).compactMap { try? Page(path: $0) }
    }()

    /// From the project's root.
    let path: String
    let blocks: [Block]
    /// The lines outside of blocks, inline code taken out.
    let prose: [String]

    init(path: String) throws {
        self.path = path
        let text = try String(contentsOf: Self.root.appending(path: path), encoding: .utf8)
        var blocks: [Block] = []
        var prose: [String] = []
        var open: (language: String, lines: [String])?
        for line in text.components(separatedBy: "\n") {
            if line.hasPrefix("```") {
                if let block = open {
                    blocks.append(Block(language: block.language, lines: block.lines))
                    open = nil
                } else {
                    open = (String(line.dropFirst(3)), [])
                }
            } else if open != nil {
                open?.lines.append(line)
            } else {
                prose.append(line.replacing(#/`[^`]*`/#, with: ""))
            }
        }
        self.blocks = blocks
        self.prose = prose
    }

    var description: String { path }

    var text: String {
        get throws { try String(contentsOf: Self.root.appending(path: path), encoding: .utf8) }
    }

    func blocks(in language: String) -> [Block] { blocks.filter { $0.language == language } }

    /// What its links and pictures point at, other sites aside.
    var links: [String] {
        prose.joined(separator: "\n").matches(of: #/\[[^\]]*\]\(([^)\s]+)\)/#).map { String($0.1) }
            .filter { !$0.hasPrefix("https://") }
    }

    /// What a link to one of its headings says behind `#`.
    var anchors: Set<String> {
        Set(
            prose.filter { $0.hasPrefix("#") }.map { line in
                line.drop { $0 == "#" || $0 == " " }.lowercased()
                    .filter { $0.isLetter || $0.isNumber || $0 == " " || $0 == "-" || $0 == "_" }
                    .replacingOccurrences(of: " ", with: "-")
            })
    }
}

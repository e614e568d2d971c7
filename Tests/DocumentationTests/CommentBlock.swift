import Foundation

/// A block of code in a documentation comment.
struct CommentBlock: Sendable, CustomStringConvertible {
    /// The project's folder.
    static let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent().standardizedFileURL

    /// The Swift files below a folder of the project, in order.
    static func files(below folder: String) -> [String] {
        let entries = FileManager.default.enumerator(atPath: root.appending(path: folder).path)
        return (entries?.compactMap { $0 as? String } ?? []).filter { $0.hasSuffix(".swift") }.sorted()
            .map { "\(folder)/\($0)" }
    }

    static func lines(of path: String) throws -> [String] {
        try String(contentsOf: root.appending(path: path), encoding: .utf8).components(separatedBy: "\n")
    }

    /// Every block of the comments below `Sources` and `Tests`.
    static let all: [CommentBlock] = (files(below: "Sources") + files(below: "Tests")).flatMap { path in
        // A file that cannot be read has no blocks; that there are many is held.
        blocks(of: (try? lines(of: path)) ?? [], path: path)
    }

    /// From the project's root.
    let path: String
    /// Where its first line stands, counted from 1.
    let line: Int
    /// The word behind the fence; nil for a block that is indented instead, as Markdown has it too.
    let language: String?
    var lines: [String] = []
    /// Whether a fence stands at its end.
    var isClosed = false

    var text: String { lines.joined(separator: "\n") }
    var description: String { "\(path):\(line): \(lines.first ?? "")" }

    /// The blocks of a file's documentation comments.
    static func blocks(of lines: [String], path: String) -> [CommentBlock] {
        var blocks: [CommentBlock] = []
        var open: CommentBlock?
        // Only behind a line of no text an indented one is code, and not the rest of a list's item.
        var isBehindBlank = false
        for (index, line) in lines.enumerated() {
            let trimmed = line.drop { $0 == " " }
            guard trimmed.hasPrefix("///") else {
                if let block = open { blocks.append(block) }
                (open, isBehindBlank) = (nil, false)
                continue
            }
            let text = trimmed.dropFirst(3)
            let content = String(text.hasPrefix(" ") ? text.dropFirst() : text)
            let isFence = content.drop { $0 == " " }.hasPrefix("```")
            if var block = open, block.language != nil {
                if isFence { block.isClosed = true } else { block.lines.append(content) }
                if isFence { blocks.append(block) }
                open = isFence ? nil : block
            } else if isFence {
                let language = String(content.drop { $0 == " " || $0 == "`" })
                open = CommentBlock(path: path, line: index + 2, language: language)
            } else if isBehindBlank, content.hasPrefix("    ") {
                blocks.append(CommentBlock(path: path, line: index + 1, language: nil, lines: [content]))
            }
            isBehindBlank = content.isEmpty
        }
        if let block = open { blocks.append(block) }
        return blocks
    }

    /// Whether these lines stand among those of a file, all of them moved to the right by as much.
    func stands(in file: [String]) -> Bool {
        guard let first = lines.first, file.count >= lines.count else { return false }
        return (0...(file.count - lines.count)).contains { start in
            guard file[start].hasSuffix(first) else { return false }
            let margin = file[start].dropLast(first.count)
            guard margin.allSatisfy({ $0 == " " }) else { return false }
            return zip(lines, file[start...]).allSatisfy { $0.isEmpty ? $1.isEmpty : $1 == margin + $0 }
        }
    }
}

package import Cluster
import FoundationEssentials
import Glibc
package import Imaging
package import Platform
package import Redis
package import Segmentation

/// How the files of a job's masks are called: by the picture, and numbered by its prompts.
package struct MaskName: Sendable, Hashable {
    /// What stands before the number, with the folders below that of the masks.
    package let prefix: String
    /// Masks a prompt.
    package let each: Int

    /// The file of a mask: `prompt` and its mask's `rank` are counted from 0, and prompts that could not be answered
    /// count too.
    package func file(prompt: Int, rank: Int, in folder: String) -> String {
        "\(folder)/\(prefix)-\(prompt * each + rank + 1).png"
    }

    /// `truck` for `photos/truck.jpg`; the head of the digest for a picture without a file.
    package static func stem(of image: JobLine.Source, digest: ImageDigest) -> String {
        guard case .path(let path) = image else { return String(digest.hexadecimal.prefix(12)) }
        return stem(of: path.split(separator: "/").last.map(String.init) ?? "image")
    }

    package static func stem(of name: String) -> String {
        guard let dot = name.lastIndex(of: "."), dot > name.startIndex else { return name }
        return String(name[..<dot])
    }
}

/// What the masks of pictures that were named together are called.
///
/// A picture's folders below the one that all share are kept, so that `d1/x.jpg` and `d2/x.jpg` become `d1/x-1.png` and
/// `d2/x-1.png`; of pictures that differ by their ending alone the ending is kept. So a name depends on the command alone,
/// not on what came of the other pictures.
package struct MaskNames: Sendable {
    private var prefixes: [String: String] = [:]

    /// Names for pictures whose paths are given as the command had them, relative ones seen from `workingDirectory`.
    package init(of pictures: [String], workingDirectory: String = MaskNames.workingDirectory) {
        let parts = pictures.map { Self.parts(of: $0, workingDirectory) }
        var shared = parts.first.map { Array($0.dropLast()) } ?? []
        for path in parts {
            shared = zip(shared, path.dropLast()).prefix { $0 == $1 }.map(\.0)
        }
        let below = parts.map { Array($0.dropFirst(shared.count)) }
        var names = below.map { Self.joined($0, MaskName.stem(of: $0.last ?? "image")) }
        // Whole names are different where paths are; a stem may be the whole name of another.
        while true {
            let users = Dictionary(grouping: names.indices) { names[$0] }
            let mixed = users.values.filter { Set($0.map { below[$0] }).count > 1 }.flatMap(\.self)
            let changed = mixed.filter { names[$0] != Self.joined(below[$0], below[$0].last ?? "image") }
            if changed.isEmpty { break }
            for index in changed { names[index] = Self.joined(below[index], below[index].last ?? "image") }
        }
        for (picture, name) in zip(pictures, names) { prefixes[picture] = name }
    }

    /// What stands before the number in the names of a picture's masks.
    package func prefix(of picture: String) -> String { prefixes[picture] ?? MaskName.stem(of: picture) }

    /// Folders and name; a name that leaves no room for a number is cut, and told from others that begin alike.
    private static func joined(_ path: [String], _ name: String) -> String {
        let room = "-999999.png"
        var name = name
        if name.utf8.count + room.utf8.count > 255 {
            let mark = "~" + String(TemporaryName.hash(of: path.last ?? name), radix: 36)
            name = TemporaryName.cut(name, before: mark + room) + mark
        }
        return (path.dropLast() + [name]).joined(separator: "/")
    }

    /// The parts of the absolute path, without `.` and `..`.
    private static func parts(of path: String, _ workingDirectory: String) -> [String] {
        var parts: [String] = []
        for part in (path.hasPrefix("/") ? path : "\(workingDirectory)/\(path)").split(separator: "/") {
            switch part {
            case ".": continue
            case "..": _ = parts.popLast()
            default: parts.append(String(part))
            }
        }
        return parts
    }

    package static var workingDirectory: String {
        guard let path = getcwd(nil, 0) else { return "/" }
        defer { free(path) }
        return FileName.text(of: path)
    }
}

/// Writes the masks of answers as PNG files into a folder, 255 on the object; each file is there whole or not at all.
package actor MaskFiles {
    private let thread = BlockingExecutor()
    package nonisolated var unownedExecutor: UnownedSerialExecutor { thread.asUnownedSerialExecutor() }
    private let folder: String
    private let limit: PixelLimit

    /// Makes the folder where it is missing; masks that are larger than `limit` are not written.
    package init(folder: String, limit: PixelLimit = .standard) throws {
        self.limit = limit
        self.folder = folder
        try Directory.make(folder)
    }

    /// Writes the masks of a job; returns the files in the order of the masks.
    package func write(_ result: RedisBytes, as name: MaskName) throws -> [String] {
        let answer: Answer
        do { answer = try JSONDecoder().decode(Answer.self, from: Data(result.array)) } catch {
            throw MaskFileError(reason: "the answer holds no masks that can be written as files")
        }
        var files: [String] = []
        var ranks: [Int: Int] = [:]
        if let slash = name.prefix.lastIndex(of: "/") {
            try Directory.make("\(folder)/\(name.prefix[..<slash])")
        }
        for cutout in answer.masks {
            let rank = ranks[cutout.prompt, default: 0]
            ranks[cutout.prompt] = rank + 1
            let path = name.file(prompt: max(0, cutout.prompt), rank: rank, in: folder)
            try AtomicFile.write(try picture(cutout, path), to: path)
            files.append(path)
        }
        return files
    }

    private func picture(_ cutout: Answer.Cutout, _ path: String) throws -> [UInt8] {
        if let png = cutout.png, let data = Data(base64Encoded: png) { return Array(data) }
        guard let run = cutout.segmentation, run.size.count == 2 else {
            throw MaskFileError(reason: "outlines are not written as PNG files: ask for --output rle or png")
        }
        let (pixels, overflow) = run.size[0].multipliedReportingOverflow(by: run.size[1])
        guard !overflow, pixels <= limit.pixels else {
            throw MaskFileError(reason: "a mask of \(run.size[1]) x \(run.size[0]) pixels is larger than any picture")
        }
        let encoding = try RunLengthEncoding(compressed: run.counts, height: run.size[0], width: run.size[1])
        let mask = encoding.mask
        return try PNGWriter.encode(
            mask: GrayImage(width: mask.width, height: mask.height, pixels: mask.pixels), named: path)
    }
}

/// An answer that makes no files.
package struct MaskFileError: ReportableError {
    package let reason: String
    package var report: ErrorReport { ErrorReport(.input, "mask-file", reason) }

    /// The report in one line.
    package var description: String { report.text }
}

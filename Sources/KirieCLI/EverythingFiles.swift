import Clients
import Exporting
import Glibc
import Imaging
import JSON
import Platform
import Segmentation

/// The files of everything mode: of one picture they appear together, and a run that was stopped is gone on with.
///
/// `@unchecked Sendable`: it is used by one task at a time.
final class EverythingFiles: @unchecked Sendable {
    private let output: String
    private let isDataset: Bool
    private let kinds: Set<EverythingCommand.OutputKind>
    /// The labels that masks may have; empty where they have none.
    private let vocabulary: [String]
    private let names: MaskNames
    private let journal: String
    /// What tells whether a journal is of a run like this one.
    private let head: [UInt8]
    /// By picture, its part of the dataset, or that it is done.
    private var parts: [String: COCODataset.Part] = [:]
    private var order: [String]
    private var descriptor: Int32 = -1

    /// Makes the folder, and reads the journal of a run that is gone on with.
    init(
        output: String, isDataset: Bool, kinds: Set<EverythingCommand.OutputKind>, vocabulary: [String],
        pictures: [String], resumes: Bool, settings: String
    ) throws {
        self.vocabulary = vocabulary
        self.output = output
        self.isDataset = isDataset
        self.kinds = kinds
        names = MaskNames(of: pictures)
        order = pictures
        journal = isDataset ? "\(output).partial" : "\(output)/.kirie-everything"
        head = JSONValue.object([("kirie", "everything"), ("settings", .string(settings))]).line
        if isDataset {
            try StagedFiles.check(output)
        } else {
            try Directory.make(output)
            if !resumes { try refuseWhatIsThere() }
        }
        let before = resumes ? read() : []
        descriptor = Platform.open(
            journal, O_WRONLY | O_CREAT | O_CLOEXEC | (before.isEmpty ? O_TRUNC : O_APPEND), 0o666)
        guard descriptor >= 0 else { throw FileFault(path: journal, reason: .system(errno), work: .writing) }
        if before.isEmpty { try append(head) }
    }

    deinit { if descriptor >= 0 { close(descriptor) } }

    /// As amg.py, whose folders must not be there; nothing is ever written over.
    private func refuseWhatIsThere() throws {
        for picture in order {
            for path in paths(of: picture) where access(path, F_OK) == 0 {
                throw OutputThere(path: path)
            }
        }
    }

    /// What a picture's files are called.
    private func paths(of picture: String) -> [String] {
        let stem = "\(output)/\(names.prefix(of: picture))"
        return kinds.compactMap { kind in
            switch kind {
            case .masks: stem
            case .rle: "\(stem).json"
            case .labels: "\(stem)-labels.png"
            case .classes: "\(stem)-classes.png"
            case .yolo: "\(stem).txt"
            case .overlay: "\(stem)-overlay.png"
            case .coco: nil
            }
        }
    }

    /// The lines of a journal of a run like this one, its last line if that is whole.
    private func read() -> [[UInt8]] {
        guard let bytes = try? EncodedFile.read(journal, atMost: 1 << 40) else { return [] }
        var lines = bytes.split(separator: 0x0A, omittingEmptySubsequences: true).map(Array.init)
        if bytes.last != 0x0A { lines = lines.dropLast() }
        guard lines.first.map({ $0 + [0x0A] == head }) ?? false else { return [] }
        for line in lines.dropFirst() {
            guard let members = (try? JSONValue(parsing: line))?.members, members.count == 2,
                let picture = members[0].value.string, let part = COCODataset.Part(line: members[1].value.bytes)
            else { continue }
            parts[picture] = part
        }
        return lines
    }

    /// Whether a run before this one has written that picture's files.
    func hasDone(_ picture: String) throws -> Bool {
        parts[picture] != nil && paths(of: picture).allSatisfy { access($0, F_OK) == 0 }
    }

    /// Writes a picture's files and notes that they are there.
    func write(_ picture: String, image: Image, sha256: String, masks: [MaskCandidate]) throws {
        if !isDataset { try writeFiles(picture, image: image, masks: masks) }
        let file =
            names.prefix(of: picture).contains("/")
            ? picture : picture.split(separator: "/").last.map(String.init) ?? picture
        let part = COCODataset.Part(
            file: file, sha256: sha256, width: image.width, height: image.height,
            masks: kinds.contains(.coco) ? masks : [],
            categories: vocabulary.isEmpty ? nil : numbers(of: masks))
        parts[picture] = part
        var line = JSONWriter()
        line.object {
            $0.member("picture") { $0.string(picture) }
            $0.member("part") { $0.written(part.line.dropLast()) }
        }
        try append(line.bytes + [0x0A])
    }

    /// The number of each mask's label in the vocabulary, counted from 1.
    private func numbers(of masks: [MaskCandidate]) -> [Int] {
        let numbers = vocabulary.numbered
        return masks.map { $0.label.flatMap { numbers[$0] } ?? 1 }
    }

    private func writeFiles(_ picture: String, image: Image, masks: [MaskCandidate]) throws {
        let stem = "\(output)/\(names.prefix(of: picture))"
        if let slash = stem.lastIndex(of: "/") { try Directory.make(String(stem[..<slash])) }
        let files = StagedFiles()
        if kinds.contains(.rle) { try files.stage(try MaskRecord.json(masks), to: "\(stem).json") }
        if kinds.contains(.yolo) {
            let classes = vocabulary.isEmpty ? nil : numbers(of: masks).map { $0 - 1 }
            let text = YOLOPolygons.text(masks.map(\.encoding), classes: classes)
            try files.stage(Array(text.utf8), to: "\(stem).txt")
        }
        if kinds.contains(.labels) {
            guard masks.count <= Int(UInt16.max) else {
                throw EverythingFault(
                    parameter: picture,
                    reason: "\(masks.count) masks have no label of 16 bits each: raise the thresholds, or write rle")
            }
            let map = MaskFolder.labelMap(of: masks, width: image.width, height: image.height)
            try files.stage(try PNGWriter.encode(map), to: "\(stem)-labels.png")
        }
        if kinds.contains(.classes) {
            let map = MaskFolder.classMap(
                of: masks, vocabulary: vocabulary, width: image.width, height: image.height)
            try files.stage(try PNGWriter.encode(map), to: "\(stem)-classes.png")
        }
        if kinds.contains(.overlay) {
            let overlay = MaskFolder.overlay(of: masks, vocabulary: vocabulary, on: image)
            try files.stage(try PNGWriter.encode(overlay), to: "\(stem)-overlay.png")
        }
        if kinds.contains(.masks) { try writeFolder(stem, masks) }
        try files.commit()
    }

    /// The folder is there whole or not at all.
    private func writeFolder(_ path: String, _ masks: [MaskCandidate]) throws {
        let temporary = TemporaryName.unique(beside: path, ending: "staged")
        do {
            try MaskFolder.write(masks, to: temporary)
            if access(path, F_OK) == 0 { try remove(path) }
            guard rename(temporary, path) == 0 else {
                throw FileFault(path: path, reason: .system(errno), work: .writing)
            }
        } catch {
            try? remove(temporary)
            throw error
        }
    }

    /// Removes a folder of masks: only files that such a folder has.
    private func remove(_ folder: String) throws {
        guard let directory = opendir(folder) else { return }
        defer { closedir(directory) }
        while let entry = readdir(directory) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) {
                $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            if name == "metadata.csv" || name.hasSuffix(".png") && name.dropLast(4).allSatisfy(\.isNumber) {
                unlink("\(folder)/\(name)")
            }
        }
        guard rmdir(folder) == 0 || errno == ENOENT else {
            throw FileFault(path: folder, reason: .system(errno), work: .writing)
        }
    }

    private func append(_ line: [UInt8]) throws {
        var done = 0
        try line.withUnsafeBytes { bytes in
            while done < bytes.count {
                let count = Glibc.write(descriptor, bytes.baseAddress.map { $0 + done }, bytes.count - done)
                if count < 0, errno == EINTR { continue }
                guard count > 0 else { throw FileFault(path: journal, reason: .system(errno), work: .writing) }
                done += count
            }
        }
    }

    /// Writes the dataset of all pictures, and forgets how it was made.
    func finish() throws {
        if !vocabulary.isEmpty, !isDataset, !kinds.isDisjoint(with: [.yolo, .classes]) {
            // As the tools that read YOLO's labels and maps of classes want their names: one on each line.
            let names = vocabulary.map { $0.split(whereSeparator: \.isNewline).joined(separator: " ") + "\n" }
            try AtomicFile.write(Array(names.joined().utf8), to: "\(output)/classes.txt")
        }
        if kinds.contains(.coco) {
            var dataset = vocabulary.isEmpty ? COCODataset() : COCODataset(categories: vocabulary)
            for picture in order { if let part = parts[picture] { dataset.append(part) } }
            try AtomicFile.write(dataset.json, to: isDataset ? output : "\(output)/annotations.json")
        }
        if isDataset { unlink(journal) }
    }
}

/// Something is where a picture's masks would be written.
struct OutputThere: ReportableError {
    let path: String
    var report: ErrorReport {
        ErrorReport(
            .usage, "output-there", at: path, "is there already",
            remedy: "give another -o, remove it, or go on with --resume")
    }

    /// The report in one line.
    var description: String { report.text }
}

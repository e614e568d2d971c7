import Checkpoints
import Foundation
import Testing
import TextMatching

/// The shipped file with something wrong in it: each is refused with the place, and nothing else happens.
@Suite struct WordsFileTests {
    /// The header and the data of the shipped file.
    private static func parts() throws -> (header: String, data: Data) {
        let bytes = try Data(contentsOf: URL(fileURLWithPath: ShippedWords.path))
        let length = (0..<8).reduce(0) { $0 | Int(bytes[$1]) << (8 * $1) }
        return (String(decoding: bytes[8..<8 + length], as: UTF8.self), bytes[(8 + length)...])
    }

    private static func open(_ header: String, _ data: Data) throws {
        let length = withUnsafeBytes(of: UInt64(header.utf8.count).littleEndian) { Data($0) }
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent("words-\(UUID().uuidString)")
        defer { try? FileManager.default.removeItem(at: folder) }
        try (length + Data(header.utf8) + data).write(to: folder)
        _ = try WordsMatcher(checkpoint: Checkpoint(path: folder.path))
    }

    @Test func theShippedOneIsReadAgain() throws {
        let (header, data) = try Self.parts()
        try Self.open(header, data)
    }

    @Test(arguments: [
        ("\"kirie.kind\":\"words\"", "\"kirie.kind\":\"worms\"", "kirie.kind"),
        ("\"kirie.image_size\":\"224\"", "\"kirie.image_size\":\"225\"", "kirie.image_size"),
        ("\"kirie.image_size\":\"224\"", "\"kirie.image_size\":\"99999999\"", "kirie.image_size"),
        ("\"kirie.image_size\":\"224\"", "\"kirie.image_size\":\"\"", "kirie.image_size"),
        ("\"kirie.block_strides\":\"[1, 2", "\"kirie.block_strides\":\"[2, 2", "kirie.block_strides"),
        ("\"kirie.block_strides\":\"[1, 2", "\"kirie.block_strides\":\"[[, 2", "kirie.block_strides"),
        ("\"kirie.crops\":\"[[", "\"kirie.crops\":\"[[9e99, ", "kirie.crops"),
        ("\"head.convolution.weight\"", "\"head.convolution.wheat\"", "head.convolution.weight"),
        ("\"vocabulary\":{\"dtype\":\"U8\"", "\"vocabulary\":{\"dtype\":\"I8\"", "vocabulary"),
        ("\"trunk.blocks.7.project.weight\"", "\"trunk.blocks.7.reject.weight\"", "trunk.blocks.7.project.weight"),
        ("\"head.classes.bias\"", "\"head.classes.basis\"", "head.classes.bias"),
    ])
    func whatIsWrongIsNamed(_ old: String, _ new: String, _ place: String) throws {
        let (header, data) = try Self.parts()
        #expect(header.contains(old))
        let error = #expect(throws: CheckpointError.self) { try Self.open(header.replacing(old, with: new), data) }
        #expect(error?.description.contains(place) == true, "\(String(describing: error))")
    }

    @Test func aVocabularyOfNoiseIsRefused() throws {
        var (header, data) = try Self.parts()
        let offsets = try #require(header.firstMatch(of: #/"vocabulary":\{[^}]*"data_offsets":\[(\d+),\s*(\d+)\]/#))
        let start = data.startIndex + (Int(offsets.1) ?? 0)
        data[start] = UInt8(ascii: "z")
        let error = #expect(throws: CheckpointError.self) { try Self.open(header, data) }
        #expect(error?.description.contains("line 1") == true)
    }

    @Test func aFileCutShortIsRefused() throws {
        let (header, data) = try Self.parts()
        #expect(throws: CheckpointError.self) { try Self.open(header, data.dropLast(1000)) }
    }

    @Test func kirieTinyIsNoModelOfWords() throws {
        let path = URL(fileURLWithPath: ShippedWords.path).deletingLastPathComponent()
            .appendingPathComponent("kirie-tiny.safetensors").path
        let error = #expect(throws: CheckpointError.self) { try WordsMatcher(checkpoint: Checkpoint(path: path)) }
        #expect(error?.code == .unknownLayout)
    }
}

import Checkpoints
import Foundation
import Glibc
import Tensors
import Testing

@Suite struct SafetensorsWriterTests {
    private let matrix = Tensor(shape: [2, 3], [1, -2, 0.5, 3.25, 0, 65504])

    @Test func whatIsWrittenIsReadBack() throws {
        let directory = try TemporaryDirectory()
        let path = directory.file("out.safetensors")
        try SafetensorsWriter.write(
            [
                .init("half", matrix, as: .float16), .init("wide", matrix), .init("scalar", Tensor(shape: [], [7])),
                .init("empty", Tensor(shape: [0, 4], [])), .init("brain", matrix, as: .bfloat16),
            ], metadata: ["kirie.image_size": "512", "quote\"\\\n\u{1}": "切り絵"], to: path)
        let checkpoint = try Checkpoint(path: path)
        #expect(checkpoint.metadata == ["kirie.image_size": "512", "quote\"\\\n\u{1}": "切り絵"])
        #expect(checkpoint["half"]?.storedType == .float16)
        #expect(try checkpoint.tensor(named: "wide", shape: [2, 3]).elements == matrix.elements)
        #expect(try checkpoint.tensor(named: "half", shape: [2, 3]).elements == matrix.elements)
        #expect(try checkpoint.tensor(named: "brain", shape: [2, 3]).elements == [1, -2, 0.5, 3.25, 0, 65536])
        #expect(try checkpoint.tensor(named: "scalar", shape: []).elements == [7])
        #expect(try checkpoint.tensor(named: "empty", shape: [0, 4]).elements == [])
        #expect(directory.contents == ["out.safetensors"])
    }

    @Test func aConvertedCheckpointHasTheSameFingerprint() throws {
        let directory = try TemporaryDirectory()
        for file in ["module.pth", "views.pth"] {
            let checkpoint = try Checkpoint(path: Fixtures.path(file))
            let path = directory.file("copy.safetensors")
            try SafetensorsWriter.write(checkpoint.tensors.map { .init($0) }, to: path)
            #expect(try Checkpoint(path: path).fingerprint() == checkpoint.fingerprint())
        }
    }

    @Test func convertingToHalfRoundsWeightsAndKeepsIntegers() throws {
        let directory = try TemporaryDirectory()
        let checkpoint = try Checkpoint(path: Fixtures.path("module.pth"))
        let path = directory.file("half.safetensors")
        try SafetensorsWriter.write(checkpoint.tensors.map { .init($0, as: .float16) }, to: path)
        let half = try Checkpoint(path: path)
        #expect(half["1.num_batches_tracked"]?.storedType == .int64)
        for stored in checkpoint.tensors where stored.elementType != nil {
            let wide = try stored.tensor().elements.map { Float(Float16($0)) }
            #expect(try half.tensor(named: stored.name, shape: stored.shape).elements == wide)
        }
    }

    @Test func aNumberBeyondTheTypeIsAnErrorAndLeavesNothing() throws {
        let directory = try TemporaryDirectory()
        let error = #expect(throws: CheckpointError.self) {
            try SafetensorsWriter.write(
                [.init("w", Tensor(shape: [1], [70000]), as: .float16)], to: directory.file("out"))
        }
        #expect(error?.code == .elementType)
        #expect(error?.place == "tensor ‘w’")
        #expect(directory.contents.isEmpty)
    }

    @Test func aTensorThatCannotBeMadeLeavesWhatWasThere() throws {
        let directory = try TemporaryDirectory()
        let path = try directory.write([1, 2, 3], to: "out")
        let failing = SafetensorsWriter.Entry("w", shape: [1]) { () throws(CheckpointError) in
            throw CheckpointError(.corrupt, file: "elsewhere", "is broken", remedy: "Mend it")
        }
        #expect(throws: CheckpointError.self) { try SafetensorsWriter.write([failing], to: path) }
        #expect(directory.contents == ["out"])
        #expect(try Data(contentsOf: URL(fileURLWithPath: path)).count == 3)
    }

    @Test func unwritableOutputsAreErrors() throws {
        let directory = try TemporaryDirectory()
        for path in [directory.file("absent/out"), directory.path, "/dev/null"] {
            let error = #expect(throws: CheckpointError.self) {
                try SafetensorsWriter.write([.init("w", matrix)], to: path)
            }
            #expect(error?.code == .unwritable)
            #expect(error?.file == path)
        }
    }

    /// A file size limit stands for a full disk: the write fails in the middle in the same way.
    ///
    /// It holds for a whole process, which is therefore one of its own.
    @Test func afterAFullDiskNothingIsLeft() async {
        await #expect(processExitsWith: .success) {
            let directory = try TemporaryDirectory()
            let piece = Tensor(shape: [1 << 22]) { (elements: UnsafeMutableBufferPointer<Float>) in
                elements.initialize(repeating: 1)
            }
            let entries = (0..<5).map { SafetensorsWriter.Entry("w\($0)", piece) }
            signal(SIGXFSZ, SIG_IGN)
            var limit = rlimit()
            getrlimit(__rlimit_resource_t(RLIMIT_FSIZE.rawValue), &limit)
            limit.rlim_cur = 64 << 20
            try #require(setrlimit(__rlimit_resource_t(RLIMIT_FSIZE.rawValue), &limit) == 0)
            let error = #expect(throws: CheckpointError.self) {
                try SafetensorsWriter.write(entries, to: directory.file("out"))
            }
            #expect(error?.code == .unwritable)
            #expect(error?.description.contains("nothing was left behind") == true)
            #expect(directory.contents.isEmpty)
        }
    }

    @Test func aSymbolicLinkStays() throws {
        let directory = try TemporaryDirectory()
        let target = try directory.write([1], to: "target")
        try FileManager.default.createSymbolicLink(
            atPath: directory.file("link"), withDestinationPath: target)
        try SafetensorsWriter.write([.init("w", matrix)], to: directory.file("link"))
        #expect(try Checkpoint(path: target).contains("w"))
        #expect(directory.contents == ["link", "target"])
    }
}

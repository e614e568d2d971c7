import Checkpoints
import Foundation
import JSON
import Tensors
import Testing

/// Checkpoints as torch.save and safetensors wrote them, against what they hold.
@Suite struct CheckpointGoldenTests {
    static let goldens = [
        "module.pth", "protocol4.pth", "nested.pth", "zip64.pth", "module.safetensors", "views.pth", "parameters.pth",
        "legacy.pth", "legacy_protocol4.pth", "training.pth", "legacy_training.pth", "lightning.ckpt",
    ]

    struct Golden {
        let dtype: String
        let shape: [Int]
        let bits: [UInt32]?
    }

    static func expected(_ file: String) throws -> (tensors: [String: Golden], fingerprint: String) {
        let bytes = try Fixtures.bytes("expected.json")
        let document = try bytes.withUnsafeBytes { try JSONValue($0) }
        let entry = try #require(document[file])
        var tensors: [String: Golden] = [:]
        for (name, value) in try #require(entry["tensors"]?.members) {
            tensors[name] = Golden(
                dtype: try #require(value["dtype"]?.string),
                shape: try #require(value["shape"]?.elements).compactMap(\.integer),
                bits: value["bits"]?.elements?.compactMap { $0.integer.map(UInt32.init) })
        }
        return (tensors, try #require(entry["fingerprint"]?.string))
    }

    @Test(arguments: goldens) func everyTensorIsAsItWasSaved(file: String) throws {
        let checkpoint = try Checkpoint(path: Fixtures.path(file))
        let expected = try Self.expected(file)
        #expect(Set(checkpoint.tensors.map(\.name)) == Set(expected.tensors.keys))
        #expect(checkpoint.format == (file.hasSuffix(".safetensors") ? .safetensors : .torch))
        for (name, golden) in expected.tensors {
            let stored = try #require(checkpoint[name])
            #expect(stored.storedType.rawValue == golden.dtype)
            #expect(stored.shape == golden.shape)
            guard let bits = golden.bits else {
                #expect(throws: CheckpointError.self) { try checkpoint.tensor(named: name, shape: golden.shape) }
                continue
            }
            let tensor = try checkpoint.tensor(named: name, shape: golden.shape)
            #expect(tensor.shape == golden.shape)
            #expect(tensor.elements.count == bits.count)
            for (found, wanted) in zip(tensor.elements, bits) {
                let wanted = Float(bitPattern: wanted)
                #expect(found.bitPattern == wanted.bitPattern || found.isNaN && wanted.isNaN, "\(name)")
            }
        }
    }

    @Test(arguments: goldens) func fingerprintIsTheDefinedOne(file: String) throws {
        let checkpoint = try Checkpoint(path: Fixtures.path(file))
        let expected = try Self.expected(file).fingerprint
        for threads in [1, 2, 5] { #expect(try checkpoint.fingerprint(threads: threads).description == expected) }
    }

    @Test func theSameTensorsInBothFormatsHaveOneFingerprint() throws {
        let torch = try Checkpoint(path: Fixtures.path("module.pth"))
        let safetensors = try Checkpoint(path: Fixtures.path("module.safetensors"))
        #expect(try torch.fingerprint() == safetensors.fingerprint())
    }

    @Test func metadataIsRead() throws {
        let checkpoint = try Checkpoint(path: Fixtures.path("module.safetensors"))
        #expect(
            checkpoint.metadata == ["format": "pt", "kirie.image_size": "512", "a \"quoted\" name\n": "切り絵"])
    }

    @Test func contiguousFloatsAreBorrowedFromTheMapping() throws {
        let checkpoint = try Checkpoint(path: Fixtures.path("views.pth"))
        func address(_ name: String, _ shape: [Int]) throws -> UInt {
            try checkpoint.tensor(named: name, shape: shape).withUnsafeBufferPointer {
                UInt(bitPattern: $0.baseAddress)
            }
        }
        let base = try address("base", [4, 6])
        #expect(try address("base", [4, 6]) == base)
        #expect(try address("row", [6]) == base + 12 * 4)
        #expect(try address("transposed", [6, 4]) != base)
    }

    @Test func aTensorOutlivesItsCheckpointAndItsReleasedPages() throws {
        let tensor: Tensor
        do {
            let checkpoint = try Checkpoint(path: Fixtures.path("views.pth"))
            tensor = try checkpoint.tensor(named: "base", shape: [4, 6])
            checkpoint["base"]?.releasePages()
        }
        #expect(tensor.elements == (0..<24).map { Float($0) - 7.25 })
    }

    @Test func aMissingTensorNamesWhatIsClose() throws {
        let checkpoint = try Checkpoint(path: Fixtures.path("module.pth"))
        let error = #expect(throws: CheckpointError.self) { try checkpoint.tensor(named: "0.wight", shape: [2, 3]) }
        #expect(error?.code == .missingTensor)
        #expect(error?.description.contains("‘0.wight’") == true)
        #expect(error?.description.contains("‘0.weight’") == true)
    }

    @Test func aMisshapenTensorNamesBothShapes() throws {
        let checkpoint = try Checkpoint(path: Fixtures.path("module.pth"))
        let error = #expect(throws: CheckpointError.self) { try checkpoint.tensor(named: "0.weight", shape: [3, 2]) }
        #expect(error?.code == .misshapenTensor)
        #expect(error?.reason.contains("[2, 3]") == true)
        #expect(error?.reason.contains("[3, 2]") == true)
    }

    @Test func binary64IsRoundedWhereItFitsAndWrittenAsBinary32() throws {
        func checkpoint(_ numbers: [Double]) throws -> Checkpoint {
            let header = Array(
                #"{"w":{"dtype":"F64","shape":[\#(numbers.count)],"data_offsets":[0,\#(8 * numbers.count)]}}"#.utf8)
            let data = numbers.flatMap { ZipBuilder.number($0.bitPattern) }
            return try Checkpoint(bytes: ZipBuilder.number(UInt64(header.count)) + header + data, named: "double")
        }
        let numbers = [0, -0.0, 1 / 3, 1e-50, 3.4e38, .infinity, -.infinity, .nan]
        let expected = numbers.map { Float($0) }
        func expect(_ found: [Float]) {
            #expect(zip(found, expected).allSatisfy { $0.bitPattern == $1.bitPattern || $0.isNaN && $1.isNaN })
        }
        let good = try checkpoint(numbers)
        expect(try good.tensor(named: "w", shape: [8]).elements)
        let directory = try TemporaryDirectory()
        try SafetensorsWriter.write([.init(try good.stored("w"), as: .float32)], to: directory.file("a"))
        let written = try Checkpoint(path: directory.file("a"))
        #expect(written["w"]?.storedType == .float32)
        expect(try written.tensor(named: "w", shape: [8]).elements)

        let large = try checkpoint([1, 1e39])
        for body in [
            { _ = try large.tensor(named: "w", shape: [2]) },
            { try SafetensorsWriter.write([.init(try large.stored("w"), as: .float32)], to: directory.file("b")) },
        ] {
            let error = #expect(throws: CheckpointError.self, performing: body)
            #expect(error?.code == .elementType && error?.reason.contains("too large for F") == true)
        }
    }

    @Test func integersAreKeptButAreNoWeights() throws {
        let checkpoint = try Checkpoint(path: Fixtures.path("module.pth"))
        let buffer = try #require(checkpoint["1.num_batches_tracked"])
        #expect(buffer.storedType == .int64)
        #expect(buffer.elementType == nil)
        #expect(checkpoint.parameterCount == 6 + 2 + 2 * 4 + 18)
    }

    @Test func everyHalfWidthNumberWidensAndNarrowsExactly() throws {
        let patterns = (0...UInt16.max).flatMap { ZipBuilder.number($0) }
        for (name, type) in [("F16", ElementType.float16), ("BF16", ElementType.bfloat16)] {
            let header = Array(#"{"w":{"dtype":"\#(name)","shape":[65536],"data_offsets":[0,131072]}}"#.utf8)
            let checkpoint = try Checkpoint(
                bytes: ZipBuilder.number(UInt64(header.count)) + header + patterns, named: name)
            let elements = try checkpoint.tensor(named: "w", shape: [65536]).elements
            var wrong = 0
            for (pattern, element) in elements.enumerated() {
                let wanted =
                    type == .float16
                    ? Float(Float16(bitPattern: UInt16(pattern))) : Float(bitPattern: UInt32(pattern) << 16)
                if element.bitPattern != wanted.bitPattern && !(element.isNaN && wanted.isNaN) { wrong += 1 }
            }
            #expect(wrong == 0)
            let directory = try TemporaryDirectory()
            try SafetensorsWriter.write([.init(try #require(checkpoint["w"]))], to: directory.file("a"))
            let wide = SafetensorsWriter.Entry("w", try checkpoint.tensor(named: "w", shape: [65536]), as: type)
            try SafetensorsWriter.write([wide], to: directory.file("b"))
            let copied = try Checkpoint(path: directory.file("a")).tensor(named: "w", shape: [65536]).elements
            let converted = try Checkpoint(path: directory.file("b")).tensor(named: "w", shape: [65536]).elements
            #expect(zip(copied, converted).allSatisfy { $0 == $1 || $0.isNaN && $1.isNaN })
        }
    }
}

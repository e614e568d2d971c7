import Checkpoints
import Tensors
import Testing

/// Truncated, contradictory and over-claiming files: each gets an error with its place, and takes no memory.
@Suite struct DamageTests {
    private func failure(
        _ bytes: some Collection<UInt8>, _ code: CheckpointError.Code, _ text: String,
        sourceLocation: SourceLocation = #_sourceLocation
    ) {
        let error = #expect(throws: CheckpointError.self, sourceLocation: sourceLocation) {
            try Checkpoint(bytes: bytes, named: "bad")
        }
        #expect(error?.code == code, "\(String(describing: error))", sourceLocation: sourceLocation)
        #expect(
            error?.description.contains(text) == true, "\(String(describing: error))", sourceLocation: sourceLocation)
    }

    private let data = [UInt8](repeating: 0, count: 16)

    private func checkpoint(_ tensor: [UInt8], data: [UInt8]? = nil) -> [UInt8] {
        ZipBuilder.checkpoint(pickle: Pickle.stateDictionary(tensor), storages: [data ?? self.data])
    }

    private func safetensors(_ header: String, data: Int = 0, claimed: UInt64? = nil) -> [UInt8] {
        ZipBuilder.number(claimed ?? UInt64(header.utf8.count)) + Array(header.utf8)
            + [UInt8](repeating: 0, count: data)
    }

    @Test func theHandMadeCheckpointIsGoodBeforeItIsDamaged() throws {
        let checkpoint = try Checkpoint(bytes: checkpoint(Pickle.tensor()), named: "good")
        #expect(try checkpoint.tensor(named: "w", shape: [4]).elements == [0, 0, 0, 0])
    }

    @Test func everyTruncationOfEveryFixtureIsAnError() throws {
        for file in ["module.pth", "module.safetensors", "zip64.pth", "legacy.pth", "legacy_training.pth"] {
            let bytes = try Fixtures.bytes(file)
            for count in stride(from: 0, to: bytes.count, by: 7) {
                #expect(throws: CheckpointError.self) {
                    try Checkpoint(bytes: bytes.prefix(count), named: "\(file) of \(count) bytes")
                }
            }
        }
    }

    // MARK: - Tensors

    @Test func tensorsMustLieInTheirStorage() {
        failure(checkpoint(Pickle.tensor(offset: 1)), .corrupt, "tensor ‘w’: reaches beyond its storage")
        failure(checkpoint(Pickle.tensor(shape: [2, 2], strides: [3, 1])), .corrupt, "reaches beyond")
        failure(checkpoint(Pickle.tensor(offset: -1)), .corrupt, "negative")
        failure(checkpoint(Pickle.tensor(shape: [-4])), .corrupt, "negative")
        failure(checkpoint(Pickle.tensor(strides: [-1])), .corrupt, "strides")
        failure(checkpoint(Pickle.tensor(shape: [2, 2])), .corrupt, "strides")
        failure(checkpoint(Pickle.tensor(offset: .max)), .corrupt, "reaches beyond")
        failure(checkpoint(Pickle.tensor(shape: [2], strides: [.max])), .corrupt, "reaches beyond")
        failure(checkpoint(Pickle.tensor(shape: [1 << 40, 1 << 40], strides: [0, 0])), .corrupt, "overflows")
        failure(checkpoint(Pickle.tensor(shape: [1 << 40], strides: [0])), .corrupt, "larger than the file")
        failure(checkpoint(Pickle.tensor(shape: Array(repeating: 1, count: 65), strides: [])), .overLimit, "65 axes")
    }

    @Test func storagesMustLieInTheirRecords() {
        failure(checkpoint(Pickle.tensor(count: 5)), .corrupt, "record ‘a/data/0’: has 16 bytes")
        failure(checkpoint(Pickle.tensor(count: .max)), .corrupt, "claims 9223372036854775807 elements")
        failure(checkpoint(Pickle.tensor(count: -1)), .corrupt, "persistent identifier")
        failure(checkpoint(Pickle.tensor(key: "1")), .corrupt, "‘a/data/1’: is named by the pickle")
        failure(checkpoint(Pickle.tensor(type: "ComplexFloatStorage")), .refused, "torch.ComplexFloatStorage")
    }

    // MARK: - Pickle

    @Test func pickleProgramsThatMakeNoSense() {
        func pickle(_ parts: [UInt8]..., code: CheckpointError.Code = .corrupt, says text: String) {
            let bytes = ZipBuilder.checkpoint(pickle: [0x80, 2] + parts.flatMap(\.self) + [0x2e])
            failure(bytes, code, text)
        }
        pickle([0x30], says: "byte 2: the pickle takes from an empty stack")
        pickle([0x74], says: "closes a container that it did not open")
        pickle([0x28, 0x7d, 0x28, 0x85, 0x74, 0x74], says: "takes from an empty stack")
        pickle([0x68, 7], says: "refers to object 7")
        pickle([0x4e, 0x4e, 0x29, 0x52], says: "calls None")
        pickle(Pickle.global("collections", "OrderedDict"), [0x4e, 0x52], says: "calls with None")
        pickle(Pickle.global("torch", "FloatStorage"), [0x29, 0x52], says: "calls a storage class")
        pickle(Pickle.global("torch._utils", "_rebuild_tensor_v2"), [0x29, 0x52], says: "wrong arguments")
        pickle(Pickle.global("torch._utils", "_rebuild_parameter"), [0x29, 0x52], says: "no tensor")
        pickle([0x29, 0x51], says: "persistent identifier")
        pickle([0x4e, 0x4e, 0x4e, 0x73], says: "sets an item of None")
        pickle([0x7d, 0x28, 0x4e, 0x75], says: "sets a key without a value")
        pickle([0x4e, 0x4e, 0x61], says: "appends to None")
        pickle([0x4e, 0x4e, 0x62], says: "sets the state of None")
        pickle([0x4e, 0x4e], says: "stops with 2 values")
        pickle([0x4e, 0x4e, 0x93], says: "not a string")
        pickle([0x8c, 1, 0xff], says: "not UTF-8")
        pickle([0x8a, 9] + [UInt8](repeating: 1, count: 9), code: .overLimit, says: "integer of 9 bytes")
        pickle([0x58, 0xff, 0xff, 0xff, 0xff], code: .truncated, says: "ends in the middle")
        pickle([0x8d] + [UInt8](repeating: 0xff, count: 8), code: .truncated, says: "ends in the middle")
        pickle([0x80, 9], code: .unsupportedFormat, says: "protocol 9")
        failure(ZipBuilder.checkpoint(pickle: []), .truncated, "ends in the middle")
    }

    @Test func nestingIsBoundedAndReleasedWithoutRecursion() throws {
        let marks = [UInt8](repeating: 0x28, count: 2000)
        failure(ZipBuilder.checkpoint(pickle: Pickle.program(marks)), .overLimit, "1000 deep")
        // A tuple in a tuple, half a million times, then a state_dict: allowed, and freed again.
        let nest = [0x29] + [UInt8](repeating: 0x85, count: 500_000) + [0x30]
        let pickle = [0x80, 2] + nest + Pickle.stateDictionary(Pickle.tensor()).dropFirst(2)
        let checkpoint = try Checkpoint(
            bytes: ZipBuilder.checkpoint(pickle: Array(pickle), storages: [data]), named: "nested")
        #expect(checkpoint.contains("w"))
    }

    @Test func aDictionaryThatHoldsItselfEnds() {
        let pickle = Pickle.program(Pickle.emptyDictionary, [0x71, 0], Pickle.text("me"), [0x68, 0], Pickle.setItem)
        failure(ZipBuilder.checkpoint(pickle: pickle), .unsupportedFormat, "without tensors")
    }

    @Test func valuesAreBounded() {
        var limits = PickleLimits()
        limits.values = 1000
        limits.bytes = 5000
        let many = Pickle.program([0x28], [UInt8](repeating: 0x4e, count: 1100), [0x6c])
        let error = #expect(throws: CheckpointError.self) {
            try Checkpoint(bytes: ZipBuilder.checkpoint(pickle: many), named: "many", limits: limits)
        }
        #expect(error?.code == .overLimit)
        // A list of pairs, made into a dictionary again and again, is paid for each time.
        let pair: [UInt8] = [0x4e, 0x4e, 0x86]
        let list = [0x5d, 0x71, 0, 0x28] + Array(repeating: pair, count: 100).flatMap(\.self) + [0x65]
        let again = Pickle.global("collections", "OrderedDict") + [0x68, 0, 0x85, 0x52]
        let amplified = Pickle.program(list, Array(repeating: again, count: 60).flatMap(\.self))
        let second = #expect(throws: CheckpointError.self) {
            try Checkpoint(bytes: ZipBuilder.checkpoint(pickle: amplified), named: "amplified", limits: limits)
        }
        #expect(second?.code == .overLimit)
        let long = Pickle.program([UInt8](repeating: 0x80, count: 6000))
        let third = #expect(throws: CheckpointError.self) {
            try Checkpoint(bytes: ZipBuilder.checkpoint(pickle: long), named: "long", limits: limits)
        }
        #expect(third?.description.contains("6003 bytes, the limit is 5000") == true)
    }

    // MARK: - Zip

    @Test func zipArchivesThatContradictThemselves() {
        let pickle = Pickle.stateDictionary(Pickle.tensor())
        var zip = ZipBuilder()
        zip.add("a/data.pkl", pickle)
        zip.add("a/data/0", data)
        failure(zip.finished(entryCount: 60000), .overLimit, "60000 entries")
        failure(zip.finished(entryCount: 3, directorySize: 138), .corrupt, "beyond its end record")
        failure(zip.finished(directorySize: .max), .corrupt, "beyond its end record")
        failure(zip.finished(directoryOffset: 1), .corrupt, "lacks its signature")
        func damaged(_ change: (inout ZipBuilder) -> Void) -> [UInt8] {
            var zip = ZipBuilder()
            zip.add("a/data.pkl", pickle)
            change(&zip)
            return zip.finished()
        }
        failure(damaged { $0.add("a/data/0", data, method: 8) }, .unsupportedFormat, "compressed (method 8)")
        failure(damaged { $0.add("a/data/0", data, flags: 1) }, .corrupt, "is encrypted")
        failure(damaged { $0.add("a/data/0", data, claimedSize: 1 << 30) }, .corrupt, "claims 1073741824 bytes")
        failure(damaged { $0.add("a/data/0", data, claimedSize: .max) }, .corrupt, "ZIP64")
        failure(damaged { $0.add("a/data/0", data, offset: 1 << 30) }, .corrupt, "beyond the archive's data")
        failure(damaged { $0.add("a/data/0", data, offset: 0) }, .corrupt, "says otherwise")
        failure(damaged { $0.add("a/data.pkl", data) }, .corrupt, "is there twice")
        failure(damaged { $0.add("b/data.pkl", data) }, .unsupportedFormat, "without the one data.pkl")
        failure(damaged { $0.add("a/byteorder", Array("big".utf8)) }, .unsupportedFormat, "little-endian")
        failure(damaged { $0.add("a/constants.pkl", []) }, .unsupportedFormat, "TorchScript")
        var overlapping = ZipBuilder()
        overlapping.add("a/data.pkl", pickle, claimedSize: UInt32(pickle.count + 20))
        overlapping.add("a/data/0", data)
        failure(overlapping.finished(), .corrupt, "overlap")
        failure(Array("PK\u{3}\u{4}".utf8), .truncated, "no end record")
    }

    // MARK: - Before zip archives

    /// The pickles of the file, one after the other, and what follows them.
    private func legacy(
        version: [UInt8] = Pickle.program([0x4d], ZipBuilder.number(UInt16(1001))),
        system: [UInt8] = Pickle.program(Pickle.emptyDictionary, Pickle.text("little_endian"), [0x88], Pickle.setItem),
        saved: [UInt8] = Pickle.stateDictionary(Pickle.tensor()),
        keys: [UInt8] = Pickle.program([0x5d], Pickle.text("0"), [0x61]), count: UInt64 = 4, data: Int = 16
    ) -> [UInt8] {
        let magic: [UInt8] = [0x80, 2, 0x8a, 10, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19, 0x2e]
        return magic + version + system + saved + keys + ZipBuilder.number(count) + [UInt8](repeating: 0, count: data)
    }

    @Test func legacyFilesThatContradictThemselves() throws {
        #expect(try Checkpoint(bytes: legacy(), named: "good").tensor(named: "w", shape: [4]).elements == [0, 0, 0, 0])
        let none = Pickle.program([0x4e])
        failure(legacy(version: Pickle.program([0x4b, 7])), .unsupportedFormat, "another version than 1001")
        failure(legacy(system: none), .unsupportedFormat, "little-endian")
        failure(
            legacy(
                system: Pickle.program(Pickle.emptyDictionary, Pickle.text("little_endian"), [0x89], Pickle.setItem)),
            .unsupportedFormat, "little-endian")
        failure(legacy(saved: none), .unsupportedFormat, "None, not a state_dict")
        failure(legacy(keys: none), .unsupportedFormat, "no list of storages")
        failure(legacy(keys: Pickle.program([0x5d])), .corrupt, "storage ‘0’: is named by the pickle and not in")
        failure(
            legacy(keys: Pickle.program([0x5d], Pickle.text("1"), [0x61])), .corrupt, "‘1’: is in the file and not")
        let twice = Pickle.program([0x5d], Pickle.text("0"), [0x61], Pickle.text("0"), [0x61])
        failure(legacy(keys: twice, data: 64), .corrupt, "is there twice")
        failure(legacy(count: 5, data: 64), .corrupt, "has 5 elements, and the pickle claims 4")
        failure(legacy(saved: Pickle.stateDictionary(Pickle.tensor(count: .max))), .corrupt, "claims 92233720368547758")
        failure(
            legacy(saved: Pickle.stateDictionary(Pickle.tensor(count: .max)), count: UInt64(Int.max)), .truncated,
            "beyond the end")
        failure(legacy(data: 15), .truncated, "storage ‘0’ goes beyond the end of the file")
        failure(legacy(data: 0).dropLast(), .truncated, "goes beyond")
        let shell = Pickle.program(Pickle.global("os", "system"))
        for bytes in [legacy(version: shell), legacy(system: shell), legacy(saved: shell), legacy(keys: shell)] {
            failure(bytes, .refused, "‘os.system’, which reading weights does not need; nothing was run")
        }
    }

    // MARK: - Safetensors

    @Test func safetensorsHeadersThatLie() {
        let good = #"{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#
        func entry(_ dtype: String, _ shape: String, _ begin: String, _ end: String, _ name: String = "w") -> String {
            #""\#(name)":{"dtype":"\#(dtype)","shape":\#(shape),"data_offsets":[\#(begin),\#(end)]}"#
        }
        func header(_ entries: String...) -> String { "{" + entries.joined(separator: ",") + "}" }
        #expect(throws: Never.self) { try Checkpoint(bytes: safetensors(good, data: 8), named: "good") }
        failure(safetensors(good, data: 8, claimed: 1 << 63), .overLimit, "claims 9223372036854775808 bytes")
        failure(safetensors(good, data: 8, claimed: 1 << 20), .truncated, "claims 1048576 bytes")
        failure(safetensors(good, data: 8, claimed: 10), .corrupt, "byte 18")
        failure(safetensors(good, data: 7), .truncated, "tensor ‘w’: ends at byte 8")
        failure(safetensors(good, data: 9), .corrupt, "1 bytes follow")
        failure(safetensors("{]"), .corrupt, "member's name")
        failure(safetensors(String(repeating: #"{"a":"#, count: 50)), .corrupt, "nested more than 32")
        failure(
            safetensors(header(entry("F32", "[1]", "0", "4"), entry("F32", "[1]", "4", "8")), data: 8), .corrupt,
            "‘w’ twice")
        failure(
            safetensors(header(entry("F32", "[2]", "0", "8"), entry("F32", "[1]", "4", "8", "v")), data: 8), .corrupt,
            "overlaps")
        failure(
            safetensors(header(entry("F32", "[1]", "0", "4"), entry("F32", "[1]", "8", "12", "v")), data: 12), .corrupt,
            "hole")
        failure(safetensors(header(entry("F32", "[3]", "0", "8")), data: 8), .corrupt, "reaches beyond")
        failure(safetensors(header(entry("F32", "[1]", "0", "8")), data: 8), .corrupt, "takes 8 bytes")
        failure(safetensors(header(entry("F32", "[-1]", "0", "8")), data: 8), .corrupt, "negative")
        failure(safetensors(header(entry("F32", "[1.5]", "0", "8")), data: 8), .corrupt, "not of integers")
        failure(
            safetensors(header(entry("F32", "[4294967296,4294967296]", "0", "8")), data: 8), .corrupt, "overflows")
        failure(
            safetensors(header(entry("F32", "[4611686018427387904]", "0", "8")), data: 8), .corrupt,
            "larger than the file")
        failure(safetensors(header(entry("F32", "[2]", "8", "0")), data: 8), .corrupt, "data_offsets")
        let huge = "99999999999999999999"
        failure(safetensors(header(entry("F32", "[2]", "0", huge)), data: 8), .corrupt, "data_offsets")
        failure(safetensors(header(entry("Q7", "[2]", "0", "8")), data: 8), .elementType, "unknown dtype ‘Q7’")
        failure(safetensors(#"{"w":7}"#), .corrupt, "lacks its dtype")
        failure(safetensors(#"{"__metadata__":{"a":7}}"#), .corrupt, "‘a’ is not a string")
        failure(safetensors(#"{"__metadata__":[]}"#), .corrupt, "object of strings")
        failure(safetensors(#"{"\ud800":7}"#), .corrupt, "surrogate")
        failure(safetensors("{} x"), .corrupt, "content after its end")
        let notText = ZipBuilder.number(UInt64(6)) + Array(#"{""#.utf8) + [0xff, 0xfe] + Array(#"":"#.utf8)
        failure(notText, .corrupt, "not UTF-8")
    }
}

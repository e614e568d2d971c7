import Checkpoints
import Testing

/// TorchScript archives: modules instead of a state_dict, and code that nobody reads.
@Suite struct ProgramArchiveTests {
    private static let data = (0..<24).map { UInt8($0) }

    private static func text(_ text: String) -> [UInt8] { [0x8c, UInt8(text.utf8.count)] + Array(text.utf8) }

    /// A module of a class, with those members.
    private static func module(_ members: [UInt8]..., named name: String = "__torch__.Net") -> [UInt8] {
        let (package, last) = (
            name.split(separator: ".").dropLast().joined(separator: "."), name.split(separator: ".").last ?? ""
        )
        return Array("c\(package)\n\(last)\n".utf8) + [0x29, 0x81, 0x7d, 0x28] + members.flatMap(\.self) + [0x75, 0x62]
    }

    private static func archive(_ root: [UInt8], isProgram: Bool = true) -> [UInt8] {
        var zip = ZipBuilder()
        zip.add("a/data.pkl", [0x80, 2] + root + [0x2e])
        zip.add("a/data/0", data)
        zip.add("a/code/__torch__.py", [1, 2, 3], method: 8)
        if isProgram { zip.add("a/constants.pkl", [0x80, 2, 0x29, 0x2e]) }
        return zip.finished()
    }

    private static let tensor = Pickle.tensor()

    @Test func weightsHaveTheNamesOfAStateDictionary() throws {
        let inner = Self.module(
            Self.text("weight"), Self.tensor, Self.text("training"), [0x89], named: "__torch__.a.b.Linear")
        let root = Self.module(
            Self.text("scale"), Self.tensor, Self.text("block"), Self.module(Self.text("0"), inner),
            Self.text("training"), [0x88])
        let checkpoint = try Checkpoint(bytes: Self.archive(root), named: "p.pt")
        #expect(checkpoint.names == ["scale", "block.0.weight"])
        #expect(try checkpoint.stored("block.0.weight").shape == checkpoint.stored("scale").shape)
    }

    private func failure(_ bytes: [UInt8], _ code: CheckpointError.Code, _ text: String) {
        let error = #expect(throws: CheckpointError.self) { try Checkpoint(bytes: bytes, named: "p.pt") }
        #expect(error?.code == code && error?.description.contains(text) == true, "\(String(describing: error))")
    }

    @Test func whatIsNoProgramIsSaid() {
        failure(Self.archive(Self.module()), .unsupportedFormat, "without weights")
        failure(Self.archive([0x4b, 7]), .unsupportedFormat, "holds an integer, not a module")
        failure(Self.archive([0x7d]), .unsupportedFormat, "holds a dictionary, not a module")
        // Classes are known in a program alone, and others nowhere.
        failure(Self.archive(Self.module(), isProgram: false), .refused, "__torch__.Net")
        failure(Self.archive(Self.module(named: "os.system")), .refused, "os.system")
        failure(Self.archive(Self.module(named: "__torch__x.Net")), .refused, "__torch__x.Net")
        let stateless = Array("c__torch__\nNet\n".utf8) + [0x29, 0x81, 0x4b, 7, 0x62]
        failure(Self.archive(stateless), .corrupt, "gives a module an integer")
    }

    @Test func depthAndNamesAreBounded() {
        var deep = Self.module(Self.text("w"), Self.tensor)
        for _ in 0..<40 { deep = Self.module(Self.text("m"), deep) }
        failure(Self.archive(deep), .overLimit, "deep")
        var long = Self.module(Self.text("w"), Self.tensor)
        for _ in 0..<8 { long = Self.module(Self.text(String(repeating: "n", count: 200)), long) }
        failure(Self.archive(long), .overLimit, "names of more than 1024 bytes")
    }

    /// A module that holds itself is met once.
    @Test func aModuleInItselfEnds() throws {
        let root =
            Array("c__torch__\nNet\n".utf8) + [0x29, 0x81, 0x71, 9, 0x7d, 0x28] + Self.text("self") + [0x68, 9]
            + Self.text("w") + Self.tensor + [0x75, 0x62]
        #expect(try Checkpoint(bytes: Self.archive(root), named: "p.pt").names == ["w"])
    }
}

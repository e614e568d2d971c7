import Checkpoints
import Foundation
import Testing

/// Pickles that ask for more than a state_dict needs are refused by name, and nothing runs.
@Suite struct RefusalTests {
    static let witness = "/tmp/kirie-was-here"

    private func refusal(_ bytes: [UInt8], sourceLocation: SourceLocation = #_sourceLocation) -> String {
        let error = #expect(throws: CheckpointError.self, sourceLocation: sourceLocation) {
            try Checkpoint(bytes: bytes, named: "bad.pth")
        }
        #expect(error?.code == .refused, sourceLocation: sourceLocation)
        return error?.description ?? ""
    }

    @Test(arguments: [
        ("os_system.pth", "posix.system"), ("eval.pth", "__builtin__.eval"),
        ("whole_module.pth", "torch.nn.modules.container.Sequential"),
    ])
    func whatTorchSavePickledIsRefusedByName(file: String, name: String) throws {
        let error = #expect(throws: CheckpointError.self) { try Checkpoint(path: Fixtures.path(file)) }
        #expect(error?.code == .refused)
        #expect(error?.description.contains("‘\(name)’") == true)
        #expect(error?.description.contains(file) == true)
        #expect(!FileManager.default.fileExists(atPath: Self.witness))
    }

    @Test func everyWayToNameAGlobalIsRefused() {
        let command = Pickle.tuple(Pickle.text("touch \(Self.witness)"))
        let byGlobal = Pickle.program(Pickle.global("os", "system"), command, Pickle.reduce)
        #expect(refusal(ZipBuilder.checkpoint(pickle: byGlobal)).contains("‘os.system’"))
        let byStack = Pickle.program(Pickle.text("os"), Pickle.text("system"), [0x93], command, Pickle.reduce)
        #expect(refusal(ZipBuilder.checkpoint(pickle: byStack)).contains("‘os.system’"))
        let byInstance = Pickle.program([0x28], Pickle.text("x"), Array("ios\nsystem\n".utf8))
        #expect(refusal(ZipBuilder.checkpoint(pickle: byInstance)).contains("‘os.system’"))
        let evaluate = Pickle.program(Pickle.global("builtins", "eval"), command, Pickle.reduce)
        #expect(refusal(ZipBuilder.checkpoint(pickle: evaluate)).contains("‘builtins.eval’"))
        #expect(!FileManager.default.fileExists(atPath: Self.witness))
    }

    @Test func aGlobalOffTheListIsRefusedBeforeItIsUsed() {
        let unused = Pickle.program(Pickle.emptyDictionary, Pickle.global("os", "system"), [0x30])
        #expect(refusal(ZipBuilder.checkpoint(pickle: unused)).contains("‘os.system’"))
        let near = Pickle.program(Pickle.global("torch", "FloatStorage.__init__"))
        #expect(refusal(ZipBuilder.checkpoint(pickle: near)).contains("FloatStorage.__init__"))
        let loader = Pickle.program(Pickle.global("torch.storage", "_load_from_bytes"))
        #expect(refusal(ZipBuilder.checkpoint(pickle: loader)).contains("‘torch.storage._load_from_bytes’"))
    }

    @Test func opcodesOffTheListAreRefused() {
        for opcode: UInt8 in [0x6f, 0x82, 0x83, 0x84, 0x92, 0x50, 0x8f, 0x97] {
            let pickle = Pickle.program(Pickle.emptyDictionary, [opcode])
            #expect(refusal(ZipBuilder.checkpoint(pickle: pickle)).contains("0x\(String(opcode, radix: 16))"))
        }
    }

    @Test func namesInMessagesAreShortAndPrintable() {
        let pickle = Pickle.program(Pickle.global("\u{1b}[31m" + String(repeating: "x", count: 200), "y"))
        let text = refusal(ZipBuilder.checkpoint(pickle: pickle))
        #expect(!text.contains("\u{1b}"))
        #expect(text.count < 400)
    }

    @Test(arguments: [
        ("bare.pkl", "bare pickle"), ("ambiguous.pth", "‘model’, ‘ema’"),
        ("no_tensors.pth", "without tensors"), ("list.pth", "a list"),
    ])
    func whatIsNoStateDictionaryIsToldApart(file: String, reason: String) throws {
        let error = #expect(throws: CheckpointError.self) { try Checkpoint(path: Fixtures.path(file)) }
        #expect(error?.code == .unsupportedFormat)
        #expect(error?.description.contains(reason) == true, "\(String(describing: error))")
    }

    @Test(arguments: [
        ("", CheckpointError.Code.truncated, "empty"), ("<!DOCTYPE html>", .unsupportedFormat, "web page"),
        ("version https://git-lfs.github.com/spec/v1", .unsupportedFormat, "git lfs pull"),
        ("plain text", .unsupportedFormat, "70 6c 61 69"),
    ])
    func otherFilesAreToldApart(content: String, code: CheckpointError.Code, reason: String) {
        let error = #expect(throws: CheckpointError.self) {
            try Checkpoint(bytes: Array(content.utf8), named: "other.pth")
        }
        #expect(error?.code == code)
        #expect(error?.description.contains(reason) == true)
    }

    @Test func aMissingFileIsUnreadable() throws {
        let path = try TemporaryDirectory().file("absent.pth")
        let error = #expect(throws: CheckpointError.self) { try Checkpoint(path: path) }
        #expect(error?.code == .unreadable && error?.file == path)
    }
}

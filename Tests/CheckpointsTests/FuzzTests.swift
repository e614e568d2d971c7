import Checkpoints
import Foundation
import Tensors
import Testing

/// Mutated checkpoints: whatever comes out, it is a checkpoint within its file or an error, soon, within the limits.
@Suite struct FuzzTests {
    /// `KIRIE_FUZZ_SEED` repeats a run; the seed is printed.
    static func generator(_ name: String) -> (SeededGenerator, UInt64) {
        let seed = ProcessInfo.processInfo.environment["KIRIE_FUZZ_SEED"].flatMap(UInt64.init) ?? 20_260_214
        print("fuzz \(name): KIRIE_FUZZ_SEED=\(seed)")
        return (SeededGenerator(seed: seed), seed)
    }

    private static let tokens: [[UInt8]] = [
        [0xff, 0xff, 0xff, 0xff], [0, 0, 0, 0], [0xff, 0xff, 0xff, 0x7f], [0, 0, 0, 0x80],
        [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f], [0x50, 0x4b, 0x01, 0x02], [0x50, 0x4b, 0x05, 0x06],
        [0x50, 0x4b, 0x06, 0x06], [0x50, 0x4b, 0x06, 0x07], Array("cos\nsystem\n".utf8), [0x28], [0x74], [0x52],
        [0x51], [0x71, 0], [0x68, 0], [0x85], [0x2e], [0x95], [0x75], [0x7d], [0x8a, 8], Array("{".utf8),
        Array("[".utf8), Array("\"".utf8), Array("9223372036854775807".utf8), Array("-1".utf8), Array("\\ud83d".utf8),
        Array("__metadata__".utf8), Array("1e999".utf8), [0xc3],
    ]

    /// A change or several: bits, bytes, tokens, cuts, copies of runs elsewhere.
    static func mutate(_ bytes: inout [UInt8], in range: Range<Int>?, with generator: inout SeededGenerator) {
        let changes = [1, 1, 1, 2, 2, 4][Int.random(in: 0..<6, using: &generator)]
        for _ in 0..<changes {
            guard !bytes.isEmpty else { return }
            let window = (range ?? 0..<bytes.count).clamped(to: 0..<bytes.count)
            guard !window.isEmpty else { return }
            let at = Int.random(in: window, using: &generator)
            switch Int.random(in: 0..<8, using: &generator) {
            case 0: bytes[at] ^= 1 << UInt8.random(in: 0..<8, using: &generator)
            case 1: bytes[at] = UInt8.random(in: .min ... .max, using: &generator)
            case 2: bytes[at] = bytes[at] &+ (Bool.random(using: &generator) ? 1 : 255)
            case 3, 4:
                let token = tokens[Int.random(in: 0..<tokens.count, using: &generator)]
                bytes.replaceSubrange(at..<min(at + token.count, bytes.count), with: token)
            case 5:
                let token = tokens[Int.random(in: 0..<tokens.count, using: &generator)]
                bytes.insert(contentsOf: token, at: at)
            case 6:
                bytes.removeSubrange(at..<min(at + Int.random(in: 1...16, using: &generator), bytes.count))
            default:
                let source = Int.random(in: window, using: &generator)
                let run = Array(bytes[source..<min(source + 12, bytes.count)])
                bytes.replaceSubrange(at..<min(at + run.count, bytes.count), with: run)
            }
        }
    }

    private struct Tally {
        var good = 0
        var errors: [CheckpointError.Code: Int] = [:]
        /// Elements of the tensors that were read, each checked against the file's size.
        var elements = 0
    }

    /// Reads every tensor of whatever opens; small limits, so that memory stays small or an error says so.
    private func open(_ bytes: [UInt8], _ tally: inout Tally) throws {
        var limits = PickleLimits()
        limits.values = 20_000
        do throws(CheckpointError) {
            let checkpoint = try Checkpoint(bytes: bytes, named: "fuzz", limits: limits)
            for stored in checkpoint.tensors {
                #expect(stored.byteCount <= bytes.count)
                guard stored.elementType != nil else { continue }
                tally.elements += try stored.tensor().elements.count
            }
            tally.good += 1
        } catch {
            tally.errors[error.code, default: 0] += 1
        }
    }

    private func summarise(_ tally: Tally, of count: Int) {
        let errors = tally.errors.map { "\($0.key) \($0.value)" }.sorted().joined(separator: ", ")
        print("fuzz: \(count) inputs, \(tally.good) still read, refused: \(errors)")
        #expect(tally.good + tally.errors.values.reduce(0, +) == count)
        // A mutator that only breaks the signature would prove nothing.
        #expect(tally.errors.count >= 4 && tally.good > count / 200)
    }

    @Test(.timeLimit(.minutes(30))) func mutatedPicklesInsideAnIntactArchive() throws {
        var (generator, _) = Self.generator("pickle")
        var tally = Tally()
        let data = [UInt8](repeating: 1, count: 16)
        let seeds = [
            Pickle.stateDictionary(Pickle.tensor()),
            Pickle.program(
                Pickle.emptyDictionary, [0x71, 0, 0x28], Pickle.text("a"),
                Pickle.tensor(offset: 1, shape: [2], strides: [2]), [0x71, 1], Pickle.text("b"), [0x68, 1],
                Pickle.text("c"), Pickle.tensor(type: "HalfStorage", count: 8, shape: [2, 4], strides: [4, 1]), [0x75]),
            Pickle.program(
                Pickle.emptyDictionary, Pickle.text("model"), Pickle.emptyDictionary, Pickle.text("w"),
                Pickle.tensor(type: "BFloat16Storage", count: 8, shape: [], strides: []), Pickle.setItem,
                Pickle.setItem),
        ]
        let count = 24_000
        for round in 0..<count {
            var pickle = seeds[round % seeds.count]
            Self.mutate(&pickle, in: nil, with: &generator)
            try open(ZipBuilder.checkpoint(pickle: pickle, storages: [data]), &tally)
        }
        summarise(tally, of: count)
    }

    @Test(.timeLimit(.minutes(30))) func mutatedArchives() throws {
        var (generator, _) = Self.generator("zip")
        var tally = Tally()
        let small = ZipBuilder.checkpoint(
            pickle: Pickle.stateDictionary(Pickle.tensor()), storages: [[UInt8](repeating: 1, count: 16)])
        let large = try Fixtures.bytes("zip64.pth")
        let count = 18_000
        for round in 0..<count {
            // The headers and records, mostly, not the numbers between them.
            var bytes = round % 4 == 3 ? large : small
            let range = round % 4 == 3 ? bytes.count - 1100..<bytes.count : nil
            Self.mutate(&bytes, in: range, with: &generator)
            try open(bytes, &tally)
        }
        summarise(tally, of: count)
    }

    /// What torch.save wrote before zip archives, what training programs save, and indices of shards.
    ///
    /// `KIRIE_FUZZ_WRAPPINGS` says how many; deploy/sanitize takes 50,000.
    @Test(.timeLimit(.minutes(30))) func mutatedWrappings() throws {
        var (generator, _) = Self.generator("wrappings")
        var tally = Tally()
        // Where each begins to be interesting: an archive's pickle, all of a bare one but the numbers at its end.
        let seeds = try [
            "legacy.pth", "legacy_protocol4.pth", "legacy_training.pth", "training.pth", "lightning.ckpt", "nested.pth",
        ].map { name in
            let bytes = try Fixtures.bytes(name)
            return (bytes, name.hasPrefix("legacy") ? 0..<bytes.count : 0..<min(bytes.count, 2200))
        }
        let directory = try TemporaryDirectory()
        _ = try directory.write(try Fixtures.bytes("module.safetensors"), to: "a.safetensors")
        let names = try Checkpoint(path: directory.file("a.safetensors")).names
        let map = names.map { #""\#($0)":"a.safetensors""# }.joined(separator: ",")
        let index = Array(#"{"metadata":{"total_size":152},"weight_map":{\#(map)}}"#.utf8)
        let count = ProcessInfo.processInfo.environment["KIRIE_FUZZ_WRAPPINGS"].flatMap(Int.init) ?? 7_000
        for round in 0..<count {
            guard round % 7 < seeds.count else {
                var bytes = index
                Self.mutate(&bytes, in: nil, with: &generator)
                let path = try directory.write(bytes, to: "model.safetensors.index.json")
                do throws(CheckpointError) {
                    #expect(try Checkpoint(path: path).files.count <= 1)
                    tally.good += 1
                } catch {
                    tally.errors[error.code, default: 0] += 1
                }
                continue
            }
            var (bytes, range) = seeds[round % 7]
            Self.mutate(&bytes, in: range, with: &generator)
            try open(bytes, &tally)
        }
        summarise(tally, of: count)
    }

    @Test(.timeLimit(.minutes(30))) func mutatedSafetensorsHeaders() throws {
        var (generator, _) = Self.generator("safetensors")
        var tally = Tally()
        let header = """
            {"__metadata__":{"a":"b"},"w":{"dtype":"F16","shape":[2,3],"data_offsets":[0,12]},\
            "v":{"dtype":"F32","shape":[],"data_offsets":[12,16]},"e":{"dtype":"I64","shape":[0],"data_offsets":[16,16]}}
            """
        let seed = ZipBuilder.number(UInt64(header.utf8.count)) + Array(header.utf8) + [UInt8](repeating: 0, count: 16)
        let count = 26_000
        for round in 0..<count {
            var bytes = seed
            Self.mutate(&bytes, in: round % 8 == 0 ? 0..<9 : 8..<8 + header.utf8.count, with: &generator)
            if round % 2 == 0, bytes.count != seed.count, bytes.count > 24 {
                // Half of the time the length stays right, so that the JSON is reached.
                bytes.replaceSubrange(0..<8, with: ZipBuilder.number(UInt64(bytes.count - 24)))
            }
            try open(bytes, &tally)
        }
        summarise(tally, of: count)
    }
}

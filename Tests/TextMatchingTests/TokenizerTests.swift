import Checkpoints
import Foundation
import Testing
import TextMatching

/// Tokenizers from whole and from damaged files.
@Suite struct TokenizerTests {
    private static let nano = "\(GoldenTests.fixtures)/nano"
    private static let wide = "\(GoldenTests.fixtures)/wide"

    /// Calls `body` with an empty folder.
    static func withFolder<Result>(_ body: (String) throws -> Result) throws -> Result {
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent("kirie-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        return try body(folder.path)
    }

    static func write(_ text: String, to path: String) throws {
        try Data(text.utf8).write(to: URL(fileURLWithPath: path))
    }

    /// The merges alone, under the name that transformers has for them and under OpenAI's.
    @Test(arguments: ["merges.txt", "bpe_simple_vocab_16e6.txt"]) func mergesTellTheVocabulary(name: String) throws {
        try Self.withFolder { folder in
            try FileManager.default.copyItem(atPath: "\(Self.nano)/merges.txt", toPath: "\(folder)/\(name)")
            let (alone, both) = (try CLIPTokenizer(path: folder), try CLIPTokenizer(path: Self.nano))
            #expect(alone.vocabularySize == both.vocabularySize && alone.end == both.end)
            for text in try GoldenTests.golden("nano").case.texts { #expect(alone.tokens(text) == both.tokens(text)) }
            #expect(try CLIPTokenizer(path: "\(folder)/\(name)").end == both.end)
        }
    }

    @Test func aTextIsCutBeforeItsEnd() throws {
        let tokenizer = try CLIPTokenizer(path: Self.nano)
        let long = String(repeating: "a photo of a dog ", count: 10_000)
        let tokens = tokenizer.encode(long, length: 24)
        #expect(tokens.count == 24 && tokens.first == tokenizer.start && tokens.last == tokenizer.end)
        #expect(tokenizer.encode("", length: 2) == [tokenizer.start, tokenizer.end])
        // A word of 300,000 bytes ends, too.
        #expect(tokenizer.tokens(String(repeating: "dog", count: 100_000)).count > 1000)
    }

    @Test func whatTextsAreFilledUpWithIsRead() throws {
        try Self.withFolder { folder in
            for name in ["vocab.json", "merges.txt"] {
                try FileManager.default.copyItem(atPath: "\(Self.nano)/\(name)", toPath: "\(folder)/\(name)")
            }
            for setting in [#"{"pad_token": "!"}"#, #"{"pad_token": {"content": "!", "lstrip": false}}"#] {
                try Self.write(setting, to: "\(folder)/tokenizer_config.json")
                #expect(try CLIPTokenizer(path: folder).encodePadded("a", length: 5).last == 0)
            }
            try Self.write(#"{"pad_token": "no such token"}"#, to: "\(folder)/tokenizer_config.json")
            #expect(throws: CheckpointError.self) { try CLIPTokenizer(path: folder) }
        }
    }

    private func failure(
        _ path: String, _ code: CheckpointError.Code, _ text: String, sourceLocation: SourceLocation = #_sourceLocation
    ) {
        let error = #expect(throws: CheckpointError.self, sourceLocation: sourceLocation) {
            try CLIPTokenizer(path: path)
        }
        #expect(
            error?.code == code && error?.description.contains(text) == true, "\(String(describing: error))",
            sourceLocation: sourceLocation)
    }

    @Test func malformedTokenizersSayWhatIsWrong() throws {
        try Self.withFolder { folder in
            failure(folder, .unreadable, "is a folder without a tokenizer")
            failure("\(folder)/nothing.json", .unreadable, "No such file")
            let file = "\(folder)/tokenizer.json"
            func json(_ text: String, _ code: CheckpointError.Code = .corrupt, says reason: String) throws {
                try Self.write(text, to: file)
                failure(folder, code, reason)
            }
            try json("", says: "the JSON ends")
            try json("{", says: "the JSON lacks")
            try json("[]", says: "model: is missing")
            try json(#"{"model": {"type": "Unigram", "vocab": []}}"#, .unsupportedFormat, says: "is not CLIP's")
            try json(#"{"model": {"type": "BPE"}}"#, .unsupportedFormat, says: "no mark at the end of a word")
            let start = #"{"model": {"type": "BPE", "end_of_word_suffix": "</w>", "#
            try json(start + #""merges": []}}"#, says: "model.vocab: is no object")
            try json(start + #""vocab": {}}}"#, says: "model.merges: is no list")
            try json(start + #""vocab": {"a": 0, "b": 0}, "merges": []}}"#, says: "has no number of its own")
            try json(start + #""vocab": {"a": -1}, "merges": []}}"#, says: "has no number of its own")
            try json(start + #""vocab": {"a": 9000000000}, "merges": []}}"#, says: "has no number of its own")
            try json(start + #""vocab": {"a": 0}, "merges": []}}"#, says: #"no token ‘<|endoftext|>’"#)
            let whole = #""vocab": {"a": 0, "b</w>": 1, "<|startoftext|>": 2, "<|endoftext|>": 3}, "merges": "#
            try json(start + whole + "[7]}}", says: "model.merges, entry 0: is no pair")
            try json(start + whole + #"["a b c"]}}"#, says: "model.merges, entry 0: is no pair")
            try json(
                start + whole + #"["a b</w>"]}}"#, says: "model.merges, entry 0: the vocabulary has no token ‘ab</w>’")
            try json(
                start + whole + #"[]}, "added_tokens": [{"id": 7}]}"#, says: "added_tokens, entry 0: is no token")
            try json(
                start + whole + #"[]}, "added_tokens": [{"id": 7, "content": "a"}]}"#, says: "added_tokens, entry 0")
            try Self.write(start + whole + "[]}}", to: file)
            #expect(try CLIPTokenizer(path: folder).encode("aZ", length: 9) == [2, 0, 3, 3])
        }
        try Self.withFolder { folder in
            try Self.write("{}", to: "\(folder)/vocab.json")
            failure(folder, .unreadable, "merges.txt: is not there, and vocab.json is")
            try Self.write("", to: "\(folder)/merges.txt")
            failure(folder, .corrupt, "merges.txt: has no merges")
            try Self.write("#version: 0.2\na b\na b c\n", to: "\(folder)/merges.txt")
            failure(folder, .corrupt, "line 3: is no pair of tokens: it has 3 words")
            try Data([0x61, 0x20, 0xff, 0x0a]).write(to: URL(fileURLWithPath: "\(folder)/merges.txt"))
            failure(folder, .corrupt, "is not UTF-8")
            try Self.write("a b\n", to: "\(folder)/merges.txt")
            failure(folder, .corrupt, "the vocabulary has no token")
            try Self.write("[1]", to: "\(folder)/vocab.json")
            failure(folder, .corrupt, "is no object of tokens and their numbers")
        }
    }

    /// Every beginning of a whole file is refused, and none of them ends the process.
    @Test func cutOffFilesAreErrors() throws {
        let bytes = try Data(contentsOf: URL(fileURLWithPath: "\(Self.wide)/tokenizer.json"))
        try Self.withFolder { folder in
            for count in stride(from: 0, to: bytes.count - 2, by: 1499) {
                try bytes.prefix(count).write(to: URL(fileURLWithPath: "\(folder)/tokenizer.json"))
                #expect(throws: CheckpointError.self) { try CLIPTokenizer(path: folder) }
            }
        }
    }
}

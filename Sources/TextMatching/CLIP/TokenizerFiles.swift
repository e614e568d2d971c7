public import Checkpoints
import JSON

/// The files that a tokenizer comes in.
///
/// ```text
/// tokenizer.json              vocabulary, merges and special tokens, as the library tokenizers writes them
/// vocab.json, merges.txt      the same in two files, as transformers wrote them first
/// merges.txt alone            also OpenAI's bpe_simple_vocab_16e6.txt, unpacked: the vocabulary follows from the merges
/// ```
extension CLIPTokenizer {
    /// Names in a folder, the better first.
    private static let names = (whole: "tokenizer.json", vocabulary: "vocab.json", merges: "merges.txt")
    private static let openAI = "bpe_simple_vocab_16e6.txt"
    private static let settings = "tokenizer_config.json"
    /// Bytes of a file at most, and tokens of a vocabulary.
    private static let (byteLimit, tokenLimit) = (64 << 20, 1 << 20)
    /// Merges that OpenAI's tokenizer takes from its file, which holds more.
    private static let openAIMerges = 49152 - 256 - 2
    private static let (startText, endText) = ("<|startoftext|>", "<|endoftext|>")

    /// Reads a tokenizer.
    ///
    /// - Parameter path: a folder that holds its files, or one of them; `vocab.json` and `merges.txt` stand for each other.
    /// - Throws: ``CheckpointError`` where a file is missing, malformed, or of another kind of tokenizer.
    public init(path: String) throws(CheckpointError) {
        let (folder, name) = Self.isFolder(path) ? (path, nil) : Self.split(path)
        func isThere(_ name: String) -> Bool { Self.isFile("\(folder)/\(name)") }
        let names = Self.names
        let padding = isThere(Self.settings) ? try Self.paddingText("\(folder)/\(Self.settings)") : nil
        switch name {
        case nil where isThere(names.whole): try self.init(json: "\(folder)/\(names.whole)", padding: padding)
        case nil where isThere(names.vocabulary) || isThere(names.merges):
            try self.init(folder: folder, padding: padding)
        case nil where isThere(Self.openAI): try self.init(openAIMerges: "\(folder)/\(Self.openAI)", padding: padding)
        case nil:
            throw CheckpointError(
                .unreadable, file: path,
                "is a folder without a tokenizer: it has neither tokenizer.json nor vocab.json and merges.txt",
                remedy: "Put the tokenizer's files beside the weights, as they are published")
        case names.vocabulary, names.merges: try self.init(folder: folder, padding: padding)
        case let name? where name.hasSuffix(".json"): try self.init(json: path, padding: padding)
        default: try self.init(openAIMerges: path, padding: padding)
        }
    }

    // MARK: - tokenizer.json

    private init(json path: String, padding: String?) throws(CheckpointError) {
        let document = try Self.json(path)
        func corrupt(_ place: String, _ reason: String) -> CheckpointError { Self.corrupt(path, place, reason) }
        guard let model = document["model"] else { throw corrupt("model", "is missing") }
        let kind = model["type"]?.string ?? "BPE"
        guard kind == "BPE", model["end_of_word_suffix"]?.string == BytePairs.wordEnd else {
            throw CheckpointError(
                .unsupportedFormat, file: path, at: "model",
                "is not CLIP's: it is \(CheckpointError.quoted(kind)) with "
                    + "\(model["end_of_word_suffix"]?.string.map(CheckpointError.quoted) ?? "no mark") at the end of a word, "
                    + "where byte pairs with \(BytePairs.wordEnd) are expected",
                remedy: "Give the tokenizer that belongs to the CLIP model")
        }
        guard let members = model["vocab"]?.members else { throw corrupt("model.vocab", "is no object") }
        guard let list = model["merges"]?.elements else { throw corrupt("model.merges", "is no list") }
        var tokens = try Self.vocabulary(members, file: path, at: "model.vocab")
        var specials: [Special] = []
        for (index, entry) in (document["added_tokens"]?.elements ?? []).enumerated() {
            guard let text = entry["content"]?.string, let id = entry["id"]?.integer, !text.isEmpty,
                (0..<Self.tokenLimit).contains(id), tokens[text].map({ $0 == Int32(id) }) ?? true
            else { throw corrupt("added_tokens, entry \(index)", "is no token with a number of its own") }
            tokens[text] = Int32(id)
            let isNormalized = if case .bool(true)? = entry["normalized"] { true } else { false }
            specials.append(Special(text: Array(text.unicodeScalars), token: Int32(id), isNormalized: isNormalized))
        }
        var merges: [(left: String, right: String)] = []
        merges.reserveCapacity(list.count)
        for (index, entry) in list.enumerated() {
            // A text with a space in between, or since version 0.20 of the library a list of two.
            let parts = entry.elements?.compactMap(\.string) ?? entry.string.map(Self.words) ?? []
            guard parts.count == 2 else { throw corrupt("model.merges, entry \(index)", "is no pair") }
            merges.append((parts[0], parts[1]))
        }
        let unknown = model["unk_token"]?.string ?? Self.endText
        try self.init(
            tokens: tokens, merges: merges, specials: specials, unknown: unknown, padding: padding, file: path,
            mergesPlace: "model.merges, entry ")
    }

    // MARK: - vocab.json and merges.txt

    private init(folder: String, padding: String?) throws(CheckpointError) {
        let (vocabulary, merges) = ("\(folder)/\(Self.names.vocabulary)", "\(folder)/\(Self.names.merges)")
        guard Self.isFile(merges) else {
            throw CheckpointError(
                .unreadable, file: merges, "is not there, and \(Self.names.vocabulary) is",
                remedy: "Put both files into one folder")
        }
        // The merges alone tell the vocabulary, if they are OpenAI's.
        guard Self.isFile(vocabulary) else {
            try self.init(openAIMerges: merges, padding: padding)
            return
        }
        guard let members = try Self.json(vocabulary).members else {
            throw Self.corrupt(vocabulary, nil, "is no object of tokens and their numbers")
        }
        let tokens = try Self.vocabulary(members, file: vocabulary, at: nil)
        try self.init(
            tokens: tokens, merges: try Self.merges(merges), specials: Self.specials(tokens), unknown: Self.endText,
            padding: padding, file: merges, mergesPlace: "merge ")
    }

    // MARK: - Merges alone

    private init(openAIMerges path: String, padding: String?) throws(CheckpointError) {
        let merges = Array(try Self.merges(path).prefix(Self.openAIMerges))
        // OpenAI numbers bytes in the order of what they are written as, then bytes at the end of a word, then merges.
        let letters = BytePairs.letters.filter { $0.value < 0x100 } + BytePairs.letters.filter { $0.value >= 0x100 }
        var texts = letters.map { String($0) }
        texts +=
            texts.map { $0 + BytePairs.wordEnd } + merges.map { $0.left + $0.right } + [Self.startText, Self.endText]
        var tokens: [String: Int32] = [:]
        // Of a text that two merges make the later number holds.
        for (index, text) in texts.enumerated() { tokens[text] = Int32(index) }
        try self.init(
            tokens: tokens, merges: merges, specials: Self.specials(tokens), unknown: Self.endText, padding: padding,
            file: path, mergesPlace: "merge ")
    }

    // MARK: - What all have

    private init(
        tokens: [String: Int32], merges: [(left: String, right: String)], specials: [Special], unknown: String,
        padding: String?, file: String, mergesPlace: String
    ) throws(CheckpointError) {
        func token(_ text: String) throws(CheckpointError) -> Int32 {
            guard let token = tokens[text] else {
                throw Self.corrupt(file, nil, "the vocabulary has no token \(CheckpointError.quoted(text))")
            }
            return token
        }
        let pairs = try BytePairs(tokens: tokens, merges: merges, unknown: try token(unknown)) { index, text in
            Self.corrupt(
                file, "\(mergesPlace)\(index)", "the vocabulary has no token \(CheckpointError.quoted(text))")
        }
        self.init(
            vocabularySize: Int(tokens.values.max() ?? 0) + 1, start: try token(Self.startText),
            end: try token(Self.endText), padding: try token(padding ?? Self.endText), pairs: pairs, specials: specials)
    }

    private static func specials(_ tokens: [String: Int32]) -> [Special] {
        [startText, endText].compactMap { text in
            tokens[text].map { Special(text: Array(text.unicodeScalars), token: $0, isNormalized: false) }
        }
    }

    /// What `tokenizer_config.json` names to fill up texts with; nil where it says nothing of it.
    private static func paddingText(_ path: String) throws(CheckpointError) -> String? {
        guard let padding = try json(path)["pad_token"] else { return nil }
        return padding.string ?? padding["content"]?.string
    }

    private static func vocabulary(
        _ members: [JSONValue.Member], file: String, at place: String?
    ) throws(CheckpointError) -> [String: Int32] {
        guard members.count <= tokenLimit else {
            throw CheckpointError(
                .overLimit, file: file, at: place, "has \(members.count) tokens; at most \(tokenLimit) are read",
                remedy: "Give the tokenizer that belongs to the CLIP model")
        }
        var tokens: [String: Int32] = [:]
        tokens.reserveCapacity(members.count)
        var numbers: Set<Int> = []
        for (text, value) in members {
            guard let number = value.integer, (0..<tokenLimit).contains(number), numbers.insert(number).inserted else {
                throw corrupt(
                    file, place,
                    "the token \(CheckpointError.quoted(text)) has no number of its own from 0 to \(tokenLimit - 1)")
            }
            tokens[text] = Int32(number)
        }
        return tokens
    }

    /// The lines of a file of merges, a pair each; the first line may say the version.
    private static func merges(_ path: String) throws(CheckpointError) -> [(left: String, right: String)] {
        let file = try contents(path)
        guard let text = String(validating: file.bytes, as: UTF8.self) else {
            throw corrupt(path, nil, "is not UTF-8")
        }
        var merges: [(left: String, right: String)] = []
        for (index, line) in text.utf8.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
            .enumerated()
        {
            let line = String(Substring(line))
            // OpenAI's begins with a title in quotation marks, the others with "#version".
            if index == 0, line.hasPrefix("#version") || line.hasPrefix("\"bpe_simple") { continue }
            let parts = words(line)
            if parts.isEmpty { continue }
            guard parts.count == 2 else {
                throw corrupt(path, "line \(index + 1)", "is no pair of tokens: it has \(parts.count) words")
            }
            guard merges.count < tokenLimit else {
                throw corrupt(path, "line \(index + 1)", "more than \(tokenLimit) merges")
            }
            merges.append((parts[0], parts[1]))
        }
        guard !merges.isEmpty else { throw corrupt(path, nil, "has no merges") }
        return merges
    }

    /// The parts of a line between spaces; a line may end in a carriage return.
    private static func words(_ line: String) -> [String] {
        line.utf8.split { $0 == UInt8(ascii: " ") || $0 == UInt8(ascii: "\r") }.map { String(Substring($0)) }
    }

    static func json(_ path: String) throws(CheckpointError) -> JSONValue {
        let file = try contents(path)
        do throws(JSONValue.Fault) {
            return try JSONValue(file.bytes)
        } catch {
            throw corrupt(path, "byte \(error.offset)", "the JSON \(error.reason)")
        }
    }

    private static func contents(_ path: String) throws(CheckpointError) -> CheckpointFile {
        let file = try CheckpointFile(path: path)
        guard file.bytes.count <= byteLimit else {
            throw CheckpointError(
                .overLimit, file: path, "has \(file.bytes.count) bytes; at most \(byteLimit) are read",
                remedy: "Give the tokenizer that belongs to the CLIP model")
        }
        return file
    }

    private static func corrupt(_ file: String, _ place: String?, _ reason: String) -> CheckpointError {
        CheckpointError(
            .corrupt, file: file, at: place, reason, remedy: "Fetch the tokenizer's files again, as they are published")
    }
}

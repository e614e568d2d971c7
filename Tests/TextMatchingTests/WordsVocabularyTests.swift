import Testing
import TextMatching

@Suite struct WordsVocabularyTests {
    private static let lines = "0-2,5\tdog;hound\n3\tcar;t-shirt\n7\tteacup\n2\tmice;mouse\n\ndog\tgnoll;lupus\n"

    private static func vocabulary() throws -> WordsVocabulary { try WordsVocabulary(lines.utf8, classCount: 8) }

    private static func classes(_ text: String) throws -> [Int] { try vocabulary().classes(of: text).flatMap { $0 } }

    @Test(arguments: [
        "dog", "Dog", "a dog", "the dogs", "DOGS.", "  these\tdogs ", "a photo of a dog", "“dog”", "photo of my dogs!",
    ])
    func oneNounInManyForms(_ text: String) throws {
        #expect(try Self.classes(text) == [0, 1, 2, 5])
    }

    @Test(arguments: ["t shirt", "t shirts", "T-shirts", "tea-cups", "tea cup"])
    func jointsDoNotMatter(_ text: String) throws {
        #expect(try Self.classes(text).count == 1)
    }

    @Test func pluralsThatNoRuleMakesAreWordsOfTheirOwn() throws {
        #expect(try Self.classes("mice") == [2])
    }

    @Test(arguments: [
        ("red car", "car"), ("lupus", "dog"), ("hond", "hound"), ("big fast cars", "car"),
    ])
    func whatIsUnknownComesWithTheNearest(_ text: String, _ near: String) throws {
        let vocabulary = try Self.vocabulary()
        let error = #expect(throws: TextError.self) { try vocabulary.classes(of: text) }
        guard case .unknown(_, let nearest) = error else {
            Issue.record("\(String(describing: error))")
            return
        }
        #expect(nearest.first == near)
        #expect(nearest.count <= 4)
    }

    @Test(arguments: ["犬", "собака", "🐕", "d\u{0}x", "\u{202E}god", "x̷̛̘̓y", "a b c d e f g h i j", "the the", "a"])
    func strangeTextsAreUnknownAndNothingWorse(_ text: String) throws {
        let vocabulary = try Self.vocabulary()
        #expect(throws: TextError.self) { try vocabulary.classes(of: text) }
    }

    @Test(arguments: ["", "  \n", "?!", "…"])
    func nothingIsEmpty(_ text: String) throws {
        let vocabulary = try Self.vocabulary()
        #expect(throws: TextError.empty) { try vocabulary.classes(of: text) }
    }

    @Test func aLongTextIsRefusedByItsLength() throws {
        let vocabulary = try Self.vocabulary()
        #expect(throws: TextError.tooLong(bytes: 300, limit: WordsVocabulary.byteLimit)) {
            try vocabulary.classes(of: String(repeating: "dog", count: 100))
        }
    }

    @Test(arguments: [
        ("", 1), ("dog\n", 1), ("0-8\tdog\n", 1), ("2-1\tdog\n", 1), ("3,2\tdog\n", 1), ("-1\tdog\n", 1),
        ("99999999999999999999\tdog\n", 1), ("0\tdog\n1-\tcat\n", 2), ("0\tdog\n\ncat\tlion\n", 3), ("0\t\n", 1),
        ("0\tdog\textra\n", 1),
    ])
    func malformedLinesAreNamed(_ text: String, _ line: Int) {
        let error = #expect(throws: WordsVocabulary.Malformed.self) { try WordsVocabulary(text.utf8, classCount: 8) }
        #expect(error?.line == line)
    }
}

import Imaging
import Segmentation
import Tensors
import Testing
import TextMatching

/// The matcher of texts and candidates, with a small model of drawn weights: which answers it gives means nothing, that they
/// hold together does.
@Suite struct MatcherTests {
    private static let pool = ThreadPool(threadCount: 2)
    private static func matcher(_ name: String = "wide") throws -> CLIPMatcher {
        try CLIPModel(path: "\(GoldenTests.fixtures)/\(name)").matcher(name: name, precision: .float32, pool: pool)
    }

    private static func picture() throws -> Image {
        try ImageDecoder().decode(file: "\(GoldenTests.fixtures)/wide/picture1.png")
    }

    /// Rectangles, of which the last is empty.
    private static func candidates(_ image: Image) throws -> [RunLengthEncoding] {
        let boxes = [(0, 0, 20, 10), (30, 5, 40, 28), (60, 20, 1, 1), (0, 0, image.width, image.height)]
        let (width, height) = (image.width, image.height)
        let masks = try boxes.map { box in
            var counts: [Int] = []
            var (isObject, run) = (false, 0)
            for position in 0..<width * height {
                let (x, y) = (position / height, position % height)
                let isOn = (box.0..<box.0 + box.2).contains(x) && (box.1..<box.1 + box.3).contains(y)
                if isOn != isObject {
                    counts.append(run)
                    (isObject, run) = (isOn, 0)
                }
                run += 1
            }
            return try RunLengthEncoding(counts: counts + [run], height: height, width: width)
        }
        return masks + [try RunLengthEncoding(counts: [width * height], height: height, width: width)]
    }

    @Test func articlesAndMarksChangeNothing() throws {
        let matcher = try Self.matcher()
        let bare = try matcher.query("dog").row
        for text in ["a dog", "the dog", "The Dog.", "  an  dog ", "some dog!", "DOG"] {
            #expect(try matcher.query(text).row == bare, "\(text)")
            #expect(try matcher.query(text).text == text)
        }
        #expect(try matcher.query("cat").row != bare)
        // Nothing but an article means it.
        #expect(try matcher.query("the").row != matcher.query("an").row)
        #expect(try matcher.query("...").row.count == matcher.width)
    }

    @Test func textsTogetherEqualTextsAlone() throws {
        let matcher = try Self.matcher()
        let texts = ["dog", "a red car", "犬の写真", "🐕‍🦺", "ภาษาไทย", "x"]
        let together = try matcher.queries(texts, pool: Self.pool)
        for (text, query) in zip(texts, together) {
            let alone = try matcher.query(text)
            #expect(zip(alone.row, query.row).allSatisfy { abs($0 - $1) < 1e-5 }, "\(text)")
            let length = query.row.reduce(0) { $0 + $1 * $1 }
            #expect(abs(length - 1) < 1e-4)
        }
        #expect(try matcher.queries([], pool: Self.pool).isEmpty)
    }

    /// What sentences begin with is computed once; the answer is that of whole sentences.
    @Test(arguments: ["nano", "wide"], [Precision.float32, .bfloat16])
    func knownBeginningsChangeNothing(name: String, precision: Precision) throws {
        guard precision.isSupported else { return }
        let model = try CLIPModel(path: "\(GoldenTests.fixtures)/\(name)")
        let encoder = try model.textEncoder(precision: precision)
        let length = model.geometry.contextLength
        let texts = ["a photo of a dog.", "a photo of the cat", "dog", "a photo of", ""]
            .map { model.tokenizer.encode($0, length: length) }
        let plain = encoder.encode(texts, pool: .inline)
        let beginnings = ["a photo of a", "a photo of"].map { [model.tokenizer.start] + model.tokenizer.tokens($0) }
        let known = encoder.encode(texts, beginnings: beginnings, pool: Self.pool)
        let tolerance: Float = precision == .float32 ? 1e-5 : 1e-2
        #expect(zip(plain.elements, known.elements).allSatisfy { abs($0 - $1) <= tolerance * max(1, abs($0)) })
    }

    @Test func rowsDoNotDependOnThreadsOrOnEachOther() throws {
        let (matcher, image) = (try Self.matcher(), try Self.picture())
        let candidates = try Self.candidates(image)
        let rows = matcher.rows(of: candidates, in: image, pool: Self.pool)
        #expect(rows.shape == [5, matcher.width])
        #expect(matcher.rows(of: candidates, in: image, pool: .inline).elements == rows.elements)
        let one = matcher.rows(of: [candidates[1]], in: image, pool: Self.pool)
        let expected = rows.elements[matcher.width..<2 * matcher.width]
        #expect(zip(one.elements, expected).allSatisfy { abs($0 - $1) < 1e-5 })
        #expect(rows.elements.allSatisfy { $0.isFinite })
        #expect(matcher.rows(of: [], in: image, pool: Self.pool).shape == [0, matcher.width])
    }

    @Test func scoresAreProbabilities() throws {
        let (matcher, image) = (try Self.matcher(), try Self.picture())
        let rows = matcher.rows(of: try Self.candidates(image), in: image, pool: Self.pool)
        let queries = try matcher.queries(["dog", "house"], pool: Self.pool)
        let scores = matcher.scores(queries, of: rows)
        #expect(scores.count == 2 && scores.allSatisfy { $0.count == 5 })
        #expect(scores.joined().allSatisfy { (0...1).contains($0) })
        // A text that is what a candidate shows is certain; its opposite is not.
        let row = Array(rows.elements.prefix(matcher.width))
        let same = matcher.scores([TextQuery(text: "same", row: row)], of: rows)[0]
        let opposite = matcher.scores([TextQuery(text: "opposite", row: row.map { -$0 })], of: rows)[0]
        #expect(same[0] > opposite[0])
        #expect(matcher.scores([], of: rows).isEmpty)
    }

    @Test func textsThatCannotBeAskedSaySo() throws {
        let matcher = try Self.matcher("nano")
        for text in ["", " ", "\t\n\u{3000}"] {
            #expect(throws: TextError.empty) { try matcher.query(text) }
        }
        let long = String(repeating: "dog ", count: 600)
        #expect(throws: TextError.tooLong(bytes: 2400, limit: 2000)) { try matcher.query(long) }
        let error = #expect(throws: TextError.self) { try matcher.query(String(repeating: "dog ", count: 30)) }
        guard case .tooManyTokens(let count, let limit)? = error else {
            Issue.record("\(String(describing: error))")
            return
        }
        #expect(count == 30 && (1..<22).contains(limit))
        // As many as are said to be read are read.
        #expect(try matcher.query(String(repeating: "dog ", count: limit)).row.count == matcher.width)
        // The second of several texts is what is said to be empty.
        #expect(throws: TextError.empty) { try matcher.queries(["dog", " "], pool: Self.pool) }
    }

    @Test func fingerprintsTellWeightsAndArithmeticApart() throws {
        let model = try CLIPModel(path: "\(GoldenTests.fixtures)/nano")
        let matcher = try Self.matcher("nano")
        #expect(try matcher.fingerprint == model.matcher(precision: .float32, pool: Self.pool).fingerprint)
        #expect(try matcher.fingerprint != Self.matcher("wide").fingerprint)
        guard Precision.bfloat16.isSupported else { return }
        #expect(try matcher.fingerprint != model.matcher(precision: .bfloat16, pool: Self.pool).fingerprint)
    }
}

import Checkpoints
import Foundation
import Imaging
import Segmentation
import Tensors
import Testing
import TextMatching

@Suite struct WordsMatcherTests {
    private struct Case {
        let image: Image
        let masks: [RunLengthEncoding]
        let logits: Tensor

        /// `weights/words/make.py --case` wrote it: a drawn picture, two masks, and their logits by PyTorch.
        init() throws {
            let url = try #require(Bundle.module.url(forResource: "Fixtures/words-case", withExtension: "safetensors"))
            let checkpoint = try Checkpoint(path: url.path)
            func bytes(_ name: String) throws -> ([UInt8], [Int]) {
                let stored = try checkpoint.stored(name)
                return (Array(stored.file.bytes[stored.range]), stored.shape)
            }
            let (pixels, size) = try bytes("image")
            image = Image(width: size[1], height: size[0], pixels: pixels)
            let (maps, shape) = try bytes("masks")
            let count = shape[1] * shape[2]
            masks = (0..<shape[0]).map { index in
                RunLengthEncoding(
                    Mask(width: shape[2], height: shape[1], pixels: Array(maps[index * count..<(index + 1) * count])))
            }
            logits = try checkpoint.stored("logits").tensor()
        }
    }

    @Test func logitsEqualPyTorchs() throws {
        let golden = try Case()
        let logits = try ShippedWords.open().logits(
            of: golden.masks, in: golden.image, pool: ThreadPool(threadCount: 2))
        #expect(logits.shape == golden.logits.shape)
        let worst = zip(logits.elements, golden.logits.elements).map { abs($0 - $1) }.max() ?? .infinity
        #expect(worst <= 1e-3, "\(worst)")
    }

    @Test func rowsDoNotDependOnThreads() throws {
        let golden = try Case()
        let matcher = try ShippedWords.open()
        let one = matcher.rows(of: golden.masks, in: golden.image, pool: .inline)
        let three = matcher.rows(of: golden.masks, in: golden.image, pool: ThreadPool(threadCount: 3))
        #expect(one.elements == three.elements)
        #expect(one.shape == [2, matcher.width])
    }

    @Test func rowsAreProbabilitiesAndNothingTakesItsShare() throws {
        let golden = try Case()
        let matcher = try ShippedWords.open()
        let rows = matcher.rows(of: golden.masks, in: golden.image, pool: .inline)
        for candidate in 0..<2 {
            let row = rows.elements[candidate * matcher.width..<(candidate + 1) * matcher.width]
            #expect(row.allSatisfy { $0 >= 0 } && row.reduce(0, +) < 1)
        }
    }

    @Test func aWordScoresWhatItsKindsDoTogether() throws {
        let matcher = try ShippedWords.open()
        var row = [Float](repeating: 0, count: matcher.width)
        // Chihuahua and Pekinese are classes 151 and 154.
        (row[151], row[154], row[0]) = (0.25, 0.5, 0.125)
        let rows = Tensor(shape: [1, matcher.width], row)
        let scores = matcher.scores(
            try ["a dog", "Chihuahuas", "fish", "animal", "car"].map(matcher.query), of: rows)
        #expect(scores.map { $0[0] } == [0.75, 0.25, 0.125, 0.875, 0])
    }

    @Test func noCandidatesGiveNoScores() throws {
        let golden = try Case()
        let matcher = try ShippedWords.open()
        let rows = matcher.rows(of: [], in: golden.image, pool: .inline)
        #expect(rows.shape == [0, matcher.width])
        #expect(matcher.scores([try matcher.query("dog")], of: rows) == [[]])
    }

    @Test func emptyMasksAndThePicturesSizeAreCandidatesToo() throws {
        let matcher = try ShippedWords.open()
        for (width, height) in [(1, 1), (1, 300), (300, 2)] {
            let image = Image(width: width, height: height, pixels: Array(repeating: 9, count: width * height * 3))
            let masks = try [[width * height], [0, width * height]].map {
                try RunLengthEncoding(counts: $0, height: height, width: width)
            }
            let rows = matcher.rows(of: masks, in: image, pool: .inline)
            #expect(rows.elements.allSatisfy { $0.isFinite })
        }
    }

    @Test(arguments: [
        "dog", "cat", "car", "vehicle", "person", "people", "fruit", "bottle", "cell phone", "laptop", "mice",
        "wine glasses",
        "potted plant", "motorcycles", "skis", "teddy bear", "traffic light",
    ])
    func everydayWordsAreKnown(_ word: String) throws {
        #expect(try ShippedWords.open().query(word).row.contains(1))
    }

    @Test(arguments: ["giraffe", "fork", "red car", "love", "to run"])
    func whatItDoesNotKnowIsSaidWithWhatItKnows(_ word: String) throws {
        let matcher = try ShippedWords.open()
        let known = Set(matcher.words)
        let error = #expect(throws: TextError.self) { try matcher.query(word) }
        guard case .unknown(_, let nearest) = error else {
            Issue.record("\(String(describing: error))")
            return
        }
        #expect(nearest.allSatisfy(known.contains))
        if word != "love", word != "to run" { #expect(!nearest.isEmpty) }
    }

    @Test func itKnowsThousandsOfWords() throws {
        #expect(try ShippedWords.open().words.count > 5000)
    }
}

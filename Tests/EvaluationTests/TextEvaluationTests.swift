import Checkpoints
import Evaluation
import Foundation
import Imaging
import SegmentAnything
import Segmentation
import Tensors
import Testing
import TextMatching

/// A matcher that knows "ball", which it takes red things for.
private struct RedMatcher: TextMatcher {
    let name = "red"
    let fingerprint: Fingerprint
    let width = 1

    init() throws { fingerprint = try #require(Fingerprint(hexadecimal: String(repeating: "0", count: 64))) }

    func rows(of candidates: [RunLengthEncoding], in image: Image, pool: ThreadPool) -> Tensor {
        Tensor(
            shape: [candidates.count, 1],
            candidates.map { candidate in
                let pixels = candidate.mask.pixels
                let red = pixels.indices.reduce(0) { sum, index in
                    sum
                        + (pixels[index] == 1 && image.pixels[3 * index] > 150 && image.pixels[3 * index + 1] < 100
                            ? 1 : 0)
                }
                return Float(red) / Float(max(1, candidate.area))
            })
    }

    func query(_ text: String) throws(TextError) -> TextQuery {
        guard text == "ball" else { throw .unknown(word: text, nearest: ["ball"]) }
        return TextQuery(text: text, row: [1])
    }

    func scores(_ queries: [TextQuery], of rows: Tensor) -> [[Float]] { queries.map { _ in rows.elements } }
}

@Suite struct TextEvaluationTests {
    /// A set of one picture, a red disc on a grey ground with a blue square, below a folder of its own.
    private static func withSet(_ segments: String?, _ body: (String) throws -> Void) throws {
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent("texts-\(UUID().uuidString)")
        defer { try? FileManager.default.removeItem(at: folder) }
        for name in ["images", "masks"] {
            try FileManager.default.createDirectory(
                at: folder.appendingPathComponent(name), withIntermediateDirectories: true)
        }
        let (width, height) = (160, 120)
        var (pixels, labels) = ([UInt8](), [UInt8]())
        for y in 0..<height {
            for x in 0..<width {
                let isDisc = (x - 50) * (x - 50) + (y - 60) * (y - 60) < 900
                let isSquare = (105..<145).contains(x) && (20..<60).contains(y)
                labels.append(isDisc ? 1 : isSquare ? 2 : 0)
                pixels += isDisc ? [210, 40, 40] : isSquare ? [40, 60, 200] : [150, 150, 145]
            }
        }
        try PNGWriter.write(
            Image(width: width, height: height, pixels: pixels), to: folder.appendingPathComponent("images/a.png").path)
        try PNGWriter.write(
            GrayImage(width: width, height: height, pixels: labels),
            to: folder.appendingPathComponent("masks/a.png").path)
        if let segments {
            try Data(segments.utf8).write(to: folder.appendingPathComponent("segments.json"))
        }
        try body(folder.path)
    }

    private static let segments = """
        {"a": [{"label": 1, "category": "ball", "isthing": 1}, {"label": 2, "category": "box", "isthing": 1},
               {"label": 3, "category": "wall", "isthing": 0}]}
        """

    @Test func aTextIsHeldAgainstTheObjectsOfItsCategory() throws {
        try Self.withSet(Self.segments) { folder in
            let weights = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
                .deletingLastPathComponent().appendingPathComponent("weights/kirie-tiny.safetensors").path
            let sam = try ModelFamilies.open(path: weights)
            var parameters = EverythingParameters()
            parameters.pointsPerSide = 6
            parameters.predictedIoUThreshold = 0.3
            parameters.stabilityScoreThreshold = 0.3
            let generator = AutomaticMaskGenerator(
                encoder: try sam.imageEncoder(precision: .float32), decoder: try sam.promptDecoder(precision: .float32),
                parameters: parameters)
            let set = try #require(try DataSet.all(below: folder).first)
            let categories = try #require(try SegmentCategories(ofSetIn: folder))
            let row = try TextEvaluation(
                generator: generator, matcher: try RedMatcher(), pool: ThreadPool(threadCount: 2)
            ).measure(set, categories: categories)
            #expect(row.pairs == 1)
            #expect(row.unknown == ["box"])
            #expect(row.found == 1 && row.reachable == 1)
            #expect(row.ofBest > 0.5 && row.ofBest <= 1)
            #expect(row.candidates > 1)
        }
    }

    @Test func theFileIsFoundBesideTheSetOrAbove() throws {
        try Self.withSet(Self.segments) { folder in
            let beside = try SegmentCategories(ofSetIn: folder)
            #expect(beside != nil)
            let above = try SegmentCategories(ofSetIn: "\(folder)/images")
            #expect(above != nil)
        }
        try Self.withSet(nil) { folder in
            let categories = try SegmentCategories(ofSetIn: folder)
            #expect(categories == nil)
        }
    }

    @Test(arguments: [
        "", "[]", "{", "{\"a\": [{\"label\": 99999, \"category\": \"dog\"}]}", "{\"a\": [{\"label\": 1}]}",
    ])
    func whatIsNoListOfSegmentsIsRefused(_ text: String) throws {
        try Self.withSet(text) { folder in
            #expect(throws: DataSetError.self) { try SegmentCategories(ofSetIn: folder) }
        }
    }
}

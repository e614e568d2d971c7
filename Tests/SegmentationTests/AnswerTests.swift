import Cluster
import FoundationEssentials
import JSON
import Segmentation
import Testing

@Suite struct AnswerTests {
    private func cutout(_ score: Float, _ more: (inout Answer.Cutout) -> Void = { _ in }) throws -> Answer.Cutout {
        let text = #"{"prompt":3,"score":0,"stability_score":0.5,"area":40210,"bbox":[380,0,240,225]}"#
        var cutout = try JSONDecoder().decode(Answer.Cutout.self, from: Data(text.utf8))
        cutout.score = score
        more(&cutout)
        return cutout
    }

    /// The writer against its plain twin.
    @Test func isWrittenAsJSONEncoderWritesIt() throws {
        let runs = #"{"size":[768,1024],"counts":"Zab0\\o\"1"}"#
        let segmentation = try JSONDecoder().decode(Answer.RunLengths.self, from: Data(runs.utf8))
        let regions = try JSONDecoder().decode(
            [Answer.Region].self,
            from: Data(#"[{"exterior":[0,0,9,0,9,9],"holes":[[1,1,1,2,2,2],[]]},{"exterior":[],"holes":[]}]"#.utf8))
        let controls = String(String.UnicodeScalarView((0..<0x21).compactMap(UnicodeScalar.init)))
        let answers = [
            Answer(
                image: .init(width: 1024, height: 768, sha256: "00ff"), model: "kirie-tiny", precision: "fp32",
                timings_ms: ["decode": 2.6, "encode": 120, "a": 1e-7, "b": 1e21, "c": -0.0],
                masks: [
                    try cutout(0.93) { $0.segmentation = segmentation },
                    try cutout(1) {
                        $0.polygons = [[0, 1.5, 3], [], [1e16, 123_456.789]]
                        $0.regions = [regions[0], regions[1]]
                    },
                    try cutout(1.1920929e-07) { $0.png = "iVBORw0KGgo/+==" },
                    try cutout(0.5) { ($0.object_score, $0.png, $0.crop_box) = (-3.25, "AA==", [0, 1, 2, 3]) },
                ]),
            Answer(
                image: .init(width: 1, height: 1, sha256: nil, notes: ["it \"ends\"", "é"]),
                model: "切り絵 \(controls)/\u{7f}\u{2028}\\\"é😀",
                precision: "", timings_ms: [:], masks: []),
            Answer(
                image: .init(width: 9, height: 9, sha256: nil), model: "m", precision: "fp32", timings_ms: [:],
                masks: [],
                remarks: FittedPrompts(
                    [Prompt(), Prompt(box: BoundingBox(x0: -1, y0: 0, x1: 5, y1: 5))], known: [0: "why \"not\""],
                    width: 9, height: 9, maskSide: 4)),
        ]
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        for answer in answers {
            let plain = String(decoding: try encoder.encode(answer), as: UTF8.self)
            #expect(String(decoding: try answer.encoded(), as: UTF8.self) == plain)
        }
    }

    @Test func beginsWithItsOrigin() throws {
        let answer = Answer(
            image: .init(width: 1, height: 1, sha256: nil), model: "m", precision: "fp32", timings_ms: [:], masks: [])
        let meta = try #require(JSONText(Array("{ \"a\":1.0 }".utf8)))
        let origin = JobOrigin(path: "d/\"x\".jpg", line: 7, meta: meta)
        let line = String(decoding: try answer.encoded(first: origin.members), as: UTF8.self)
        #expect(line.hasPrefix(#"{"path":"d/\"x\".jpg","line":7,"meta":{ "a":1.0 },"image":{"#), "\(line)")
        let members = try #require(JSONText.members(of: line.utf8))
        #expect(members.map(\.name) == ["path", "line", "meta", "image", "masks", "model", "precision", "timings_ms"])
    }

    @Test(arguments: [Float.nan, .infinity]) func aScoreThatIsNoNumberIsAnError(score: Float) throws {
        let answer = Answer(
            image: .init(width: 1, height: 1, sha256: nil), model: "m", precision: "fp32", timings_ms: [:],
            masks: [try cutout(score)])
        #expect(throws: EncodingError.self) { try answer.encoded() }
    }
}

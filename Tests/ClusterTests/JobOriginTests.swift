import Cluster
import Foundation
import JSON
import Segmentation
import Testing

/// What an answer is told by, and the user's own value, which comes back to the byte.
@Suite struct JobOriginTests {
    private static let digest = ImageDigest(bytes: (0..<32).map { UInt8($0) })
    /// Values that a reader which makes numbers and texts of them would not give back as they were.
    private static let values = [
        "null", "true", "7", "1.0", "-0", "1e400", "12345678901234567890123", "0.1000000000000000055511151231257827",
        #""""#, #""切 \u00e9 \ud83d\udc1f \/ \"""#, #""\ud800""#, "[]", "{}", #"{"b":1,"a":[1, 2 ,3],"b":2}"#,
        #"{ "line" : 99 , "meta" : { "path" : "\u001e" } }"#,
        String(repeating: "[", count: 200)
            + String(repeating: "]", count: 200),
    ]

    @Test(arguments: values) func metaSurvivesExactly(value: String) throws {
        let text = #"{"meta":\#(value),"image":"a.jpg","prompts":[{"points":[[1,2]]}]}"#
        var line = try JobLine(parsing: Array(text.utf8), number: 3)
        #expect(line.origin.meta?.bytes == Array(value.utf8))
        line.origin.path = "d \"1\"/é\n.jpg"
        line.origin.line = 3
        let back = try JobLine(parsing: line.encoded(for: Self.digest))
        #expect(back.origin == line.origin && back.prompts == line.prompts)
        #expect(JobOrigin(note: line.origin.encoded) == line.origin)
        let escaped = #"{"image":"a.jpg","\u006deta":\#(value)}"#
        #expect(try JobLine(parsing: Array(escaped.utf8)).origin.meta?.bytes == Array(value.utf8))
    }

    @Test func metaIsBounded() throws {
        func line(_ count: Int) -> [UInt8] {
            Array(#"{"image":"a.jpg","meta":"\#(String(repeating: "x", count: count - 2))"}"#.utf8)
        }
        #expect(try JobLine(parsing: line(16_384)).origin.meta?.bytes.count == 16_384)
        let error = #expect(throws: JobLineError.self) { try JobLine(parsing: line(16_385), number: 4) }
        #expect(
            error?.line == 4 && error?.field == "meta" && error?.reason.contains("16385 bytes; at most 16384") == true)
    }

    @Test(arguments: [
        "01", "1.", "+1", ".5", "NaN", "tru", "'a'", #""\x""#, #""\u12"#, "[1,]", "{\"a\"}", "[", "\"a\nb\"",
        String(repeating: "[", count: 600) + String(repeating: "]", count: 600),
    ]) func whatIsNoJSONIsNoMeta(value: String) throws {
        #expect(JSONText(Array(value.utf8)) == nil)
        #expect(throws: JobLineError.self) {
            try JobLine(parsing: Array(#"{"image":"a.jpg","meta":\#(value)}"#.utf8), number: 1)
        }
    }

    @Test func aLineThatIsNoJobStillSaysWhose() {
        let text = #"{"id":"a","image":"x.jpg","prompts":7,"meta":{"k": 1}}"#
        let (id, origin) = JobLine.labels(of: Array(text.utf8))
        #expect(id == "a" && origin.path == "x.jpg" && origin.meta?.bytes == Array(#"{"k": 1}"#.utf8))
        #expect(JobLine.labels(of: Array("no json".utf8)).origin.isEmpty)
    }

    @Test func aLineWithoutPromptsIsNothingButItsNote() throws {
        var line = JobLine(image: .path("a.jpg"))
        #expect(line.encoded(for: Self.digest).isEmpty)
        line.origin.line = 3
        #expect(line.encoded(for: Self.digest) == [0x1E] + Array(#"{"line":3}"#.utf8))
    }

    @Test func clicksWithAnOriginAreStillReadQuickly() throws {
        var line = JobLine(image: .path("a.jpg"), prompts: [Prompt(points: [LabeledPoint(x: 1, y: 2)])])
        line.id = "a/1"
        let head = line.encoded(for: Self.digest)
        #expect(JobLineScanner.line(head)?.id == "a/1")
        line.origin = JobOrigin(path: "a.jpg", line: 3)
        let noted = line.encoded(for: Self.digest)
        #expect(noted.starts(with: head) && noted[head.count] == 0x1E)
        #expect(try JobLine(parsing: noted).origin == line.origin)
    }
}

import Gateway
import Testing

/// A form is the same however its bytes are cut.
@Suite struct MultipartReaderTests {
    private static let form = Array(
        ("preamble\r\n--b0\r\nContent-Disposition: form-data; name=\"image\"; filename=\"a.png\"\r\nContent-Type: image/png\r\n\r\n"
            + "\r\n--b\r\n-- --b0x\r\n"
            + "\r\n--b0\r\nContent-Disposition: form-data; name=\"empty\"\r\n\r\n"
            + "\r\n--b0  \r\nContent-Disposition: form-data; name=job\r\n\r\n{\"a\":1}"
            + "\r\n--b0--\r\nepilogue").utf8)

    private struct Part: Equatable {
        var head: MultipartReader.Part
        var body: [UInt8]
    }

    private static func parts(_ chunks: [[UInt8]]) throws -> (parts: [Part], isWhole: Bool) {
        var reader = MultipartReader(boundary: "b0")
        var parts: [Part] = []
        for chunk in chunks {
            for event in try reader.take(chunk) {
                switch event {
                case .part(let head): parts.append(Part(head: head, body: []))
                case .body(let bytes): parts[parts.count - 1].body += bytes
                case .end: break
                }
            }
        }
        return (parts, reader.isAtEnd)
    }

    @Test func everyCutGivesTheSameParts() throws {
        let whole = try Self.parts([Self.form])
        #expect(whole.isWhole)
        #expect(whole.parts.map(\.head.name) == ["image", "empty", "job"])
        #expect(whole.parts[0].head.fileName == "a.png")
        #expect(whole.parts[0].head.contentType == "image/png")
        #expect(whole.parts[0].body == Array("\r\n--b\r\n-- --b0x\r\n".utf8))
        #expect(whole.parts[1].body.isEmpty)
        #expect(whole.parts[2].body == Array("{\"a\":1}".utf8))
        for cut in 1..<Self.form.count {
            let two = try Self.parts([Array(Self.form[..<cut]), Array(Self.form[cut...])])
            #expect(two.parts == whole.parts && two.isWhole, "cut at \(cut)")
        }
        let single = try Self.parts(Self.form.map { [$0] })
        #expect(single.parts == whole.parts && single.isWhole)
    }

    @Test func aFormThatEndsEarlyIsNotWhole() throws {
        for end in 0..<(Self.form.count - "--\r\nepilogue".utf8.count) {
            #expect(try !Self.parts([Array(Self.form[..<end])]).isWhole)
        }
    }

    @Test func headsAreBounded() {
        var reader = MultipartReader(boundary: "b")
        #expect(throws: Problem.self) {
            _ = try reader.take(Array("--b\r\nX: ".utf8))
            for _ in 0..<100 { _ = try reader.take([UInt8](repeating: 0x61, count: 1000)) }
        }
    }

    @Test(arguments: [
        ("multipart/form-data; boundary=abc", "abc"), ("Multipart/Form-Data; charset=utf-8; Boundary=\"a b\"", "a b"),
        ("multipart/form-data", nil), ("multipart/mixed; boundary=abc", nil), ("text/plain; boundary=abc", nil),
        ("multipart/form-data; boundary=", nil),
    ])
    func boundaries(_ type: String, _ boundary: String?) {
        #expect(MultipartReader.boundary(of: type) == boundary)
    }
}

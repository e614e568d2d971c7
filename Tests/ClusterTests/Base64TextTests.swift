import Cluster
import ClusterTesting
import Foundation
import Testing

/// Base64 as programs write it.
@Suite struct Base64TextTests {
    @Test func allStandardFormsAreTheSameBytes() throws {
        let seed = UInt64.random(in: 0 ... .max)
        print("base64: seed \(seed)")
        var random = SeededGenerator(seed)
        for count in [1, 2, 3, 4, 57, 58, 1000] {
            let bytes = (0..<count).map { _ in UInt8.random(in: 0...255, using: &random) }
            let plain = Data(bytes).base64EncodedString()
            func wrapped(_ width: Int, _ end: String) -> String {
                stride(from: 0, to: plain.count, by: width).map { start in
                    String(plain.dropFirst(start).prefix(width)) + end
                }.joined()
            }
            let safe = plain.replacingOccurrences(of: "+", with: "-").replacingOccurrences(of: "/", with: "_")
            let bare = plain.replacingOccurrences(of: "=", with: "")
            let escaped = plain.replacingOccurrences(of: "+", with: "%2B").replacingOccurrences(of: "=", with: "%3d")
            let forms = [
                plain, bare, safe, safe.replacingOccurrences(of: "=", with: ""), wrapped(76, "\n"), wrapped(64, "\r\n"),
                wrapped(1, " "), " \(plain)\t", "data:image/jpeg;base64,\(plain)", "DATA:;BASE64,\(bare)",
                "data:image/png;charset=utf-8;base64,\(wrapped(60, "\n"))", "data:image/jpeg;base64,\(escaped)",
                "data:application/octet-stream;base64,\(safe)",
            ]
            for form in forms { #expect(try Base64Text.decode(form) == bytes, "\(count) bytes as \(form.prefix(40))") }
        }
        #expect(try Base64Text.decode("").isEmpty)
    }

    @Test(arguments: [
        ("AQ!D", "character 3, \"!\" (U+0021), is no sign"), ("AQIé", "character 4, \"é\" (U+00E9), is no sign"),
        ("AQIDA", "ends inside a byte"), ("A", "ends inside a byte"),
        ("AQ=D", "character 4, \"D\" (U+0044), stands behind"),
        ("AQI==", "2 = at the end where 1"), ("AQ=", "1 = at the end where 2"), ("AQID=", "1 = at the end where 0"),
        ("+Q_D", "character 3, \"_\" (U+005F), belongs to another alphabet"), ("AQ\u{7f}D", "character 3, U+007F"),
        ("data:image/png,AQID", ";base64 is expected"), ("data:image/png;base64", "has no comma"),
        ("data:;base64,AQ%2", "character 16: %"), ("photos/a.jpg", "character 9, \".\" (U+002E)"),
    ]) func aWrongOneIsRefusedWithPlaceAndReason(text: String, words: String) throws {
        let fault = #expect(throws: Base64Text.Fault.self) { try Base64Text.decode(text) }
        #expect(fault?.reason.contains(words) == true, "\(fault?.reason ?? "")")
    }
}

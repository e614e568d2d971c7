import Foundation
import JSON
import Platform
import Testing

@Suite struct JSONTests {
    private func read(_ text: String) throws -> JSONValue {
        try Array(text.utf8).withUnsafeBytes { try JSONValue($0) }
    }

    @Test func whatIsWrittenIsReadBack() throws {
        let text = #"{"a":[1,-2,0.5,1e+300],"b":{"":null,"é\n":"\"\\\u0001"},"c":true,"d":false,"e":[],"f":{}}"#
        #expect(try read(text).text == text.replacing(#"1e+300"#, with: "1e+300"))
        let controls = String(String.UnicodeScalarView((0..<0x21).compactMap(UnicodeScalar.init))) + "\u{7f}切\u{1F600}"
        let value = JSONValue.object([
            ("name \(controls)", .string(controls)), ("n", .number(3)), ("inf", .number(.infinity)),
        ])
        let again = try read(value.text)
        #expect(again["name \(controls)"]?.string == controls)
        #expect(again["n"]?.integer == 3)
        guard case .null? = again["inf"] else {
            Issue.record("an infinite number was written as \(value.text)"); return
        }
        // Foundation agrees.
        let decoded = try JSONDecoder().decode(
            [String: String?].self, from: Data(#"{"x":"#.utf8) + Data(JSONValue.string(controls).bytes) + Data("}".utf8)
        )
        #expect(decoded["x"] == controls)
    }

    @Test(arguments: [
        "", "{", "[1,]", "{\"a\":1,}", "{\"a\":1,\"a\":2}", "01", "1.", "1.e5", ".5", "+1", "nul", "\"\u{1}\"",
        "\"\\x\"",
        "\"\\ud800\"", "[1] 2", "{a:1}", "'a'", "1e400", "[\u{FEFF}]",
    ])
    func whatIsNoJSONIsRefused(_ text: String) {
        #expect(throws: JSONValue.Fault.self) { try read(text) }
    }

    @Test func depthIsBounded() {
        let deep = String(repeating: "[", count: 100_000)
        #expect(throws: JSONValue.Fault.self) { try read(deep) }
        #expect(JSONText(Array(deep.utf8)) == nil)
    }

    /// The strict reader and the one that keeps a value as it was written agree on what is JSON, of bytes changed at random.
    @Test func bothReadersAgreeOnWhatIsJSON() throws {
        let seed = UInt64.random(in: .min ... .max)
        print("JSON fuzz: seed \(seed)")
        var random = SplitMix64(seed: seed)
        let texts = [
            #"{"a":[1,-2.5e-3,true,null,{"b":"\u00e9\n"}],"c":""}"#, #"[[],{},"",0,-0,1E5]"#, #"  {"x" : 1 } "#,
        ]
        let alphabet = Array("{}[]\":,0123456789.-+eEtrufalsn\\ \n\t\u{0}é".utf8)
        for _ in 0..<20_000 {
            var bytes = Array(texts[Int.random(in: 0..<texts.count, using: &random)].utf8)
            for _ in 0..<Int.random(in: 1...3, using: &random) {
                let place = Int.random(in: 0..<bytes.count, using: &random)
                switch Int.random(in: 0..<3, using: &random) {
                case 0: bytes[place] = alphabet[Int.random(in: 0..<alphabet.count, using: &random)]
                case 1: bytes.insert(alphabet[Int.random(in: 0..<alphabet.count, using: &random)], at: place)
                default: if bytes.count > 1 { bytes.remove(at: place) }
                }
            }
            let value = bytes.withUnsafeBytes { try? JSONValue($0) }
            let text = JSONText(bytes)
            // The strict one refuses more: names that come twice, halves of surrogate pairs, numbers out of range.
            if value != nil { #expect(text != nil, "\(String(decoding: bytes, as: UTF8.self))") }
            if let value, let text {
                #expect(try text.bytes.withUnsafeBytes { try JSONValue($0) }.text == value.text)
            }
        }
    }

    private func point(_ text: some Collection<UInt8>) -> [Double]? { JSONScanner.read(Array(text)) { $0.numbers(2) } }

    @Test func theScannerReadsThePlainPartAndRefusesTheRest() {
        #expect(point(" [ 500, -375.25 ] ".utf8) == [500, -375.25])
        #expect(point("[0,999999999999999]".utf8) == [0, 999_999_999_999_999])
        for text in [
            "", "[1]", "[1,2,3]", "[1,2", "[1,2]]", "[01,2]", "[1.,2]", "[.5,2]", "[1e2,2]", "[1,-]", "[1,2,]",
        ] {
            #expect(point(text.utf8) == nil, "\(text)")
        }
        #expect(point("[1,1000000000000000]".utf8) == nil, "sixteen digits are another reader's")
        #expect(JSONScanner.read(Array("\"a b\"".utf8)) { $0.string() } == "a b")
        for text in [#""a\n""#, "\"é\"", "\"a", "\"\u{1}\""] {
            #expect(JSONScanner.read(Array(text.utf8)) { $0.string() } == nil, "\(text)")
        }
        #expect(JSONScanner.read(Array("true".utf8)) { $0.boolean() } == true)
        #expect(JSONScanner.read(Array("tru".utf8)) { $0.boolean() } == nil)
        let twice = JSONScanner.read(Array(#"{"a":1,"a":2}"#.utf8)) { $0.object { json, _ in json.number() != nil } }
        #expect(twice != true, "a name that comes twice")
    }

    /// What the scanner answers, the strict reader answers as well, of bytes changed at random.
    @Test func theScannerAgreesWithTheStrictReader() throws {
        let seed = UInt64.random(in: .min ... .max)
        print("JSON scanner fuzz: seed \(seed)")
        var random = SplitMix64(seed: seed)
        let texts = ["[512.25,0.5]", " [ -0.001 , 123456789012345 ]", "[7,8]"].map { Array($0.utf8) }
        let alphabet = Array("[],0123456789.-+eE \n\u{0}".utf8)
        var scanned = 0
        for _ in 0..<20_000 {
            var bytes = texts[Int.random(in: 0..<texts.count, using: &random)]
            for _ in 0..<Int.random(in: 1...2, using: &random) {
                let (place, byte) = (
                    Int.random(in: 0..<bytes.count, using: &random),
                    alphabet[Int.random(in: 0..<alphabet.count, using: &random)]
                )
                if Bool.random(using: &random) { bytes[place] = byte } else { bytes.insert(byte, at: place) }
            }
            guard let found = point(bytes) else { continue }
            scanned += 1
            let strict = try bytes.withUnsafeBytes { try JSONValue($0) }.elements?.map { value in
                switch value {
                case .integer(let number): Double(number)
                case .number(let number): number
                default: Double.nan
                }
            }
            #expect(strict == found, "\(String(decoding: bytes, as: UTF8.self))")
        }
        #expect(scanned > 1000)
    }
}

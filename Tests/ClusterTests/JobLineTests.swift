import Cluster
import ClusterTesting
import Segmentation
import Testing

@Suite struct JobLineTests {
    /// Parameters go to the workers as they came; there are no prompts beside them.
    @Test func everythingHasParameters() throws {
        let text = """
            {"image":{"sha256":"\(TestCluster.image(1))"},
             "everything":{"points_per_side":16,"pred_iou_thresh":0.5,"fast":true,"point_grids":null,
             "like":[[5,6],[1,2,30.5,40]],"unlike":[[7,8]],"like_thresh":-0.25}}
            """
        let line = try JobLine(parsing: Array(text.utf8))
        var parameters = EverythingParameters()
        parameters.pointsPerSide = 16
        parameters.predictedIoUThreshold = 0.5
        parameters.isFast = true
        parameters.like = [.point(x: 5, y: 6), .box(BoundingBox(x0: 1, y0: 2, x1: 30.5, y1: 40))]
        parameters.unlike = [.point(x: 7, y: 8)]
        parameters.likeThreshold = -0.25
        #expect(line.everything == parameters && !line.asksForEmbeddingOnly)
        #expect(try JobLine(parsing: line.encoded(for: TestCluster.image(1))).everything == parameters)
        let named = try JobLine(parsing: Array(#"{"image":"a","everything":{"labels":["dog","a cup"]}}"#.utf8))
        #expect(named.everything?.labels == ["dog", "a cup"])
        #expect(try JobLine(parsing: named.encoded(for: TestCluster.image(1))).everything == named.everything)
        let plain = try JobLine(parsing: Array("{\"image\":\"a\",\"everything\":true}".utf8))
        #expect(plain.everything == EverythingParameters())
        let none = try JobLine(parsing: Array("{\"image\":\"a\",\"everything\":false}".utf8))
        #expect(none.everything == nil)
    }

    private func parse(_ text: String, number: Int? = 7) throws -> JobLine {
        try JobLine(parsing: Array(text.utf8), number: number)
    }

    @Test func allFieldsAreRead() throws {
        let line = try parse(
            """
            {"id":"a/1","image":"p.jpg","prompts":[{"points":[[1,2],[3.5,4]],"labels":[1,0]},{"box":[1,2,3,4]}],
             "multimask":true,"lane":"interactive","output":"png","ttl_ms":5000}
            """)
        #expect(line.id == "a/1")
        #expect(line.image == .path("p.jpg"))
        #expect(line.prompts.count == 2)
        #expect(line.prompts[0].points[1] == LabeledPoint(x: 3.5, y: 4, label: .background))
        #expect(line.prompts[1].box == BoundingBox(x0: 1, y0: 2, x1: 3, y1: 4))
        #expect(line.everything == nil)
        #expect(line.multimask && line.lane == .interactive && line.output == .png)
        #expect(line.timeToLive == .seconds(5))
    }

    /// The scanner of clicks against its plain twin, on lines of its kind that were damaged here and there.
    @Test func clicksAreReadAsJSONDecoderReadsThem() throws {
        let seed = UInt64.random(in: 0 ... .max)
        print("job lines: seed \(seed)")
        var random = SeededGenerator(seed)
        func below(_ limit: Int) -> Int { Int.random(in: 0..<limit, using: &random) }
        func pick<Element>(_ elements: [Element]) -> Element { elements[below(elements.count)] }
        let numerals = [
            "0", "1", "-0", "512.5", "0.1", "1023.999999999999", "12345678901234567", "1e2", "-3.25", "01", "1.", ".5",
            "0.30000000000000004", "3.3", "4.35", "99999.00001", "-", "1.2.3", "NaN", "null", "2E-3", "123456789012345",
        ]
        let digest = String(repeating: "a7", count: 32)
        func list(_ count: Int) -> String {
            "[" + (0..<count).map { _ in pick(numerals) }.joined(separator: pick([",", ", ", " ,\n"])) + "]"
        }
        var readByScanner = 0
        for _ in 0..<20_000 {
            let prompts = (0..<below(3)).map { _ in
                pick([
                    #"{"points":[\#(list(2))],"labels":[\#(pick(["0", "1", "2", "1.0", "true"]))]}"#,
                    #"{"points":[\#(list(2)), \#(list(2))]}"#, #"{ "box" : \#(list(4)) }"#,
                    #"{"box":[1,2,\#(pick(numerals)),40.5],"points":[[3.5,4]],"labels":[0]}"#, "{}",
                    #"{"text":"cat"}"#,
                    #"{"points":[],"labels":[]}"#, #"{"points":[[1,2]],"points":[[3,4]]}"#,
                ])
            }
            var text = Array(
                (#"{"image":{"sha256":"\#(digest)"},"prompts":[\#(prompts.joined(separator: ","))]"#
                    + pick(["", #","multimask":true"#, #","multimask": false"#, #","multimask":1"#])
                    + pick(["", #","output":"rle""#, #","output":"png""#, #","output":"r\\u006ce""#, #","id":"a""#])
                    + pick(["}", "} ", "", "}}"])).utf8)
            if below(3) == 0 {
                text[below(text.count)] = pick(Array(#"0123456789[]{},:" .-eE\#u{7f}"#.utf8) + [0xff, 0x00])
            }
            guard let scanned = JobLineScanner.line(text) else { continue }
            readByScanner += 1
            let decoded = try? JobLine(decoding: text, number: nil)
            #expect(decoded == scanned, "\(String(decoding: text, as: UTF8.self))")
        }
        #expect(readByScanner > 1000)
    }

    @Test func imagesComeAsPathBytesOrDigest() throws {
        #expect(try parse(#"{"image":{"base64":"AQID"}}"#).image == .bytes([1, 2, 3]))
        let digits = String(repeating: "ab", count: 32)
        let line = try parse(#"{"image":{"sha256":"\#(digits)"}}"#)
        #expect(line.image == .digest(try #require(ImageDigest(digits))))
        #expect(line.asksForEmbeddingOnly)
    }

    /// What is wrong with one prompt is its own affair, on its way to the decoder too.
    @Test func aTileIsForPointsAndBoxes() throws {
        let line = try parse(#"{"image":"a","prompts":[{"box":[1,2,3,4]}],"tile":"auto"}"#)
        #expect(line.tile == .auto)
        #expect(try parse(String(decoding: line.encoded(for: TestCluster.image(1)), as: UTF8.self)).tile == .auto)
        for (rest, word) in [
            (#""prompts":[{"text":"dog"}],"tile":"auto""#, "points and boxes"),
            (#""everything":true,"tile":"auto""#, "points and boxes"),
            (#""prompts":[{"box":[1,2,3,4]}],"tile":"auto","logits":true"#, "logits"),
            (#""prompts":[{"box":[1,2,3,4]}],"tile":"all""#, "auto"),
        ] {
            let error = #expect(throws: JobLineError.self) { try parse("{\"image\":\"a\",\(rest)}") }
            #expect(error?.field == "tile" && error?.reason.contains(word) == true, "\(rest): \(error as Any)")
        }
    }

    /// What came with an answer may be handed back as it is.
    @Test func anAnswersLogitsAreAMaskPrompt() throws {
        let line = try parse(#"{"image":"a","prompts":[{"mask":{"logits":"AACAPw==","side":1,"token":2}}]}"#)
        #expect(line.prompts[0].mask == LowResolutionLogits(side: 1, values: [1]))
    }

    @Test func oneWrongPromptLeavesTheOthers() throws {
        let line = try parse(
            """
            {"image":"p.jpg","prompts":[{"points":[[1,2]]},{"box":[3,2,1,4]},{"points":[["x",1]]},{},{"bix":[1,2,3,4]},
             7,{"box":[1,1,9,9]},{"points":[[5,5],[1,1],[9,9]],"labels":[0,2,3]}]}
            """)
        #expect(line.prompts.count == 8 && line.faults.keys.sorted() == [1, 2, 3, 4, 5])
        #expect(line.faults[1]?.hasPrefix("box: x0, y0, x1, y1") == true)
        #expect(line.faults[2]?.hasPrefix("points[0][0]: a number") == true)
        #expect(line.faults[4]?.hasPrefix("bix: there is no such field; there are box, labels, mask") == true)
        #expect(line.prompts[7].box == BoundingBox(x0: 1, y0: 1, x1: 9, y1: 9) && line.prompts[7].points.count == 1)
        let digest = ImageDigest(bytes: (0..<32).map { UInt8($0) })
        let back = try JobLine(parsing: line.encoded(for: digest))
        #expect(back.faults == line.faults && back.prompts == line.prompts)
    }

    @Test func aLineTravelsWithTheDigestOfItsImage() throws {
        var line = JobLine(image: .path("p.jpg"), prompts: [Prompt(points: [LabeledPoint(x: 500, y: 0.25)])])
        line.prompts[0].mask = LowResolutionLogits(side: 2, values: [-1, 0.5, 3e-9, 42])
        line.multimask = true
        let digest = ImageDigest(bytes: (0..<32).map { UInt8($0) })
        let back = try JobLine(parsing: line.encoded(for: digest))
        #expect(back.image == .digest(digest))
        #expect(back.prompts == line.prompts)
        #expect(back.multimask)
    }

    @Test func outlinesHaveAToleranceAndABudget() throws {
        let plain = try parse(#"{"image":"a.jpg","output":"polygon"}"#)
        #expect(plain.outlines == JobLine.Outlines() && plain.output == .polygons)
        let line = try parse(
            #"{"image":"a.jpg","prompts":[{"box":[1,1,9,9]}],"output":"polygon","polygon":{"tolerance":1.5,"max_points":200}}"#
        )
        #expect(line.outlines == JobLine.Outlines(tolerance: 1.5, mostPoints: 200))
        let digest = ImageDigest(bytes: (0..<32).map { UInt8($0) })
        #expect(try JobLine(parsing: line.encoded(for: digest)).outlines == line.outlines)
        for (text, field) in [
            (#"{"tolerance":-1}"#, "polygon.tolerance"), (#"{"tolerance":1e9}"#, "polygon.tolerance"),
            (#"{"max_points":3}"#, "polygon.max_points"), (#"{"max_points":1.5}"#, "polygon.max_points"),
            (#"{"points":9}"#, "polygon.points"), ("[]", "polygon"),
        ] {
            let error = #expect(throws: JobLineError.self) { try parse(#"{"image":"a.jpg","polygon":\#(text)}"#) }
            #expect(error?.field == field, "\(text)")
        }
    }

    @Test(arguments: [
        ("", "", "JSON"), ("{", "", "JSON"), ("[1]", "", "object"), ("{}", "image", "missing"),
        (#"{"image":5}"#, "image", "a path"), (#"{"image":""}"#, "image", "empty"),
        (#"{"image":{"base64":"%%"}}"#, "image.base64", "character 1, \"%\" (U+0025), is no sign of base64"),
        (#"{"image":{"base64":""}}"#, "image.base64", "no bytes"),
        (#"{"image":{"sha256":"12"}}"#, "image.sha256", "64 hexadecimal"),
        (#"{"image":{"url":"x"}}"#, "image.url", "no such field"),
        (#"{"image":"a","promts":[]}"#, "promts", "no such field"),
        (#"{"image":"a","id":"a b"}"#, "id", "1 to 128"), (#"{"image":"a","id":5}"#, "id", "a string"),
        (#"{"image":"a","id":"my photo é.jpg"}"#, "id", "character 3, a space (U+0020), is not allowed"),
        (#"{"image":"a","id":"é"}"#, "id", "character 1, \"é\" (U+00E9), is not allowed"),
        (#"{"image":"a","id":""}"#, "id", "empty"),
        (#"{"image":"a","id":"\#(String(repeating: "x", count: 129))"}"#, "id", "129 characters"),
        (#"{"image":"a","prompts":{}}"#, "prompts", "an array"),
        (#"{"image":"a","prompts":[{}]}"#, "prompts[0]", "empty"),
        (#"{"image":"a","prompts":[{"points":[[1]]}]}"#, "prompts[0].points[0]", "x and y"),
        (#"{"image":"a","prompts":[{"points":[[1,"2"]]}]}"#, "prompts[0].points[0][1]", "a number"),
        (#"{"image":"a","prompts":[{"points":[[1,2]],"labels":[2]}]}"#, "prompts[0].labels[0]", "1 (the object)"),
        (#"{"image":"a","prompts":[{"points":[[1,2]],"labels":[7]}]}"#, "prompts[0].labels[0]", "the label 7"),
        (#"{"image":"a","prompts":[{"points":[[1,2]],"labels":[-1]}]}"#, "prompts[0]", "padding"),
        (#"{"image":"a","prompts":[{"points":[[1,2]],"labels":[]}]}"#, "prompts[0].labels", "0 labels for 1"),
        (#"{"image":"a","prompts":[{"box":[3,2,1,4]}]}"#, "prompts[0].box", "x0 < x1"),
        (#"{"image":"a","prompts":[{"mask":{"side":2,"logits":"AA=="}}]}"#, "prompts[0].mask.logits", "2 x 2"),
        (#"{"image":"a","lane":"fast"}"#, "lane", "\"interactive\", \"bulk\""),
        (#"{"image":"a","output":"gif"}"#, "output", "\"rle\""), (#"{"image":"a","multimask":1}"#, "multimask", "true"),
        (#"{"image":"a","everything":{"points":3}}"#, "everything.points", "no such parameter"),
        (#"{"image":"a","ttl_ms":0}"#, "ttl_ms", "from 1"),
    ])
    func anErrorNamesLineFieldAndReason(text: String, field: String, reason: String) throws {
        let error = try #require(throws: JobLineError.self) { try parse(text) }
        #expect(error.line == 7)
        #expect(error.field == field, "\(error)")
        #expect(error.reason.contains(reason), "\(error)")
        #expect(error.description.hasPrefix("line 7: "))
    }
}

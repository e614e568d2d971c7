import Cluster
import Gateway
import JSON
import Segmentation
import Testing

/// What of a request is the gateway's and what the job line's.
@Suite struct SegmentRequestTests {
    private static let sha = String(repeating: "a", count: 64)

    @Test func theGatewaysMembersAreTakenOut() throws {
        let text = """
            {"image":{"sha256":"\(Self.sha)"},"model":"m","slot":"s_1","refine":true,"meta":{"a":[1.50,null]},
             "prompts":[{"points":[[1,2]],"mask":{"job":"j","index":2}},{"box":[0,0,5,5]}]}
            """
        let request = try SegmentRequest(parsing: Array(text.utf8))
        #expect(request.model == "m")
        #expect(request.slot == "s_1")
        #expect(request.refines)
        #expect(request.earlierMasks == [0: .init(job: "j", index: 2)])
        let logits = "{\"side\":1,\"logits\":\"AACAPw==\"}"
        let line = try request.line(image: nil, masks: [0: #require(JSONText(logits.utf8))])
        #expect(line.logits)
        #expect(line.prompts[0].mask == LowResolutionLogits(side: 1, values: [1]))
        #expect(line.prompts[1].box != nil)
        // To the byte: a user's numbers are not ours to write anew.
        #expect(line.origin.meta.map { String(decoding: $0.bytes, as: UTF8.self) } == #"{"a":[1.50,null]}"#)
    }

    @Test func aPictureBesideTheLineNeedsNoName() throws {
        let digest = try #require(ImageDigest(Self.sha))
        let line = try SegmentRequest(parsing: Array("{}".utf8)).line(image: digest, masks: [:])
        #expect(line.image == .digest(digest))
    }

    @Test(arguments: [
        "", "[]", "{", "1", #"{"slot":""}"#, #"{"slot":"a b"}"#, #"{"slot":1}"#, #"{"refine":1}"#, #"{"model":null}"#,
        #"{"a":1,"a":2}"#, #"{"prompts":[{"mask":{"job":1}}]}"#, #"{"prompts":[{"mask":{"job":"a","index":-1}}]}"#,
        #"{"prompts":[{"mask":{"job":"a","rank":1}}]}"#, String(repeating: "[", count: 10_000),
    ])
    func whatIsWrongIsRefused(_ text: String) {
        #expect(throws: Problem.self) { try SegmentRequest(parsing: Array(text.utf8)) }
    }
}

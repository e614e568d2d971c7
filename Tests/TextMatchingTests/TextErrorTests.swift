import Platform
import Testing
import TextMatching

@Suite struct TextErrorTests {
    @Test func anUnknownWordComesWithTheNearest() {
        let error = TextError.unknown(word: "hound dog", nearest: ["hound", "dog"])
        #expect("\(error)".contains("\"hound dog\" is outside the vocabulary"))
        #expect("\(error)".contains("hound, dog"))
        #expect(error.report.errorClass == .input)
    }
}

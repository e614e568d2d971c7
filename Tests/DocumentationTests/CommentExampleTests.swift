import Cluster
import Foundation
import Platform
import Segmentation
import Testing

/// What documentation comments show as code is code: it stands in a file that is compiled, or is read by what reads it.
@Suite struct CommentExampleTests {
    private static func blocks(in language: String) -> [CommentBlock] {
        CommentBlock.all.filter { $0.language == language }
    }

    /// A block says what it is, so that none escapes; commands belong on a page, whose examples a shell runs.
    @Test func everyBlockSaysWhatItIs() {
        for block in CommentBlock.all {
            guard let language = block.language else {
                Issue.record("\(block): an indented block; put it between ```swift, ```json or ```text and ```")
                continue
            }
            #expect(
                ["swift", "json", "text"].contains(language),
                "\(block): ```\(language) is none of ```swift, ```json, and ```text for what is no code")
            #expect(block.isClosed, "\(block): no ``` stands at its end")
            #expect(!block.lines.isEmpty, "\(block): an empty block")
        }
        #expect(CommentBlock.all.count >= 40, "\(CommentBlock.all)")
    }

    @Test func everySwiftBlockIsCompiledInTheseTests() throws {
        let examples = try CommentBlock.files(below: "Tests/DocumentationTests/Examples").map(CommentBlock.lines(of:))
        for line in examples.joined() {
            let isLeftOut = line.contains("#if") || line.contains("/*") || line.contains("\"\"\"")
            #expect(!isLeftOut, "\(line): what stands behind this may be compiled nowhere")
        }
        for block in Self.blocks(in: "swift") {
            #expect(
                examples.contains { block.stands(in: $0) },
                "\(block): compiled nowhere; have it, word for word, in Tests/DocumentationTests/Examples")
        }
        #expect(Self.blocks(in: "swift").count >= 10)
    }

    /// A job line is read as one, an answer as one, and anything else is JSON, as a whole or line by line.
    @Test func everyJSONBlockIsRead() throws {
        for block in Self.blocks(in: "json") {
            let texts = Self.object(block.text) == nil ? block.lines : [block.text]
            for text in texts {
                let object = try #require(Self.object(text), "\(block): \(text) is no JSON")
                if object["prompts"] != nil {
                    let job = try JobLine(parsing: text.utf8)
                    #expect(job.faults.isEmpty, "\(block): \(job.faults)")
                } else if object["masks"] != nil {
                    #expect(throws: Never.self, "\(block)") {
                        try JSONDecoder().decode(Answer.self, from: Data(text.utf8))
                    }
                }
            }
        }
        #expect(Self.blocks(in: "json").count >= 2)
    }

    private static func object(_ text: String) -> [String: Any]? {
        (try? JSONSerialization.jsonObject(with: Data(text.utf8))) as? [String: Any]
    }

    @Test func theReportReadsAsItsExampleSays() {
        #expect(reported().text == "photo.png: the file ends after 500 bytes: copy it again")
    }
}

/// The reader of comments, by files that are made up.
@Suite struct CommentBlockTests {
    private func blocks(_ lines: String...) -> [CommentBlock] { CommentBlock.blocks(of: lines, path: "Made.swift") }

    @Test func aBlockIsFoundWithItsLanguageAndPlace() {
        let found = blocks(
            "import A", "    /// Words.", "    /// ```swift", "    /// f {", "    ///     1", "    /// }", "    /// ```"
        )
        #expect(found.map(\.lines) == [["f {", "    1", "}"]])
        #expect(found.map(\.language) == ["swift"] && found.map(\.line) == [4] && found.allSatisfy(\.isClosed))
    }

    @Test func whatIsNotClosedOrIndentedIsFoundToo() {
        #expect(blocks("/// ```swift", "/// f()", "func f() {}").map(\.isClosed) == [false])
        #expect(blocks("/// Words.", "///", "///     f()", "func f() {}").map(\.language) == [nil])
        #expect(blocks("/// - Parameters:", "///   - a: words", "///     and more.").isEmpty)
    }

    @Test func aBlockStandsWhereAllItsLinesDo() throws {
        let block = try #require(blocks("/// ```swift", "/// f {", "///     1", "/// }", "/// ```").first)
        #expect(block.stands(in: ["func g() {", "    f {", "        1", "    }", "}"]))
        #expect(!block.stands(in: ["    f {", "        2", "    }"]))
        #expect(!block.stands(in: ["    f {", "    1", "    }"]))
        #expect(!block.stands(in: ["    // f {", "    //     1", "    // }"]))
        #expect(!block.stands(in: ["    f {", "        1"]))
    }
}

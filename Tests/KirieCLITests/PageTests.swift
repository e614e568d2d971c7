import Foundation
import Testing

/// What the documents point at is there.
@Suite struct PageTests {
    @Test(arguments: Page.all) func linksLeadSomewhere(page: Page) throws {
        let folder = Page.root.appending(path: page.path).deletingLastPathComponent()
        for link in page.links {
            let parts = link.split(separator: "#", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
            let target = parts[0].isEmpty ? Page.root.appending(path: page.path) : folder.appending(path: parts[0])
            #expect(FileManager.default.fileExists(atPath: target.path), "\(page): \(link) is not there")
            guard parts.count == 2 else { continue }
            let path = String(target.standardizedFileURL.path.dropFirst(Page.root.standardizedFileURL.path.count + 1))
            #expect(try Page(path: path).anchors.contains(parts[1]), "\(page): \(link) names no heading")
        }
    }

    @Test func everyPageIsFoundFromTheFirst() throws {
        var found: Set<String> = []
        var open = ["README.md"]
        while let path = open.popLast() {
            guard found.insert(path).inserted, path.hasSuffix(".md") else { continue }
            let folder = Page.root.appending(path: path).deletingLastPathComponent()
            open += try Page(path: path).links.map { link in
                let target = folder.appending(path: String(link.prefix { $0 != "#" })).standardizedFileURL.path
                return String(target.dropFirst(Page.root.standardizedFileURL.path.count + 1))
            }.filter { FileManager.default.fileExists(atPath: Page.root.appending(path: $0).path) }
        }
        #expect(Page.all.count >= 8, "\(Page.all)")
        for page in Page.all { #expect(found.contains(page.path), "no page leads to \(page)") }
    }

    @Test(arguments: Page.all) func whatIsShownAsJSONIsJSON(page: Page) throws {
        for block in page.blocks(in: "json") {
            func isJSON(_ text: String) -> Bool { (try? JSONSerialization.jsonObject(with: Data(text.utf8))) != nil }
            #expect(isJSON(block.text) || block.lines.allSatisfy(isJSON), "\(page): \(block.text)")
        }
    }

    /// Words that begin like a script of `deploy/` are one, and each script is explained to operators.
    @Test func scriptsAreThereAndExplained() throws {
        let deploy = Page.root.appending(path: "deploy").path
        let files = try FileManager.default.contentsOfDirectory(atPath: deploy).filter { !$0.hasPrefix(".") }
        for page in Page.all {
            for match in try page.text.matches(of: #/\bdeploy/([a-z0-9]+)\b(?![./])/#) {
                let name = String(match.1)
                #expect(files.contains(name), "\(page): deploy/\(name) is not there")
            }
        }
        let operators = try Page(path: "deploy/README.md").text
        for name in files where !name.hasSuffix(".md") && name != "__pycache__" {
            #expect(operators.contains(name), "deploy/README.md does not say what \(name) is")
            if !name.contains("."), name != "Dockerfile" {
                #expect(FileManager.default.isExecutableFile(atPath: "\(deploy)/\(name)"), "\(name)")
            }
        }
    }

    /// A newcomer reads it in one go; what is longer has a page of its own.
    @Test func theFirstPageIsShort() throws {
        let lines = try Page(path: "README.md").text.components(separatedBy: "\n")
        #expect(lines.count <= 230, "\(lines.count) lines")
        for line in lines where !line.hasPrefix("|") { #expect(line.count <= 120, "\(line)") }
    }
}

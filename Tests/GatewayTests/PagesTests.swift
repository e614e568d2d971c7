import CPages
import Foundation
import Testing

/// Every file of the pages is part of the program, as it lies in the sources.
@Suite struct PagesTests {
    @Test func allFilesAreEmbedded() throws {
        let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .deletingLastPathComponent().appending(path: "Sources/Gateway/Pages")
        let files = try FileManager.default.subpathsOfDirectory(atPath: folder.path).filter { path in
            var isFolder: ObjCBool = false
            return FileManager.default.fileExists(atPath: folder.appending(path: path).path, isDirectory: &isFolder)
                && !isFolder.boolValue
        }
        var embedded: [String: Data] = [:]
        for index in 0..<kirie_page_count() {
            let page = kirie_page(index)
            let name = try #require(page.name)
            embedded[String(cString: name)] = Data(bytes: try #require(page.bytes), count: page.size)
        }
        #expect(Set(embedded.keys) == Set(files), "name them all in Sources/CPages/pages.c")
        for file in files { #expect(try Data(contentsOf: folder.appending(path: file)) == embedded[file], "\(file)") }
        #expect(kirie_page(kirie_page_count()).name == nil)
    }
}

import Foundation
import Testing

/// The page of the rooms names what is there, and the package's targets stand on it.
@Suite struct SourcesPageTests {
    private static let sources = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent().appending(path: "Sources")

    @Test func everyRoomAndFileThatItNamesIsThere() throws {
        let page = try String(contentsOf: Self.sources.appending(path: "README.md"), encoding: .utf8)
        let files = FileManager.default
        let rooms = try files.contentsOfDirectory(atPath: Self.sources.path).filter { !$0.contains(".") }
        let libraries = try rooms.filter { room in
            try files.contentsOfDirectory(atPath: Self.sources.appending(path: room).path).contains("module.modulemap")
        }
        for room in rooms where !libraries.contains(room) {
            #expect(page.contains(room), "the page does not name \(room)")
        }
        var named = 0
        for match in page.matches(of: #/`(\w+)/([\w./]+)`/#) {
            let (room, path) = (String(match.1), String(match.2))
            let places = [path, "\(path).swift", "Cluster/\(path).swift"].map { "\(room)/\($0)" }
            let elsewhere = ["Cluster/\(room)/\(path)", "../\(room)/\(path).swift"]
            let isThere = (places + elsewhere).contains {
                files.fileExists(atPath: Self.sources.appending(path: $0).path)
            }
            #expect(isThere, "\(room)/\(path) is not there")
            named += 1
        }
        #expect(named >= 12, "only \(named) files are named")
    }
}

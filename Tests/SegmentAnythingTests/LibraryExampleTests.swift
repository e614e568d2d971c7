import Foundation
import SegmentAnything
import Testing

/// The README's example of the library compiles, being a file of these tests, and works.
@Suite struct LibraryExampleTests {
    private static let folder = URL(filePath: #filePath).deletingLastPathComponent()

    @Test func theReadmeShowsWhatIsCompiledHere() throws {
        let readme = try String(
            contentsOf: Self.folder.appending(path: "../../README.md").standardizedFileURL, encoding: .utf8)
        let example = try String(contentsOf: Self.folder.appending(path: "LibraryExample.swift"), encoding: .utf8)
        #expect(readme.contains("```swift\n\(example)```\n"), "LibraryExample.swift and README.md differ")
    }

    @Test func itCutsOut() throws {
        let nano = Self.folder.appending(path: "Fixtures/nano")
        let masks = try cutOut(
            of: nano.appending(path: "landscape.jpg").path, at: 60, 70, checkpoint: nano.appending(path: "sam.pth").path
        )
        #expect(masks.count == 3)
        #expect(
            zip(masks, masks.dropFirst()).allSatisfy { $0.predictedIoU >= $1.predictedIoU },
            "the highest score comes first")
    }
}

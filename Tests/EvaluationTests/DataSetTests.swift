import Evaluation
import Foundation
import Imaging
import Testing

/// Labelled pictures as they lie in folders.
@Suite struct DataSetTests {
    private func withSet(_ images: [String], _ masks: [String], _ body: (String) throws -> Void) throws {
        let directory = NSTemporaryDirectory() + "kirie-set-\(UUID().uuidString)"
        defer { try? FileManager.default.removeItem(atPath: directory) }
        for (folder, names) in [("images", images), ("masks", masks)] {
            try FileManager.default.createDirectory(
                atPath: "\(directory)/\(folder)", withIntermediateDirectories: true)
            for name in names { try Data("x".utf8).write(to: URL(fileURLWithPath: "\(directory)/\(folder)/\(name)")) }
        }
        try body(directory)
    }

    @Test func endingsAreTakenInAnyCase() throws {
        let endings = ImageDecoder.fileExtensions.flatMap { [$0, $0.uppercased()] }
        let images = endings.enumerated().map { "p\($0).\($1)" }
        let masks = endings.indices.map { "p\($0).\($0 % 2 == 0 ? "png" : "PNG")" }
        try withSet(images + ["notes.txt"], masks) { directory in
            let sets = try DataSet.all(below: directory)
            #expect(sets.count == 1 && sets[0].pictures.count == images.count)
            for (image, labels) in sets[0].pictures {
                let stem = URL(fileURLWithPath: image).deletingPathExtension().lastPathComponent
                #expect(URL(fileURLWithPath: labels).deletingPathExtension().lastPathComponent == stem)
                #expect(FileManager.default.fileExists(atPath: labels))
            }
        }
    }

    @Test func nothingFoundIsAnErrorThatSaysWhatWasLookedFor() throws {
        try withSet(["a.gif", "b.txt"], ["a.png"]) { directory in
            let error = #expect(throws: DataSetError.self) { try DataSet.all(below: directory) }
            #expect(error?.path == "\(directory)/images")
            for ending in ImageDecoder.fileExtensions { #expect(error?.reason.contains(".\(ending)") == true) }
        }
        try withSet(["a.JPG"], ["b.png"]) { directory in
            let error = #expect(throws: DataSetError.self) { try DataSet.all(below: directory) }
            #expect(error?.path == "\(directory)/masks/a.png" && error?.reason.contains("missing") == true)
        }
    }
}

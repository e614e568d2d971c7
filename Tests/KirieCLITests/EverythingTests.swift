import Foundation
import Imaging
import KirieTesting
import Segmentation
import Testing

/// `kirie everything` as a user runs it.
@Suite struct EverythingTests {
    private static let settings = [
        "--pred-iou-thresh", "0", "--stability-score-thresh", "0", "--box-nms-thresh", "1", "--points-per-side", "4",
    ]

    private func names(_ folder: String) throws -> [String] {
        try FileManager.default.contentsOfDirectory(atPath: folder).filter { !$0.hasPrefix(".") }.sorted()
    }

    @Test func theFilesAreThoseOfTheScript() throws {
        let directory = try TemporaryDirectory()
        // amg.py's own flags, word for word.
        let run = try KirieProcess(
            [
                "everything", "--input", KirieProcess.landscape, "--output", directory.file("out"), "--device", "cpu",
                "--model-type", "vit_b", "--checkpoint", KirieProcess.nano,
            ] + Self.settings)
        #expect(run.status == 0, "\(run.complaint)")
        #expect(try names(directory.file("out")) == ["landscape"])
        let table = try String(contentsOfFile: directory.file("out/landscape/metadata.csv"), encoding: .utf8)
        let rows = table.split(separator: "\n").dropFirst()
        #expect(try names(directory.file("out/landscape")).count == rows.count + 1 && rows.count > 1)
        for row in rows {
            let fields = row.split(separator: ",")
            #expect(fields.count == 14)
            let mask = try ImageDecoder().decode(file: directory.file("out/landscape/\(fields[0]).png")).luminance
            #expect(mask.pixels.count { $0 == 255 } == Int(fields[1]))
        }
        // Nothing is written over.
        let again = try KirieProcess(
            ["everything", KirieProcess.landscape, "-o", directory.file("out")] + Self.settings)
        #expect(
            again.status == 2 && again.complaint.contains("is there already") && again.complaint.contains("--resume"))
    }

    @Test func everyKindIsWritten() throws {
        let directory = try TemporaryDirectory()
        let run = try KirieProcess(
            [
                "everything", KirieProcess.landscape, "-o", directory.file("out"), "--json", "--write",
                "masks,rle,coco,labels,yolo,overlay",
            ] + Self.settings)
        #expect(run.status == 0, "\(run.complaint)")
        #expect(
            try names(directory.file("out")) == [
                "annotations.json", "landscape", "landscape-labels.png", "landscape-overlay.png", "landscape.json",
                "landscape.txt",
            ])
        let answer = try JSONDecoder().decode(Answer.self, from: Data(run.output.utf8))
        #expect(
            answer.masks.count > 1 && answer.masks.allSatisfy { $0.point_coords?.count == 1 && $0.crop_box?.count == 4 }
        )
        let labels = try LabelMap(file: directory.file("out/landscape-labels.png"))
        #expect(Int(labels.labels.max() ?? 0) <= answer.masks.count && labels.width == 301)
    }

    /// A folder of which one picture is broken, stopped and gone on with.
    @Test func aFolderIsGoneOnWith() throws {
        let directory = try TemporaryDirectory()
        try FileManager.default.createDirectory(atPath: directory.file("in"), withIntermediateDirectories: true)
        for number in 0..<3 {
            _ = try TestPicture(number, width: 60, height: 40, in: directory.file("in"))
        }
        try Data("no picture".utf8).write(to: URL(filePath: directory.file("in/broken.png")))
        let words = ["everything", directory.file("in"), "-o", directory.file("set.json")] + Self.settings
        let first = try KirieProcess(words)
        #expect(
            first.status == 1 && first.complaint.contains("broken.png") && first.complaint.contains("3 pictures done"))
        let whole = try Data(contentsOf: URL(filePath: directory.file("set.json")))

        // The journal of a run that was killed after two pictures, in the middle of a line.
        let folder =
            ["everything", directory.file("in"), "-o", directory.file("out"), "--write", "coco"] + Self.settings
        #expect(try KirieProcess(folder).status == 1)
        let journal = directory.file("out/.kirie-everything")
        let lines = try String(contentsOfFile: journal, encoding: .utf8).split(separator: "\n")
        #expect(lines.count == 4)
        try (lines.prefix(3).joined(separator: "\n") + "\n" + lines[3].prefix(20)).write(
            toFile: journal, atomically: true, encoding: .utf8)
        let resumed = try KirieProcess(folder + ["--resume"])
        #expect(resumed.status == 1 && resumed.complaint.contains("1 pictures done, 2 were there already"))
        #expect(try Data(contentsOf: URL(filePath: directory.file("out/annotations.json"))) == whole)
        // Other parameters are another run.
        let other = try KirieProcess(folder.dropLast() + ["7", "--resume"])
        #expect(other.complaint.contains("3 pictures done, 0 were there already"))
    }

    @Test(arguments: [
        (["--points-per-side", "10000"], "--points-per-side: 10000 is not from 1 to 512"),
        (["--crop-n-layers", "7"], "--crop-n-layers"), (["--pred-iou-thresh", "2"], "--pred-iou-thresh"),
        (["--tile", "3"], "a number of pixels"), (["--write", "gif"], "masks, rle, coco"),
        (["--point-grids", "nowhere.json"], "nowhere.json"), (["--resume"], "-o"),
    ]) func nonsenseIsSaidBeforeTheWork(words: [String], complaint: String) throws {
        let run = try KirieProcess(["everything", KirieProcess.landscape, "--json"] + words)
        #expect(run.status != 0 && run.complaint.contains(complaint), "\(run.complaint)")
        #expect(run.output.isEmpty)
    }

    @Test func ownGridsAreTaken() throws {
        let directory = try TemporaryDirectory()
        try Data("[[[0.5,0.5],[0.25,1]]]".utf8).write(to: URL(filePath: directory.file("grid.json")))
        let run = try KirieProcess(
            [
                "segment", KirieProcess.landscape, "--everything", "--json", "--point-grids",
                directory.file("grid.json"),
                "--pred-iou-thresh", "0", "--stability-score-thresh", "0", "--overlay", directory.file("all.png"),
            ])
        #expect(run.status == 0, "\(run.complaint)")
        let points = Set(
            try JSONDecoder().decode(Answer.self, from: Data(run.output.utf8)).masks.compactMap(\.point_coords))
        #expect(points.isSubset(of: [[[150.5, 113.5]], [[75.25, 227]]]) && !points.isEmpty)
        try Data("[[[0.5,1.5]]]".utf8).write(to: URL(filePath: directory.file("grid.json")))
        let bad = try KirieProcess(
            ["everything", KirieProcess.landscape, "--json", "--point-grids", directory.file("grid.json")])
        #expect(bad.status == 1 && bad.complaint.contains("points go from 0 to 1"), "\(bad.complaint)")
    }
}

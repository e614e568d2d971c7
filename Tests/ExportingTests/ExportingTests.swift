import Exporting
import Foundation
import Imaging
import JSON
import Segmentation
import Testing

@Suite struct ExportingTests {
    /// Three masks: a large rectangle, a ring in it, and two spots.
    private static let masks: [MaskCandidate] = {
        func mask(_ isOn: (Int, Int) -> Bool) -> RunLengthEncoding {
            RunLengthEncoding(
                Mask(width: 40, height: 30, pixels: (0..<1200).map { isOn($0 % 40, $0 / 40) ? 1 : 0 }))
        }
        let shapes = [
            mask { x, y in (2..<38).contains(x) && (1..<29).contains(y) },
            mask { x, y in
                (5..<20).contains(x) && (5..<20).contains(y) && !((9..<15).contains(x) && (9..<15).contains(y))
            },
            mask { x, y in
                (25..<28).contains(x) && (6..<10).contains(y) || (30..<35).contains(x) && (20..<24).contains(y)
            },
        ]
        return shapes.enumerated().map { index, shape in
            MaskCandidate(
                shape, predictedIoU: 0.9 - Float(index) / 8, stabilityScore: 0.96875, point: [12.5, Double(index)],
                foundIn: PixelBox(x0: 0, y0: 0, x1: 40, y1: 30))
        }
    }()

    @Test func recordsAreThoseOfThePublishedScript() throws {
        #expect(
            MaskRecord(Self.masks[1]).line(1)
                == "1,189,5,5,14,14,12.5,1.0,0.7749999761581421,0.96875,0,0,40,30")
        let json = try JSONValue(parsing: try MaskRecord.json(Self.masks))
        let record = try #require(json.elements?[1])
        #expect(
            record.members?.map(\.name) == [
                "segmentation", "area", "bbox", "predicted_iou", "point_coords", "stability_score", "crop_box",
            ])
        let counts = try #require(record["segmentation"]?["counts"]?.string)
        #expect(try RunLengthEncoding(compressed: counts, height: 30, width: 40) == Self.masks[1].encoding)
    }

    @Test func aFolderHoldsAMaskAFileAndTheTable() throws {
        let folder = NSTemporaryDirectory() + "kirie-export-\(UUID())"
        defer { try? FileManager.default.removeItem(atPath: folder) }
        try MaskFolder.write(Self.masks, to: "\(folder)/photo")
        let names = try FileManager.default.contentsOfDirectory(atPath: "\(folder)/photo").sorted()
        #expect(names == ["0.png", "1.png", "2.png", "metadata.csv"])
        let lines = try String(contentsOfFile: "\(folder)/photo/metadata.csv", encoding: .utf8).split(separator: "\n")
        #expect(lines.count == 4 && lines[0].hasPrefix("id,area,bbox_x0"))
        let read = try ImageDecoder().decode(file: "\(folder)/photo/2.png").luminance
        #expect(read.pixels == Self.masks[2].encoding.mask.pixels.map { $0 * 255 })
    }

    /// No mask is hidden by a larger one, and 16 bits hold more labels than 255.
    @Test func labelMapsHideNothing() throws {
        let map = MaskFolder.labelMap(of: Self.masks, width: 40, height: 30)
        #expect(Set(map.labels) == [0, 1, 2, 3])
        for (index, mask) in Self.masks.enumerated() where index > 0 {
            let pixels = mask.encoding.mask.pixels
            #expect(map.labels.indices.allSatisfy { pixels[$0] == 0 || map.labels[$0] == UInt16(index + 1) })
        }
        let many = LabelMap(width: 40, height: 30, labels: (0..<1200).map { UInt16($0 * 50) })
        let path = NSTemporaryDirectory() + "kirie-labels-\(UUID()).png"
        defer { try? FileManager.default.removeItem(atPath: path) }
        try Data(try PNGWriter.encode(many)).write(to: URL(filePath: path))
        #expect(try LabelMap(file: path) == many)
    }

    /// Filling a line's outline gives back the mask, holes and parts and all.
    @Test func polygonsFillToTheMasks() throws {
        let text = YOLOPolygons.text(Self.masks.map(\.encoding), classes: [4, 0, 2], tolerance: 0)
        let lines = text.split(separator: "\n").map { $0.split(separator: " ") }
        #expect(lines.map { $0[0] } == ["4", "0", "2"])
        for (line, mask) in zip(lines, Self.masks) {
            let numbers = line.dropFirst().compactMap { Double($0) }
            #expect(numbers.allSatisfy { (0...1).contains($0) })
            let ring = stride(from: 0, to: numbers.count, by: 2).map {
                PixelVertex(x: Int((numbers[$0] * 40).rounded()), y: Int((numbers[$0 + 1] * 30).rounded()))
            }
            let filled = GrayImage(covering: [Polygon(exterior: ring)], width: 40, height: 30)
            #expect(filled.pixels.map { $0 == 0 ? 0 : 1 } == mask.encoding.mask.pixels)
        }
    }

    @Test func aDatasetNumbersItsPicturesAndMasks() throws {
        var dataset = COCODataset()
        for name in ["a.jpg", "b.jpg"] {
            let part = COCODataset.Part(file: name, sha256: "00", width: 40, height: 30, masks: Self.masks)
            let again = try #require(COCODataset.Part(line: part.line))
            #expect(again.line == part.line)
            dataset.append(again)
        }
        let json = try JSONValue(parsing: dataset.json)
        #expect(json["images"]?.elements?.compactMap { $0["id"]?.integer } == [1, 2])
        let annotations = try #require(json["annotations"]?.elements)
        #expect(annotations.compactMap { $0["id"]?.integer } == Array(1...6))
        #expect(annotations.compactMap { $0["image_id"]?.integer } == [1, 1, 1, 2, 2, 2])
        #expect(annotations[1]["bbox"]?.elements?.compactMap(\.integer) == [5, 5, 15, 15])
        #expect(COCODataset.Part(line: Array("{}".utf8)) == nil)
    }

    @Test func theOverlayShowsEveryMask() {
        let image = Image(width: 40, height: 30, pixels: [UInt8](repeating: 90, count: 3600))
        let drawn = MaskFolder.overlay(of: Self.masks, on: image)
        let whole = MaskOverlay(
            masks: Self.masks.map { GrayImage(width: 40, height: 30, pixels: $0.encoding.mask.pixels) }
        ).drawn(on: image)
        #expect(drawn == whole && drawn != image)
    }
}

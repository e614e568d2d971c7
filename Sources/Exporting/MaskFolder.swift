public import Imaging
import Platform
public import Segmentation

/// Files of a picture's masks.
public enum MaskFolder {
    /// Writes a PNG file for each mask, `0.png`, `1.png`, …, 255 on the object, and `metadata.csv`, as `scripts/amg.py` does.
    ///
    /// - Parameters:
    ///   - masks: in the order of their files.
    ///   - folder: is made; files of the same names are replaced.
    /// - Throws: where a file cannot be written.
    public static func write(_ masks: [MaskCandidate], to folder: String) throws {
        try Directory.make(folder)
        for (number, mask) in masks.enumerated() {
            let path = "\(folder)/\(number).png"
            try AtomicFile.write(try PNGWriter.encode(mask: mask.encoding.gray, named: path), to: path)
        }
        let areLabeled = masks.contains { $0.label != nil }
        let header = areLabeled ? MaskRecord.headerWithLabels : MaskRecord.header
        let lines = [header] + masks.enumerated().map { MaskRecord($1).line($0) }
        try AtomicFile.write(Array(lines.joined(separator: "\n").utf8), to: "\(folder)/metadata.csv")
    }

    /// The label map of masks: 0 where none lies, else the number of the mask, counted from 1.
    ///
    /// The largest is drawn first, so that none is hidden by a larger one.
    ///
    /// - Precondition: there are at most 65,535 masks.
    public static func labelMap(of masks: [MaskCandidate], width: Int, height: Int) -> LabelMap {
        precondition(masks.count <= Int(UInt16.max), "\(masks.count) masks have no label of 16 bits each")
        return labelMap(of: masks, numbers: masks.indices.map { UInt16($0 + 1) }, width: width, height: height)
    }

    /// The map of a vocabulary: 0 where no mask lies, else the number of the mask's label in the vocabulary, counted from 1.
    ///
    /// The largest is drawn first, as in ``labelMap(of:width:height:)``.
    ///
    /// - Parameters:
    ///   - masks: of which those without a label of the vocabulary are not drawn.
    ///   - vocabulary: at most 65,535 labels.
    ///   - width: columns of the picture.
    ///   - height: its rows.
    /// - Returns: the map.
    public static func classMap(
        of masks: [MaskCandidate], vocabulary: [String], width: Int, height: Int
    ) -> LabelMap {
        let numbers = vocabulary.numbered
        let labeled = masks.filter { $0.label.map { numbers[$0] != nil } ?? false }
        return labelMap(
            of: labeled, numbers: labeled.map { UInt16(clamping: $0.label.flatMap { numbers[$0] } ?? 0) }, width: width,
            height: height)
    }

    private static func labelMap(
        of masks: [MaskCandidate], numbers: [UInt16], width: Int, height: Int
    ) -> LabelMap {
        let areas = masks.map(\.encoding.area)
        let order = masks.indices.sorted { (areas[$0], $1) > (areas[$1], $0) }
        let labels = [UInt16](unsafeUninitializedCapacity: width * height) { labels, initialized in
            labels.initialize(repeating: 0)
            for index in order {
                masks[index].encoding.forEachRun { start, end in
                    for position in start..<end {
                        labels[position % height * width + position / height] = numbers[index]
                    }
                }
            }
            initialized = width * height
        }
        return LabelMap(width: width, height: height, labels: labels)
    }

    /// The picture with all masks drawn over it, each outlined in a colour of its own, or in that of its label.
    public static func overlay(of masks: [MaskCandidate], vocabulary: [String] = [], on image: Image) -> Image {
        var overlay = MaskOverlay(masks: [])
        if !vocabulary.isEmpty, !masks.isEmpty {
            let (numbers, palette) = (vocabulary.numbered, MaskOverlay.Color.palette)
            overlay.colors = masks.map { palette[($0.label.flatMap { numbers[$0] } ?? 0) % palette.count] }
        }
        return overlay.drawn(
            on: image,
            masks: masks.map { mask in
                let bounds = mask.encoding.boundingBox
                return MaskOverlay.Layer(x: bounds[0], y: bounds[1], area: mask.encoding.area) {
                    mask.encoding.cropped(
                        to: PixelBox(x0: bounds[0], y0: bounds[1], x1: bounds[0] + bounds[2], y1: bounds[1] + bounds[3])
                    ).gray
                }
            })
    }
}

extension [String] {
    /// Each text's place, counted from 1; of equal ones the first.
    public var numbered: [String: Int] {
        Dictionary(enumerated().map { ($0.element, $0.offset + 1) }, uniquingKeysWith: { first, _ in first })
    }
}

extension RunLengthEncoding {
    /// The mask as a picture: 1 on the object.
    var gray: GrayImage {
        let mask = self.mask
        return GrayImage(width: mask.width, height: mask.height, pixels: mask.pixels)
    }
}

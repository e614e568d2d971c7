/// Masks of everything mode as they travel between workers, a line each: the number of their point, the bits of both
/// scores, the part of the picture, the point, the box, and COCO's compressed string; `-` instead of that where the runs
/// were let go.
///
/// ```text
/// 12 3f6e9a3c 3f7d0000 0,0,800,534 287.5,375.5 0,229,420,533 <counts>
/// ```
package enum CandidateText {
    /// Writes masks, each with a number.
    package static func write(_ masks: [(number: Int, mask: MaskCandidate)]) -> [UInt8] {
        var text: [UInt8] = []
        for (number, mask) in masks {
            let head =
                "\(number) \(String(mask.predictedIoU.bitPattern, radix: 16)) "
                + "\(String(mask.stabilityScore.bitPattern, radix: 16)) "
                + "\(mask.crop.x0),\(mask.crop.y0),\(mask.crop.x1),\(mask.crop.y1) \(mask.point.x),\(mask.point.y) "
                + "\(mask.box[0]),\(mask.box[1]),\(mask.box[2]),\(mask.box[3]) "
            text += head.utf8
            if mask.isBare { text.append(0x2D) } else { text += mask.encoding.compressedBytes }
            text.append(0x0A)
        }
        return text
    }

    /// Reads what ``write(_:)`` wrote, of a picture of that size; nil for anything else.
    package static func read(_ text: [UInt8], width: Int, height: Int) -> [(number: Int, mask: MaskCandidate)]? {
        var masks: [(number: Int, mask: MaskCandidate)] = []
        for line in lines(of: text) {
            // Six short fields, and the counts, which take nearly all of the line and hold no space.
            let head = line.prefix(256).split(separator: 0x20, maxSplits: 6)
            guard head.count >= 6 else { return nil }
            let counts = head.count > 6 ? line[head[6].startIndex...] : line[line.endIndex...]
            let fields = head.prefix(6).map { String(decoding: $0, as: UTF8.self) }
            guard let number = Int(fields[0]), let iou = UInt32(fields[1], radix: 16),
                let stability = UInt32(fields[2], radix: 16)
            else { return nil }
            let crop = fields[3].split(separator: ",").compactMap { Int($0) }
            let point = fields[4].split(separator: ",").compactMap { Double($0) }
            let box = fields[5].split(separator: ",").compactMap { Int32($0) }
            let isBare = counts.elementsEqual([0x2D])
            guard crop.count == 4, point.count == 2, box.count == 4,
                let encoding = try? isBare
                    ? RunLengthEncoding(emptyHeight: height, width: width)
                    : RunLengthEncoding(compressed: counts, height: height, width: width)
            else { return nil }
            var mask = MaskCandidate(
                encoding: encoding, predictedIoU: Float(bitPattern: iou),
                stabilityScore: Float(bitPattern: stability), point: SIMD2(point[0], point[1]),
                crop: PixelBox(x0: crop[0], y0: crop[1], x1: crop[2], y1: crop[3]),
                box: SIMD4(box[0], box[1], box[2], box[3]))
            mask.isBare = isBare
            masks.append((number, mask))
        }
        return masks
    }

    /// The lines that are not empty.
    private static func lines(of text: [UInt8]) -> [ArraySlice<UInt8>] {
        var lines: [ArraySlice<UInt8>] = []
        var start = 0
        while start < text.count {
            let end = text[start...].firstIndex(of: 0x0A) ?? text.count
            if end > start { lines.append(text[start..<end]) }
            start = end + 1
        }
        return lines
    }
}

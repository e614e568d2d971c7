package import Imaging
package import Segmentation

/// One labelled object of a picture.
package struct Instance: Sendable {
    /// Objects of fewer pixels are not measured: at the model's size nothing is left of them.
    package static let smallestArea = 100
    /// Of more objects in a picture this many are measured, at even steps through the ascending labels, so that a
    /// picture of a thousand nuclei does not outweigh all others.
    package static let mostPerPicture = 20

    package let label: UInt16
    package let mask: Mask
    /// The pixel farthest from the object's outside.
    package let centre: (x: Int, y: Int)
    /// First and last column and row of the object: a tight box.
    package let box: BoundingBox

    /// The objects of a label map that are measured.
    package static func all(in map: LabelMap) -> [Instance] {
        var areas: [UInt16: Int] = [:]
        for label in map.labels where label != 0 { areas[label, default: 0] += 1 }
        let labels = areas.filter { $0.value >= smallestArea }.keys.sorted()
        let count = min(labels.count, mostPerPicture)
        return (0..<count).map { Instance(labels[$0 * labels.count / count], in: map) }
    }

    private init(_ label: UInt16, in map: LabelMap) {
        let pixels: [UInt8] = map.labels.map { $0 == label ? 1 : 0 }
        self.label = label
        mask = Mask(width: map.width, height: map.height, pixels: pixels)
        var (left, top, right, bottom) = (map.width, map.height, -1, -1)
        for y in 0..<map.height {
            for x in 0..<map.width where pixels[y * map.width + x] != 0 {
                (left, top, right, bottom) = (min(left, x), min(top, y), max(right, x), max(bottom, y))
            }
        }
        let crop = (top...bottom).flatMap { y in pixels[y * map.width + left...y * map.width + right] }
        centre =
            Region(left: left, top: top, width: right - left + 1, height: bottom - top + 1, pixels: crop)
            .farthestInterior
        box = BoundingBox(x0: Double(left), y0: Double(top), x1: Double(right), y1: Double(bottom))
    }
}

extension Mask {
    /// Intersection over union with another mask of the same size; 0 where both are empty.
    package func intersectionOverUnion(_ other: Mask) -> Double {
        var (both, either) = (0, 0)
        for (a, b) in zip(pixels, other.pixels) {
            both += Int(a & b)
            either += Int(a | b)
        }
        return Double(both) / Double(max(1, either))
    }
}

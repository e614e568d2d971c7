import Imaging
public import Segmentation

/// Masks as YOLO's segmentation labels: a line for each object, its class and then x and y of its outline from 0 to 1.
///
/// <https://docs.ultralytics.com/datasets/segment/>. A line has one outline, so the parts of an object, and its holes, hang
/// on its largest part by bridges that are walked there and back; filling gives the right pixels.
public enum YOLOPolygons {
    /// The text of one picture's file; a mask without a pixel has no line.
    ///
    /// - Parameters:
    ///   - masks: of the picture's size.
    ///   - classes: by mask, its class; nil for 0 everywhere.
    ///   - tolerance: how far a point that is left out may be from the outline, in pixels.
    /// - Returns: a line for each mask.
    public static func text(_ masks: [RunLengthEncoding], classes: [Int]? = nil, tolerance: Double = 1) -> String {
        var text = ""
        for (index, mask) in masks.enumerated() {
            let bounds = mask.boundingBox
            guard bounds[2] > 0 else { continue }
            let part = mask.cropped(
                to: PixelBox(x0: bounds[0], y0: bounds[1], x1: bounds[0] + bounds[2], y1: bounds[1] + bounds[3]))
            let regions = Polygon.simplified(Polygon.tracing(part.gray), tolerance: tolerance)
            guard let largest = regions.max(by: { $0.area < $1.area }) else { continue }
            let others = regions.filter { $0 != largest }
            let ring = Polygon(exterior: largest.exterior, holes: largest.holes + others.map(\.joined)).joined
            text += "\(classes?[index] ?? 0)"
            for vertex in ring {
                text += " " + decimal(Double(vertex.x + bounds[0]) / Double(mask.width))
                text += " " + decimal(Double(vertex.y + bounds[1]) / Double(mask.height))
            }
            text += "\n"
        }
        return text
    }

    /// Six digits after the point, as YOLO's own tools write them.
    private static func decimal(_ value: Double) -> String {
        let millionths = Int((min(max(value, 0), 1) * 1_000_000).rounded())
        let fraction = String(millionths % 1_000_000)
        return "\(millionths / 1_000_000)." + String(repeating: "0", count: 6 - fraction.count) + fraction
    }
}

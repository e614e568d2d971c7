import FoundationEssentials
import Imaging
import JSON
import Segmentation

/// Masks as regions of Label Studio, of the kind that the project's tool draws.
struct LabelStudioResults: Sendable {
    /// Kinds of tools in the order in which one is taken for the answer.
    ///
    /// Rectangles are what people prompt with, too, so they are last.
    static let kinds = [
        "BrushLabels", "BitmaskLabels", "PolygonLabels", "VectorLabels", "RectangleLabels", "Brush", "Bitmask",
        "Polygon",
        "Vector", "Rectangle",
    ]
    /// The same for frontends that speak of events, which draw what is answered by themselves.
    static let interactiveKinds = [
        "BitmaskLabels", "BrushLabels", "RectangleLabels", "PolygonLabels", "VectorLabels", "Bitmask", "Brush",
        "Rectangle",
        "Polygon", "Vector",
    ]
    /// Where nobody says it: pixels that an outline may be away, and its points at most.
    static let tolerance = 1.5
    static let mostPoints = 200

    let control: LabelConfiguration.Tag
    let image: String
    /// Of whatever was drawn; nil for the tool's first.
    let label: String?
    let isInteractive: Bool
    var tolerance = Self.tolerance
    var mostPoints = Self.mostPoints

    /// `brushlabels` and its like.
    private var kind: String { control.name.lowercased() }

    /// The regions of one mask; none for an empty one.
    func regions(of cutout: Answer.Cutout, model: String) throws -> [JSONValue] {
        if cutout.area == 0 { return [] }
        let (width, height) = (cutout.segmentation?.size.last ?? 0, cutout.segmentation?.size.first ?? 0)
        var type = kind
        let values: [[JSONValue.Member]]
        switch kind {
        case "brushlabels", "brush":
            guard let run = cutout.segmentation else { return [] }
            let mask = try RunLengthEncoding(compressed: run.counts, height: height, width: width)
            values = [[("format", "rle"), ("rle", .verbatim(Self.list(BrushEncoding.bytes(of: mask))))]]
        case "bitmasklabels", "bitmask":
            // The frontend that asks by events knows it by another name.
            if isInteractive { type = "bitmap" }
            let file = try PNGWriter.encode(mask: try cutout.levels())
            values = [
                [
                    ("imageDataURL", .string("data:image/png;base64,\(Data(file).base64EncodedString())")),
                    ("width", .integer(width)), ("height", .integer(height)),
                ]
            ]
        case "rectanglelabels", "rectangle":
            let box = cutout.bbox
            guard box.count == 4 else { return [] }
            values = [
                [
                    ("x", Self.percent(box[0], width)), ("y", Self.percent(box[1], height)),
                    ("width", Self.percent(box[2], width)), ("height", Self.percent(box[3], height)), ("rotation", 0),
                ]
            ]
        default: values = outlines(of: try cutout.levels())
        }
        return values.map { region(type, $0, cutout, width: width, height: height, model: model) }
    }

    private func region(
        _ type: String, _ value: [JSONValue.Member], _ cutout: Answer.Cutout, width: Int, height: Int, model: String
    ) -> JSONValue {
        var value = value
        if kind.hasSuffix("labels"), let label = chosenLabel { value.append((kind, .array([.string(label)]))) }
        return .object([
            ("id", .string(Self.identifier())), ("from_name", .string(control.attributes["name"] ?? "")),
            ("to_name", .string(image)), ("original_width", .integer(width)), ("original_height", .integer(height)),
            ("image_rotation", 0), ("value", .object(value)), ("score", .number(Double(cutout.score))),
            ("type", .string(type)), ("origin", "manual"), ("readonly", false),
            ("meta", .object([("text", .array([.string("model: \(model)")]))])),
        ])
    }

    /// The prompt's label where the tool has it, else the tool's first.
    private var chosenLabel: String? {
        if let label, control.labels.isEmpty || control.labels.contains(label) { return label }
        return control.labels.first
    }

    /// One region for each part of the mask, the largest first, all together within the budget of points.
    private func outlines(of mask: GrayImage) -> [[JSONValue.Member]] {
        let parts = Polygon.tracing(mask).map { Polygon(exterior: $0.exterior) }
        let simple = Polygon.simplified(parts, tolerance: tolerance, mostPoints: mostPoints)
            .sorted { $0.area > $1.area }
        return simple.map { part in
            [
                (
                    "points",
                    .array(
                        part.exterior.map { .array([Self.percent($0.x, mask.width), Self.percent($0.y, mask.height)]) })
                ), ("closed", true),
            ]
        }
    }

    private static func percent(_ pixels: Int, _ side: Int) -> JSONValue {
        .number((Double(pixels) / Double(max(side, 1)) * 1e6).rounded() / 1e4)
    }

    private static func list(_ bytes: [UInt8]) -> [UInt8] {
        var text: [UInt8] = [UInt8(ascii: "[")]
        text.reserveCapacity(bytes.count * 4)
        for (index, byte) in bytes.enumerated() {
            if index > 0 { text.append(UInt8(ascii: ",")) }
            text.append(contentsOf: byte.description.utf8)
        }
        text.append(UInt8(ascii: "]"))
        return text
    }

    static func identifier() -> String {
        let text = String(UInt64.random(in: 0..<36 * 36 * 36 * 36 * 36 * 36 * 36 * 36), radix: 36)
        return String(repeating: "0", count: 8 - text.count) + text
    }
}

public import JSON
public import Segmentation

/// A mask of everything mode as segment-anything's own scripts write it.
///
/// The names and their order are those of `SamAutomaticMaskGenerator.generate`; boxes are `[x, y, width, height]` as it
/// counts them, from the first column to the last, so that a mask of one column has a width of 0.
public struct MaskRecord: Sendable {
    /// The mask.
    public let mask: MaskCandidate

    /// The record of a mask.
    public init(_ mask: MaskCandidate) { self.mask = mask }

    /// The head of `metadata.csv`, as `scripts/amg.py` writes it.
    public static let header =
        "id,area,bbox_x0,bbox_y0,bbox_w,bbox_h,point_input_x,point_input_y,predicted_iou,stability_score,"
        + "crop_box_x0,crop_box_y0,crop_box_w,crop_box_h"

    /// The same of masks with labels: one more column.
    public static let headerWithLabels = header + ",label"

    /// The line of `metadata.csv` of the mask whose file is called by that number.
    public func line(_ number: Int) -> String {
        let numbers: [String] =
            ["\(number)", "\(mask.encoding.area)"] + mask.publishedBox.map(\.description)
            + [mask.point.x, mask.point.y, Double(mask.predictedIoU), Double(mask.stabilityScore)].map(\.description)
            + cropBox.map(\.description)
        let line = numbers.joined(separator: ",")
        guard let label = mask.label else { return line }
        // RFC 4180: quoted, and a quotation mark in it is doubled.
        return line + ",\"\(label.replacing("\"", with: "\"\""))\""
    }

    private var cropBox: [Int] { [mask.crop.x0, mask.crop.y0, mask.crop.width, mask.crop.height] }

    /// The members of the record with the mask as COCO's run lengths, which pycocotools reads.
    ///
    /// - Throws: `EncodingError` where a score is no number.
    public func write(to json: inout JSONWriter) throws {
        json.member("segmentation") {
            $0.object {
                $0.member("size") { $0.array([mask.encoding.height, mask.encoding.width]) { $1.integer($0) } }
                $0.member("counts") { $0.string(mask.encoding.compressed) }
            }
        }
        json.member("area") { $0.integer(mask.encoding.area) }
        json.member("bbox") { $0.array(mask.publishedBox) { $1.integer($0) } }
        try json.member("predicted_iou") { try $0.number(Double(mask.predictedIoU)) }
        try json.member("point_coords") {
            try $0.array([[mask.point.x, mask.point.y]]) { point, json in try json.array(point) { try $1.number($0) } }
        }
        try json.member("stability_score") { try $0.number(Double(mask.stabilityScore)) }
        json.member("crop_box") { $0.array(cropBox) { $1.integer($0) } }
        if let label = mask.label { json.member("label") { $0.string(label) } }
    }

    /// The JSON of a picture's masks: what `scripts/amg.py --convert-to-rle` writes for it.
    ///
    /// - Throws: `EncodingError` where a score is no number.
    public static func json(_ masks: [MaskCandidate]) throws -> [UInt8] {
        var json = JSONWriter()
        try json.array(masks) { mask, json in try json.object(MaskRecord(mask).write) }
        return json.bytes
    }
}

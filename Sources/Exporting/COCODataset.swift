public import JSON
public import Segmentation

/// A COCO dataset of many pictures' masks, picture by picture.
///
/// Lin et al., "Microsoft COCO", 2014; <https://cocodataset.org/#format-data>. Masks are compressed run lengths, and boxes
/// are COCO's, which count the last column and row in.
public struct COCODataset: Sendable {
    /// One picture's part: what is kept of it while others are still to come.
    public struct Part: Sendable {
        /// The picture's entry, without its number.
        public let image: JSONValue
        /// The masks' entries, without their numbers.
        public let annotations: [JSONValue]

        /// A picture's masks.
        ///
        /// - Parameters:
        ///   - file: the picture's name in the dataset.
        ///   - sha256: of its file.
        ///   - width: columns.
        ///   - height: rows.
        ///   - masks: of that size.
        ///   - categories: by mask, its category's number; nil for 1 everywhere.
        public init(
            file: String, sha256: String, width: Int, height: Int, masks: [MaskCandidate], categories: [Int]? = nil
        ) {
            image = .object([
                ("file_name", .string(file)), ("width", .integer(width)), ("height", .integer(height)),
                ("sha256", .string(sha256)),
            ])
            annotations = masks.enumerated().map { index, mask in
                .object([
                    ("category_id", .integer(categories?[index] ?? 1)),
                    (
                        "segmentation",
                        .object([
                            ("size", .array([.integer(height), .integer(width)])),
                            ("counts", .string(mask.encoding.compressed)),
                        ])
                    ),
                    ("area", .integer(mask.encoding.area)),
                    ("bbox", .array(mask.encoding.boundingBox.map { .integer($0) })),
                    ("iscrowd", .integer(0)),
                    ("predicted_iou", .number(Double(mask.predictedIoU))),
                    ("stability_score", .number(Double(mask.stabilityScore))),
                ])
            }
        }

        /// Reads what ``line`` wrote; nil for anything else.
        public init?(line: [UInt8]) {
            guard let value = try? JSONValue(parsing: line), let members = value.members, members.count == 2,
                members[0].name == "image", members[0].value.members != nil, members[1].name == "annotations",
                let annotations = members[1].value.elements
            else { return nil }
            image = members[0].value
            self.annotations = annotations
        }

        /// The part as one line of JSON.
        public var line: [UInt8] {
            JSONValue.object([("image", image), ("annotations", .array(annotations))]).line
        }
    }

    private var images: [JSONValue] = []
    private var annotations: [JSONValue] = []
    private let categories: [String]

    /// A dataset without pictures.
    ///
    /// - Parameter categories: their names; the first has the number 1.
    public init(categories: [String] = ["object"]) { self.categories = categories }

    /// Adds a picture and its masks.
    public mutating func append(_ part: Part) {
        let number = images.count + 1
        images.append(.object([("id", .integer(number))] + (part.image.members ?? [])))
        for annotation in part.annotations {
            annotations.append(
                .object(
                    [("id", .integer(annotations.count + 1)), ("image_id", .integer(number))]
                        + (annotation.members ?? [])))
        }
    }

    /// The dataset's file.
    public var json: [UInt8] {
        JSONValue.object([
            ("info", .object([("description", "Masks by Kirie")])), ("licenses", .array([])),
            ("images", .array(images)), ("annotations", .array(annotations)),
            (
                "categories",
                .array(
                    categories.enumerated().map { index, name in
                        .object([("id", .integer(index + 1)), ("name", .string(name)), ("supercategory", "")])
                    })
            ),
        ]).line
    }
}

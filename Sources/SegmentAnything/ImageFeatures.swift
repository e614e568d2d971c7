public import Platform
public import Segmentation
public import Tensors

/// What an image encoder makes of one picture: named feature maps, and what is needed to speak of that picture's pixels.
///
/// Segment Anything makes one map, `image_embedding` (1, C, g, g); other families several at different strides. Whoever
/// decodes asks for those that it knows by name.
public struct ImageFeatures: Sendable {
    /// The maps, of different names.
    public let maps: [FeatureMap]
    /// How the picture was brought to the encoder.
    public let preprocessing: ImagePreprocessing
    /// The picture's sizes before and after.
    public let frame: ImageFrame

    /// Features of one picture.
    ///
    /// - Precondition: there is a map, and no two have the same name.
    public init(_ maps: [FeatureMap], preprocessing: ImagePreprocessing, frame: ImageFrame) {
        precondition(!maps.isEmpty && Set(maps.map(\.name)).count == maps.count, "feature maps have different names")
        self.maps = maps
        self.preprocessing = preprocessing
        self.frame = frame
    }

    /// The one map of a Segment Anything, of a picture of that width and height.
    package init(imageEmbedding: Tensor, preprocessing: ImagePreprocessing, width: Int, height: Int) {
        self.init(
            [FeatureMap(FeatureMap.imageEmbedding, imageEmbedding)], preprocessing: preprocessing,
            frame: preprocessing.frame(width: width, height: height))
    }

    /// The map of that name; nil where there is none.
    public subscript(name: String) -> FeatureMap? { maps.first { $0.name == name } }
}

/// What a feature map is called and how large it is.
public struct FeatureShape: Sendable, Hashable {
    /// The map's name.
    public let name: String
    /// (1, C, H, W).
    public let shape: [Int]

    /// A map of that name and shape.
    public init(_ name: String, _ shape: [Int]) {
        self.name = name
        self.shape = shape
    }
}

/// Features that a decoder cannot use: another model made them.
public enum FeatureMismatch: ReportableError, Sendable, Hashable {
    /// A map is missing; these are there.
    case missing(map: String, found: [String])
    /// A map has another shape, or its axes in another order, than the model makes and takes.
    case shape(map: String, found: [Int], expected: [Int])
    /// The picture was brought to the encoder in another way.
    case preprocessing(found: ImagePreprocessing, expected: ImagePreprocessing)

    /// What does not fit and what to do.
    public var report: ErrorReport {
        let what =
            switch self {
            case .missing(let map, let found):
                "the features have no map \(map), which this model takes; they have \(found.joined(separator: ", "))"
            case .shape(let map, let found, let expected):
                "the feature map \(map) has shape \(found), this model takes \(expected)"
            case .preprocessing(let found, let expected) where found.size != expected.size:
                "the picture was resized for the image size \(found.size), this model takes \(expected.size)"
            case .preprocessing(let found, let expected):
                "the picture was prepared by another way (\(found)) than this model's (\(expected))"
            }
        return ErrorReport(.input, "feature-mismatch", what, remedy: "encode the picture again with this model")
    }

    /// The report in one line.
    public var description: String { report.text }
}

extension ImageFeatures {
    /// The numbers of a map as the model takes it, channels first.
    package func tensor(_ expected: FeatureShape) throws(FeatureMismatch) -> Tensor {
        guard let map = self[expected.name] else { throw .missing(map: expected.name, found: maps.map(\.name)) }
        guard map.layout == .channelsFirst, map.tensor.shape == expected.shape else {
            throw .shape(map: expected.name, found: map.tensor.shape, expected: expected.shape)
        }
        return map.tensor
    }
}

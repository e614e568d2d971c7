/// Something of which all that look like it are meant: a place on it, or a box around it.
public enum Exemplar: Sendable, Hashable {
    /// A place on it, in pixels of the picture.
    case point(x: Double, y: Double)
    /// A box around it, in pixels of the picture.
    case box(BoundingBox)

    /// Two numbers are a point, four a box; nil for anything else.
    public init?(_ numbers: [Double]) {
        guard numbers.allSatisfy(\.isFinite) else { return nil }
        switch numbers.count {
        case 2: self = .point(x: numbers[0], y: numbers[1])
        case 4: self = .box(BoundingBox(x0: numbers[0], y0: numbers[1], x1: numbers[2], y1: numbers[3]))
        default: return nil
        }
    }

    /// The numbers of ``init(_:)``.
    public var numbers: [Double] {
        switch self {
        case .point(let x, let y): [x, y]
        case .box(let box): [box.x0, box.y0, box.x1, box.y1]
        }
    }

    /// The prompt that cuts it out.
    public var prompt: Prompt {
        switch self {
        case .point(let x, let y): Prompt(points: [LabeledPoint(x: x, y: y)])
        case .box(let box): Prompt(box: box)
        }
    }
}

extension EverythingParameters {
    /// With what everything mode finds candidates for texts: more than are shown when everything is asked for, as the text
    /// tells which of them count.
    public static let forTexts: EverythingParameters = {
        var parameters = EverythingParameters()
        parameters.predictedIoUThreshold = 0.4
        parameters.stabilityScoreThreshold = 0.6
        parameters.boxNMSThreshold = 0.85
        return parameters
    }()

    /// The parameters that say what is found, without those by which it is ranked and named.
    ///
    /// Where there are labels, the thresholds that are not given are those of ``forTexts``.
    public var searched: EverythingParameters {
        var parameters = self
        if !labels.isEmpty {
            let texts = Self.forTexts
            parameters.predictedIoUThreshold = predictedIoUThreshold ?? texts.predictedIoUThreshold
            parameters.stabilityScoreThreshold = stabilityScoreThreshold ?? texts.stabilityScoreThreshold
            if boxNMSThreshold == EverythingParameters().boxNMSThreshold {
                parameters.boxNMSThreshold = texts.boxNMSThreshold
            }
            parameters.labels = []
        }
        parameters.like = []
        parameters.unlike = []
        parameters.likeThreshold = EverythingParameters().likeThreshold
        return parameters
    }
}

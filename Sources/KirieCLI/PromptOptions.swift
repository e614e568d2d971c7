import ArgumentParser
import Checkpoints
import Imaging
import SegmentAnything
import Segmentation
import Tensors

/// The prompts of one picture: all points belong to one prompt; several boxes are several prompts.
struct PromptOptions: ParsableArguments, Sendable {
    @Option(
        name: .customLong("point"), parsing: .singleValue,
        help: ArgumentHelp(
            "A click: label 1 on the object (default), 0 beside it. Repeat for more.", valueName: "x,y[,label]"))
    var points: [PointArgument] = []

    @Option(
        name: .customLong("box"), parsing: .singleValue,
        help: ArgumentHelp("A box around the object. Several boxes are several prompts.", valueName: "x0,y0,x1,y1"))
    var boxes: [BoxArgument] = []

    @Option(
        name: .long,
        help: ArgumentHelp(
            "An earlier mask to refine: a PNG of the picture's size, white on the object, or the low_res_logits of "
                + "`kirie decode --logits`.", valueName: "prior.png|.safetensors"))
    var mask: String?

    @Option(name: .long, help: ArgumentHelp("Words that name the object.", valueName: "words"))
    var text: String?

    @Flag(name: .long, help: "Three masks for a prompt that may mean several things, instead of one.")
    var multimask = false

    func validate() throws {
        if boxes.count > 1, !points.isEmpty || mask != nil {
            throw ValidationError(
                "Points and a mask belong to one prompt, several boxes are several: give them with one box at most.")
        }
    }

    /// Whether there is a prompt.
    var isAny: Bool { !points.isEmpty || !boxes.isEmpty || mask != nil || text != nil }

    /// For commands that do nothing without a prompt.
    func requireAny() throws {
        guard isAny else { throw ValidationError("Give a prompt: --point, --box or --mask.") }
    }

    /// The masks that answer the prompts.
    var maskCount: Int { max(1, boxes.count) * (multimask ? 3 : 1) }

    /// The prompts, for the picture `file` of that size and a model that takes masks of that many rows.
    func prompts(of file: String, width: Int, height: Int, maskSide: Int) throws -> [Prompt] {
        let logits = try mask.map {
            try MaskPrior.logits(file: $0, width: width, height: height, side: maskSide)
        }
        let clicks = points.map(\.point)
        let prompts =
            boxes.isEmpty
            ? [Prompt(points: clicks, mask: logits, text: text)]
            : boxes.map { Prompt(points: clicks, box: $0.box, mask: logits, text: text) }
        for (index, prompt) in prompts.enumerated() {
            do {
                try prompt.validate(width: width, height: height, maskSide: maskSide)
            } catch {
                let place = prompts.count == 1 ? "" : "box \(index + 1): "
                throw PromptMismatch(file: file, reason: "\(place)\(error)")
            }
        }
        return prompts
    }
}

/// `x,y` or `x,y,label`.
struct PointArgument: ExpressibleByArgument, Sendable {
    let point: LabeledPoint

    init?(argument: String) {
        let fields = argument.split(separator: ",", omittingEmptySubsequences: false).map(String.init)
        guard fields.count == 2 || fields.count == 3, let x = Double(fields[0]), let y = Double(fields[1]) else {
            return nil
        }
        guard let label = PointLabel(rawValue: fields.count == 3 ? Int(fields[2]) ?? -1 : 1) else { return nil }
        point = LabeledPoint(x: x, y: y, label: label)
    }
}

/// `x0,y0,x1,y1`.
struct BoxArgument: ExpressibleByArgument, Sendable {
    let box: BoundingBox

    init?(argument: String) {
        let fields = argument.split(separator: ",", omittingEmptySubsequences: false).map { Double($0) }
        guard fields.count == 4, let x0 = fields[0], let y0 = fields[1], let x1 = fields[2], let y1 = fields[3] else {
            return nil
        }
        box = BoundingBox(x0: x0, y0: y0, x1: x1, y1: y1)
    }
}

/// An earlier mask as the model takes it: logits of 4g rows and columns in the model's frame.
enum MaskPrior {
    /// How sure a white or black pixel is, in logits: about what the decoder writes itself.
    private static let certainty: Float = 10

    static func logits(file: String, width: Int, height: Int, side: Int) throws -> LowResolutionLogits {
        if file.hasSuffix(".safetensors") {
            let stored = try Checkpoint(path: file).stored("low_res_logits")
            guard let rows = stored.shape.last, stored.shape.suffix(2) == [rows, rows], stored.count == rows * rows
            else {
                throw PriorError(file: file, reason: "holds logits of shape \(stored.shape); one mask is needed")
            }
            guard rows == side else {
                throw PriorError(
                    file: file,
                    reason: "holds logits of \(rows) x \(rows), the model takes \(side) x \(side): give its own answer")
            }
            let values = try stored.tensor().elements
            guard values.allSatisfy(\.isFinite) else {
                throw PriorError(file: file, reason: "holds logits that are not finite: decode again")
            }
            return LowResolutionLogits(side: rows, values: values)
        }
        let prior = try ImageDecoder().decode(file: file).luminance
        guard prior.width == width, prior.height == height else {
            throw PriorError(
                file: file,
                reason:
                    "is \(prior.width) x \(prior.height), the picture is \(width) x \(height): give a mask of its size")
        }
        // The frame of the logits is the model's frame at a quarter of the size: the longest side fills it.
        let frame = ResizeLongestSide(width: width, height: height, target: side)
        let small: GrayImage = prior.resizedBilinear(width: frame.width, height: frame.height)
        var values = [Float](repeating: -certainty, count: side * side)
        for row in 0..<small.height {
            for column in 0..<small.width {
                let level = Float(small.pixels[row * small.width + column]) / 255
                values[row * side + column] = (level * 2 - 1) * certainty
            }
        }
        return LowResolutionLogits(side: side, values: values)
    }
}

/// A prompt that does not fit the picture.
struct PromptMismatch: Error, CustomStringConvertible {
    let file: String
    let reason: String
    var description: String { "\(file): \(reason)" }
}

/// A file given as `--mask` that is none.
struct PriorError: Error, CustomStringConvertible {
    let file: String
    let reason: String
    var description: String { "\(file): \(reason)" }
}

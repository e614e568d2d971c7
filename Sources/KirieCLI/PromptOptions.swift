import ArgumentParser
import Checkpoints
import Imaging
import Platform
import SegmentAnything
import Segmentation
import Tensors
import Terminals

/// The prompts of one picture: all points belong to one prompt; several boxes are several prompts.
struct PromptOptions: ParsableArguments, Sendable {
    @Option(
        name: .customLong("point"), parsing: .unconditionalSingleValue,
        help: ArgumentHelp(
            "A click: label 1 on the object (default), 0 beside it; 2 and 3 are the corners of a box. Repeat for more.",
            valueName: "x,y[,label]"),
        transform: PointArgument.init(reading:))
    var points: [PointArgument] = []

    @Option(
        name: .customLong("box"), parsing: .unconditionalSingleValue,
        help: ArgumentHelp("A box around the object. Several boxes are several prompts.", valueName: "x0,y0,x1,y1"),
        transform: BoxArgument.init(reading:))
    var boxes: [BoxArgument] = []

    @Option(
        name: .long,
        help: ArgumentHelp(
            "An earlier mask to refine: a picture of the same size with two values, the greater one on the object, or "
                + "more values as a soft mask, or the low_res_logits of `kirie decode --logits`.",
            valueName: "prior.png|.safetensors"))
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
        let clicks: Prompt
        do throws(PromptError) { clicks = try Prompt(labelled: points.map(\.point), box: boxes.first?.box) } catch {
            throw ValidationError("--point: \(error)")
        }
        if !points.isEmpty, clicks == Prompt(), mask == nil, text == nil {
            throw ValidationError("--point: \(PromptError.empty)")
        }
    }

    /// Rows of a mask prompt of the published models, for whoever cannot ask the model.
    static let publishedMaskSide = 256

    /// Whether there is a prompt.
    var isAny: Bool { !points.isEmpty || !boxes.isEmpty || mask != nil || text != nil }

    /// For commands that do nothing without a prompt.
    func requireAny() throws {
        guard isAny else { throw ValidationError("Give a prompt: --point, --box or --mask.") }
    }

    /// The masks that answer the prompts.
    var maskCount: Int { max(1, boxes.count) * (multimask ? 3 : 1) }

    /// The prompts as they were given, for the picture `file` of that size and a model that takes masks of that many
    /// rows.
    ///
    /// A mask is brought to the model as its encoder is brought pictures, by `resize`; `limit` is for the mask's file.
    func given(
        of file: String, width: Int, height: Int, maskSide: Int, resize: ImagePreprocessing.Resize = .longestSide,
        limit: PixelLimit
    ) throws -> [Prompt] {
        let logits = try mask.map {
            try MaskPrior.logits(
                file: $0, width: width, height: height, side: maskSide, resize: resize, limit: limit)
        }
        let clicks = points.map(\.point)
        let boxes: [BoundingBox?] = boxes.isEmpty ? [nil] : boxes.map(\.box)
        return try boxes.map { try Prompt(labelled: clicks, box: $0, mask: logits, text: text) }
    }

    /// The prompts as they can be used, each for itself; says what is wrong with the others and what was clipped.
    ///
    /// - Throws: ``PromptMismatch`` where none can be used.
    func fitted(
        to file: String, width: Int, height: Int, model: any SegmentationModel, limit: PixelLimit
    ) throws -> FittedPrompts {
        let given = try given(
            of: file, width: width, height: height, maskSide: model.maskSide, resize: model.preprocessing.resize,
            limit: limit)
        let fitted = FittedPrompts(given, width: width, height: height, maskSide: model.maskSide)
        func line(_ remark: FittedPrompts.Remark) -> String {
            "\(given.count == 1 ? "" : "box \(remark.prompt + 1): ")\(remark.text)"
        }
        guard !fitted.isHopeless else {
            throw PromptMismatch(file: file, reason: fitted.faults.map(line).joined(separator: "; "))
        }
        for remark in fitted.notes + fitted.faults { Terminal.complain("kirie: \(file): \(line(remark))") }
        return fitted
    }
}

/// `x,y` or `x,y,label`.
struct PointArgument: Sendable {
    let point: (x: Double, y: Double, label: Int)

    @Sendable
    init(reading argument: String) throws {
        let fields = argument.split(separator: ",", omittingEmptySubsequences: false)
        guard fields.count == 2 || fields.count == 3, let x = DecimalNumber.coordinate(fields[0]),
            let y = DecimalNumber.coordinate(fields[1])
        else { throw ValidationError("x,y or x,y,label in decimal numbers is expected") }
        guard let label = fields.count == 3 ? DecimalNumber.readWhole(fields[2]) : 1, (-1...3).contains(label) else {
            throw ValidationError("\(PromptError.label(part: "the point", found: String(fields[2])))")
        }
        point = (x, y, label)
    }
}

/// `x0,y0,x1,y1`.
struct BoxArgument: Sendable {
    let box: BoundingBox

    @Sendable
    init(reading argument: String) throws {
        guard let corners = DecimalNumber.coordinates(argument), corners.count == 4 else {
            throw ValidationError("x0,y0,x1,y1 in decimal numbers is expected")
        }
        box = BoundingBox(x0: corners[0], y0: corners[1], x1: corners[2], y1: corners[3])
    }
}

/// An earlier mask as the model takes it: logits of 4g rows and columns in the model's frame.
enum MaskPrior {
    /// How sure a white or black pixel is, in logits: about what the decoder writes itself.
    private static let certainty: Float = 10

    static func logits(
        file: String, width: Int, height: Int, side: Int, resize: ImagePreprocessing.Resize, limit: PixelLimit
    ) throws -> LowResolutionLogits {
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
        let mask = try MaskPicture(file: file, limit: limit)
        PictureOptions.complain(of: mask.notes, in: file)
        let prior = mask.levels
        guard prior.width == width, prior.height == height else {
            throw PriorError(
                file: file,
                reason:
                    "is \(prior.width) x \(prior.height), the picture is \(width) x \(height): give a mask of its size")
        }
        // The frame of the logits is the model's frame at a quarter of the size.
        let frame = resize.frame(width: width, height: height, size: side)
        let small: GrayImage = prior.resizedBilinear(width: frame.inputWidth, height: frame.inputHeight)
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
struct PromptMismatch: ReportableError {
    let file: String
    let reason: String
    var report: ErrorReport { ErrorReport(.input, "prompt-mismatch", at: file, reason) }

    /// The report in one line.
    var description: String { report.text }
}

/// A file given as `--mask` that is none.
struct PriorError: ReportableError {
    let file: String
    let reason: String
    var report: ErrorReport { ErrorReport(.input, "mask-prompt", at: file, reason) }

    /// The report in one line.
    var description: String { report.text }
}

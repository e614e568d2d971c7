/// Bringing prompts into the form that a model takes for a picture.
extension Prompt {
    /// A prompt whose points carry SAM's own labels.
    ///
    /// The published prompt encoder knows five: 1 and 0 are clicks, 2 and 3 the upper left and lower right corner of a box,
    /// and -1 pads a list of points to a length. Corners become the box that they stand for, padding is dropped.
    ///
    /// - Throws: ``PromptError``: another label, or corners that make no box.
    public init(
        labelled points: [(x: Double, y: Double, label: Int)], box: BoundingBox? = nil,
        mask: LowResolutionLogits? = nil, text: String? = nil
    ) throws(PromptError) {
        var clicks: [LabeledPoint] = []
        var upperLeft: [(x: Double, y: Double)] = []
        var lowerRight: [(x: Double, y: Double)] = []
        for (index, point) in points.enumerated() {
            switch point.label {
            case -1: continue
            case 2: upperLeft.append((point.x, point.y))
            case 3: lowerRight.append((point.x, point.y))
            default:
                guard let label = PointLabel(rawValue: point.label) else {
                    throw .label(part: "point \(index + 1)", found: "\(point.label)")
                }
                clicks.append(LabeledPoint(x: point.x, y: point.y, label: label))
            }
        }
        var box = box
        switch (upperLeft.count, lowerRight.count) {
        case (0, 0): break
        case (1, 1):
            guard box == nil else { throw .corners(reason: "there are corners beside a box") }
            box = BoundingBox(
                x0: upperLeft[0].x, y0: upperLeft[0].y, x1: lowerRight[0].x, y1: lowerRight[0].y)
        case (let first, 0): throw .corners(reason: "there is a 2 and no 3 among the labels (\(first) and 0)")
        case (0, let second): throw .corners(reason: "there is a 3 and no 2 among the labels (0 and \(second))")
        case (let first, let second):
            throw .corners(reason: "there are \(first) corners labelled 2 and \(second) labelled 3")
        }
        self.init(points: clicks, box: box, mask: mask, text: text)
    }

    /// Checks the prompt against a picture and a model.
    ///
    /// - Parameters:
    ///   - width: columns of the original picture.
    ///   - height: its rows.
    ///   - maskSide: rows of a mask prompt for the model, 4g.
    /// - Throws: ``PromptError`` where the prompt cannot be used, or only after a point or a box was brought into the
    ///   picture.
    public func validate(width: Int, height: Int, maskSide: Int) throws(PromptError) {
        let (fitted, _) = try fitted(width: width, height: height, maskSide: maskSide)
        guard fitted != self else { return }
        for (index, (before, after)) in zip(points, fitted.points).enumerated() where before != after {
            throw .outside(part: "point \(index + 1)", x: before.x, y: before.y, width: width, height: height)
        }
        guard let box else { return }
        let isUpperLeft = box.x0 < 0 || box.y0 < 0
        throw .outside(
            part: isUpperLeft ? "the box's upper left corner" : "the box's lower right corner",
            x: isUpperLeft ? box.x0 : box.x1, y: isUpperLeft ? box.y0 : box.y1, width: width, height: height)
    }

    /// The prompt as it can be used on a picture: a box is clipped to it, and so is a point that lies less than a pixel
    /// outside, which is what tools of labelling write for objects at the edge.
    ///
    /// - Parameters:
    ///   - width: columns of the original picture.
    ///   - height: its rows.
    ///   - maskSide: rows of a mask prompt for the model, 4g; nil where the model is not known.
    ///   - takesText: whether words are taken, or the model is not known.
    /// - Returns: the prompt, and what was clipped, a sentence each.
    /// - Throws: ``PromptError`` where it cannot be used.
    public func fitted(
        width: Int, height: Int, maskSide: Int?, takesText: Bool = false
    ) throws(PromptError) -> (prompt: Prompt, notes: [String]) {
        if text != nil, !takesText { throw .textUnsupported }
        if points.isEmpty, box == nil, mask == nil, text == nil, textEmbedding == nil { throw .empty }
        let (right, lower) = (Double(width), Double(height))
        var fitted = self
        var notes: [String] = []
        for (index, point) in points.enumerated() {
            let part = "point \(index + 1)"
            guard point.x.isFinite, point.y.isFinite else { throw .notFinite(part: part) }
            guard point.x > -1, point.y > -1, point.x < right + 1, point.y < lower + 1 else {
                throw .outside(part: part, x: point.x, y: point.y, width: width, height: height)
            }
            let (x, y) = (min(max(point.x, 0), right), min(max(point.y, 0), lower))
            if x != point.x || y != point.y {
                fitted.points[index].x = x
                fitted.points[index].y = y
                notes.append("\(part) at (\(point.x), \(point.y)) was moved to the picture's edge, (\(x), \(y))")
            }
        }
        if let box {
            guard [box.x0, box.y0, box.x1, box.y1].allSatisfy(\.isFinite) else { throw .notFinite(part: "the box") }
            guard box.x0 < box.x1, box.y0 < box.y1 else { throw .emptyBox(box) }
            guard box.x0 < right, box.y0 < lower, box.x1 > 0, box.y1 > 0 else {
                throw .outsideBox(box, width: width, height: height)
            }
            let clipped = BoundingBox(
                x0: max(box.x0, 0), y0: max(box.y0, 0), x1: min(box.x1, right), y1: min(box.y1, lower))
            if clipped != box {
                fitted.box = clipped
                notes.append("the box \(box) was clipped to the picture: \(clipped)")
            }
        }
        if let mask {
            if let maskSide, mask.side != maskSide { throw .maskSide(found: mask.side, expected: maskSide) }
            guard mask.values.allSatisfy(\.isFinite) else { throw .notFinite(part: "the mask prompt") }
        }
        return (fitted, notes)
    }
}

/// The prompts of one picture, each for itself: what is wrong with one is no fault of the others.
public struct FittedPrompts: Sendable, Hashable {
    /// A prompt in its place.
    public struct Place: Sendable, Hashable {
        /// Which prompt, counted from 0.
        public let index: Int
        /// As it can be used.
        public let prompt: Prompt
    }

    /// A word on a prompt: why it cannot be used, or what was changed.
    public struct Remark: Sendable, Hashable {
        /// Which prompt, counted from 0.
        public let prompt: Int
        /// What is to be said.
        public let text: String

        /// A remark on a prompt.
        public init(prompt: Int, text: String) {
            self.prompt = prompt
            self.text = text
        }
    }

    /// Those that can be used, in their order.
    public private(set) var usable: [Place] = []
    /// Why others cannot.
    public private(set) var faults: [Remark] = []
    /// What was clipped.
    public private(set) var notes: [Remark] = []

    /// Fits each prompt to a picture, see ``Prompt/fitted(width:height:maskSide:takesText:)``.
    ///
    /// - Parameters:
    ///   - prompts: in pixels of the original picture.
    ///   - known: why some cannot be used, by their index, where that was found before.
    ///   - width: columns of the original picture.
    ///   - height: its rows.
    ///   - maskSide: rows of a mask prompt for the model, 4g; nil where the model is not known.
    ///   - takesText: whether words are taken, or the model is not known.
    public init(
        _ prompts: [Prompt], known: [Int: String] = [:], width: Int, height: Int, maskSide: Int?,
        takesText: Bool = false
    ) {
        for (index, prompt) in prompts.enumerated() {
            if let reason = known[index] {
                faults.append(Remark(prompt: index, text: reason))
                continue
            }
            do throws(PromptError) {
                let (fitted, said) = try prompt.fitted(
                    width: width, height: height, maskSide: maskSide, takesText: takesText)
                usable.append(Place(index: index, prompt: fitted))
                notes += said.map { Remark(prompt: index, text: $0) }
            } catch {
                faults.append(Remark(prompt: index, text: "\(error)"))
            }
        }
    }

    /// Whether there were prompts and none of them can be used.
    public var isHopeless: Bool { usable.isEmpty && !faults.isEmpty }

    /// What is wrong, for the whole of them: the first few faults.
    public var summary: String {
        let shown = faults.prefix(3).map { "prompts[\($0.prompt)]: \($0.text)" }
        let rest = faults.count - shown.count
        return (shown + (rest > 0 ? ["and \(rest) more"] : [])).joined(separator: "; ")
    }
}

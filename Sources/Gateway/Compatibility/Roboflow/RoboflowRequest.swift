import Cluster
import HTTPTypes
import Imaging
import JSON
import Segmentation

/// The body of a request of Roboflow's inference server for Segment Anything.
///
/// Field names and their meaning are those of that project's `entities/requests/{sam,sam2}.py`,
/// <https://github.com/roboflow/inference>.
struct RoboflowRequest: Sendable {
    /// How masks are written.
    enum Format: Sendable, Hashable {
        /// Outlines.
        case polygon
        /// COCO's run lengths.
        case rle
        /// An `.npz` file, or for embeddings an `.npy` file.
        case binary
    }

    /// A picture as it is sent.
    enum Picture: Sendable {
        /// Base64 of the file.
        case base64(String)
        /// Where it is to be fetched from.
        case address(String)
        /// None, or one without a value: it is known by its id.
        case absent
    }

    let picture: Picture
    /// The client's own name for the picture.
    let imageIdentifier: String?
    /// Names of models that the client means.
    let models: [String?]
    let format: Format

    /// Reads what all requests have.
    init(_ body: JSONValue) throws(Problem) {
        picture = try Self.picture(body.given("image"))
        imageIdentifier = try Self.text(body, "image_id")
        if let imageIdentifier, !(1...512).contains(imageIdentifier.utf8.count) {
            throw Self.fault("image_id", "1 to 512 bytes are expected")
        }
        models = try ["model_id", "sam_version_id", "sam2_version_id", "sam3_version_id"].map { name throws(Problem) in
            try Self.text(body, name)
        }
        switch try Self.text(body, "format") ?? "json" {
        case "json", "polygon": format = .polygon
        case "rle": format = .rle
        case "binary": format = .binary
        default: throw Self.fault("format", "one of json, polygon, rle, binary is expected")
        }
    }

    private static func picture(_ value: JSONValue?) throws(Problem) -> Picture {
        guard var value else { return .absent }
        if let elements = value.elements {
            guard elements.count == 1 else {
                throw fault("image", "one picture a request is expected: set max_batch_size to 1")
            }
            value = elements[0]
        }
        if let text = value.string { return .base64(text) }
        guard value.members != nil else { throw fault("image", "{\"type\":\"base64\",\"value\":…} is expected") }
        guard let content = value.given("value") else { return .absent }
        switch value["type"]?.string ?? "base64" {
        case "base64":
            guard let text = content.string else { throw fault("image.value", "base64 of a picture file is expected") }
            return .base64(text)
        case "url":
            guard let text = content.string else { throw fault("image.value", "an address is expected") }
            return .address(text)
        default: throw fault("image.type", "base64 is expected: arrays in Python's own format are not taken")
        }
    }

    // MARK: Prompts

    /// The prompts of SAM 2 and SAM 3: `{"prompts":[…]}`, `[…]`, one alone, or none.
    static func prompts(_ value: JSONValue?) throws(Problem) -> [ClientQuestion.Prompt] {
        guard let value else { return [.everything] }
        let list: [JSONValue]
        if let elements = value.elements {
            list = elements
        } else if value.members != nil, value["prompts"] != nil {
            guard let inner = value.given("prompts") else { return [.everything] }
            guard let elements = inner.elements else { throw fault("prompts", "a list is expected") }
            list = elements
        } else if value.members != nil {
            list = [value]
        } else {
            throw fault("prompts", "a list of prompts is expected")
        }
        if list.isEmpty { return [.everything] }
        guard list.count <= 1024 else { throw fault("prompts", "at most 1024 are answered at a time") }
        var prompts: [ClientQuestion.Prompt] = []
        for (index, element) in list.enumerated() { prompts.append(try prompt(element, "prompts[\(index)]")) }
        return prompts
    }

    /// The concepts of SAM 3: texts, each with what its masks' confidence must reach.
    static func concepts(
        _ body: JSONValue
    ) throws(Problem) -> [(prompt: ClientQuestion.Prompt, threshold: Double)] {
        func threshold(_ value: JSONValue, _ place: String) throws(Problem) -> Double? {
            guard let given = value.given("output_prob_thresh") else { return nil }
            guard let number = given.double, (0...1).contains(number) else {
                throw fault("\(place)output_prob_thresh", "a number from 0 to 1 is expected")
            }
            return number
        }
        guard let list = body.given("prompts")?.elements, (1...16).contains(list.count) else {
            throw fault("prompts", "a list of 1 to 16 prompts is expected")
        }
        let all = try threshold(body, "") ?? 0.5
        var concepts: [(prompt: ClientQuestion.Prompt, threshold: Double)] = []
        for (index, element) in list.enumerated() {
            guard element.members != nil, let text = element.given("text")?.string, element.given("boxes") == nil else {
                throw fault(
                    "prompts[\(index)]",
                    "{\"type\":\"text\",\"text\":…} is expected: what looks like a box is found by /v1/everything (like)"
                )
            }
            var prompt = ClientQuestion.Prompt()
            prompt.text = text
            concepts.append((prompt, try threshold(element, "prompts[\(index)].") ?? all))
        }
        return concepts
    }

    private static func prompt(_ value: JSONValue, _ place: String) throws(Problem) -> ClientQuestion.Prompt {
        guard value.members != nil else { throw fault(place, "an object of box and points is expected") }
        var prompt = ClientQuestion.Prompt()
        if let box = value.given("box") {
            // The box's x and y are its centre.
            let x = try number(box, "x", "\(place).box")
            let y = try number(box, "y", "\(place).box")
            let width = try number(box, "width", "\(place).box")
            let height = try number(box, "height", "\(place).box")
            guard width > 0, height > 0 else {
                throw fault("\(place).box", "a width and a height above 0 are expected")
            }
            prompt.box = [x - width / 2, y - height / 2, x + width / 2, y + height / 2]
        }
        if let points = value.given("points") {
            guard let points = points.elements else { throw fault("\(place).points", "a list is expected") }
            for (index, point) in points.enumerated() {
                let place = "\(place).points[\(index)]"
                let isPositive = point.given("positive")?.truth ?? true
                prompt.points.append(
                    .init(
                        x: try number(point, "x", place), y: try number(point, "y", place), label: isPositive ? 1 : 0))
            }
        }
        return prompt.isEmpty ? .everything : prompt
    }

    /// SAM's one prompt: `point_coords` and `point_labels`.
    static func points(_ body: JSONValue) throws(Problem) -> [ClientQuestion.Prompt.Point] {
        guard let coordinates = body.given("point_coords") else { return [] }
        guard let places = coordinates.elements else { throw fault("point_coords", "a list of [x, y] is expected") }
        guard let labels = body.given("point_labels") else {
            throw fault("point_labels", "a label for each point is expected: 1 the object, 0 not")
        }
        guard let labels = labels.elements, labels.count == places.count else {
            throw fault("point_labels", "a label for each of the \(places.count) points is expected")
        }
        var points: [ClientQuestion.Prompt.Point] = []
        for (index, place) in places.enumerated() {
            guard let pair = place.elements, pair.count == 2, let x = pair[0].double, let y = pair[1].double else {
                throw fault("point_coords[\(index)]", "x and y are expected")
            }
            guard let number = labels[index].double, let label = Int(exactly: number) else {
                throw fault("point_labels[\(index)]", "one of 1, 0, -1, 2, 3 is expected")
            }
            points.append(.init(x: x, y: y, label: label))
        }
        return points
    }

    /// SAM's `mask_input`.
    enum Prior: Sendable {
        /// Logits, of an `.npy` file in base64.
        case logits(LowResolutionLogits)
        /// Outlines in the frame of the model's logits.
        case outlines([Polygon])

        /// The logits, `side` rows and columns of them where they are to be drawn.
        func logits(side: Int) -> LowResolutionLogits {
            switch self {
            case .logits(let logits): return logits
            case .outlines(let polygons):
                let mask = GrayImage(covering: polygons, width: side, height: side)
                return LowResolutionLogits(
                    side: side, values: mask.pixels.map { $0 == 0 ? -Self.certainty : Self.certainty })
            }
        }

        /// How sure a pixel of an outline is, in logits: about what the decoder writes itself.
        private static let certainty: Float = 10
    }

    /// Reads `mask_input`; nil where there is none, or one without a corner.
    static func prior(_ body: JSONValue) throws(Problem) -> Prior? {
        guard let value = body.given("mask_input") else { return nil }
        let field = "mask_input"
        if let text = value.string {
            let file: [UInt8]
            do throws(Base64Text.Fault) { file = try Base64Text.decode(text) } catch {
                throw fault(field, "base64 of an .npy file is expected: \(error.reason)")
            }
            let numbers = try NumPyFile.floats(file, field: field)
            let side = Int(Double(numbers.count).squareRoot().rounded())
            guard (1...1024).contains(side), side * side == numbers.count else {
                throw fault(field, "the logits of one mask, as many rows as columns, are expected")
            }
            return .logits(LowResolutionLogits(side: side, values: numbers))
        }
        guard let outlines = value.elements else { throw fault(field, "a list of outlines is expected") }
        var polygons: [Polygon] = []
        for (index, outline) in outlines.enumerated() {
            guard let vertices = outline.elements else { throw fault("\(field)[\(index)]", "[[x, y], …] is expected") }
            var ring: [PixelVertex] = []
            for vertex in vertices {
                guard let pair = vertex.elements, pair.count == 2, let x = pair[0].double, let y = pair[1].double,
                    (-4096...4096).contains(x), (-4096...4096).contains(y)
                else { throw fault("\(field)[\(index)]", "[x, y] in the frame of low_res_masks is expected") }
                ring.append(PixelVertex(x: Int(x.rounded()), y: Int(y.rounded())))
            }
            if ring.count >= 3 { polygons.append(Polygon(exterior: ring)) }
        }
        return polygons.isEmpty ? nil : .outlines(polygons)
    }

    // MARK: Fields

    static func text(_ body: JSONValue, _ name: String) throws(Problem) -> String? {
        guard let value = body.given(name) else { return nil }
        guard let text = value.string else { throw fault(name, "a string is expected") }
        return text
    }

    static func flag(_ body: JSONValue, _ name: String, or fallback: Bool) throws(Problem) -> Bool {
        guard let value = body.given(name) else { return fallback }
        guard let truth = value.truth else { throw fault(name, "true or false is expected") }
        return truth
    }

    private static func number(_ value: JSONValue, _ name: String, _ place: String) throws(Problem) -> Double {
        guard let number = value[name]?.double, number.isFinite, abs(number) < 1e9 else {
            throw fault("\(place).\(name)", "a number is expected")
        }
        return number
    }

    static func fault(_ field: String, _ reason: String) -> Problem {
        Problem(.badRequest, "bad-request", "\(field): \(reason)", field: field)
    }
}

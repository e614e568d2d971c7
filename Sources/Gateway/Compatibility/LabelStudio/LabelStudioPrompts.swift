import HTTPTypes
import JSON

/// What somebody drew with smart tools: the prompts of one prediction.
///
/// Coordinates come in percent of the picture. All clicks belong to one object; where there are rectangles, each is an object,
/// and a click belongs to those that it lies in. A click on the object that lies in none belongs to the last rectangle, one
/// beside the object to all. A rectangle that says what is not the object counts as a click in its middle.
struct LabelStudioPrompts: Sendable {
    private struct Click {
        let x: Double
        let y: Double
        let isPositive: Bool
    }

    /// The prompts, in fractions of the picture.
    let prompts: [ClientQuestion.Prompt]
    /// The label of the last thing that was drawn.
    let label: String?

    /// Reads `context.result`.
    ///
    /// - Throws: ``Problem`` that names the region.
    init(_ regions: [JSONValue]) throws(Problem) {
        guard regions.count <= 1024 else { throw Self.fault("context.result", "at most 1024 regions are taken") }
        var clicks: [Click] = []
        var boxes: [[Double]] = []
        var label: String?
        for (index, region) in regions.enumerated() {
            let place = "context.result[\(index)]"
            guard let value = region.given("value"), value.members != nil else { continue }
            let type = region["type"]?.string?.lowercased() ?? ""
            let isPositive = Self.isPositive(region, value)
            if type.hasPrefix("rectangle") || type.isEmpty && value["height"] != nil {
                let x = try Self.fraction(value, "x", place)
                let y = try Self.fraction(value, "y", place)
                let width = try Self.fraction(value, "width", place)
                let height = try Self.fraction(value, "height", place)
                if isPositive {
                    guard width > 0, height > 0 else { throw Self.fault(place, "the rectangle is empty") }
                    boxes.append([x, y, x + width, y + height])
                } else {
                    clicks.append(Click(x: x + width / 2, y: y + height / 2, isPositive: false))
                }
            } else if type.hasPrefix("keypoint") || type.isEmpty && value["x"] != nil {
                clicks.append(
                    Click(
                        x: try Self.fraction(value, "x", place), y: try Self.fraction(value, "y", place),
                        isPositive: isPositive))
            } else {
                continue
            }
            label = value[type]?.elements?.first?.string ?? value["labels"]?.elements?.first?.string ?? label
        }
        self.label = label
        prompts = Self.prompts(clicks, boxes)
    }

    private static func prompts(_ clicks: [Click], _ boxes: [[Double]]) -> [ClientQuestion.Prompt] {
        func point(_ click: Click) -> ClientQuestion.Prompt.Point {
            .init(x: click.x, y: click.y, label: click.isPositive ? 1 : 0)
        }
        if boxes.isEmpty { return clicks.isEmpty ? [] : [.init(points: clicks.map(point))] }
        func holds(_ box: [Double], _ click: Click) -> Bool {
            box[0] <= click.x && click.x <= box[2] && box[1] <= click.y && click.y <= box[3]
        }
        return boxes.enumerated().map { index, box in
            let own = clicks.filter { click in
                if holds(box, click) { return true }
                if boxes.contains(where: { holds($0, click) }) { return false }
                return !click.isPositive || index == boxes.count - 1
            }
            return ClientQuestion.Prompt(points: own.map(point), box: box)
        }
    }

    /// The prompts in pixels of a picture.
    func scaled(width: Int, height: Int) -> [ClientQuestion.Prompt] {
        let (width, height) = (Double(width), Double(height))
        return prompts.map { prompt in
            var prompt = prompt
            for index in prompt.points.indices {
                prompt.points[index].x *= width
                prompt.points[index].y *= height
            }
            prompt.box = prompt.box.map { [$0[0] * width, $0[1] * height, $0[2] * width, $0[3] * height] }
            return prompt
        }
    }

    /// Older frontends say it of the region, newer ones of its value; some as a number.
    private static func isPositive(_ region: JSONValue, _ value: JSONValue) -> Bool {
        for said in [region.given("is_positive"), value.given("positive"), value.given("is_positive")] {
            if let truth = said?.truth { return truth }
            if let number = said?.double { return number != 0 }
        }
        return true
    }

    private static func fraction(_ value: JSONValue, _ name: String, _ place: String) throws(Problem) -> Double {
        guard let percent = value[name]?.double, percent.isFinite, abs(percent) <= 1000 else {
            throw fault("\(place).value.\(name)", "a number of percent is expected")
        }
        return percent / 100
    }

    static func fault(_ field: String, _ reason: String) -> Problem {
        Problem(.badRequest, "bad-request", "\(field): \(reason)", field: field)
    }
}

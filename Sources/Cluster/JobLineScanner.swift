import Segmentation

/// Reads the job lines that clicks travel as, in a tenth of the time that `JSONDecoder` takes: a picture by its digest, and
/// prompts of points and boxes.
///
/// It answers nil for every other line, whether that is right or wrong: `JSONDecoder` reads those, and knows what to say of
/// them. What it does answer, `JSONDecoder` answers as well.
package struct JobLineScanner {
    private let bytes: UnsafeBufferPointer<UInt8>
    private var at = 0

    private init(_ bytes: UnsafeBufferPointer<UInt8>) { self.bytes = bytes }

    /// The line, where it is one that this scanner knows.
    package static func line(_ text: [UInt8]) -> JobLine? {
        text.withUnsafeBufferPointer { bytes in
            var scanner = JobLineScanner(bytes)
            guard let line = scanner.line() else { return nil }
            scanner.skipSpace()
            return scanner.at == bytes.count ? line : nil
        }
    }

    private mutating func line() -> JobLine? {
        var digest: ImageDigest?
        var line = JobLine(image: .path(""))
        let isRead = object { scanner, name in
            switch name {
            case "id":
                guard let id = scanner.string(), JobIdentifier.fault(in: id) == nil else { return false }
                line.id = id
                return true
            case "image":
                return scanner.object { scanner, name in
                    guard name == "sha256", let text = scanner.string() else { return false }
                    digest = ImageDigest(text)
                    return digest != nil
                }
            case "prompts":
                return scanner.array { scanner in
                    guard let prompt = scanner.prompt() else { return false }
                    line.prompts.append(prompt)
                    return true
                }
            case "multimask":
                guard let value = scanner.boolean() else { return false }
                line.multimask = value
                return true
            case "logits":
                guard let value = scanner.boolean() else { return false }
                line.logits = value
                return true
            case "output":
                guard let output = scanner.string().flatMap(JobLine.Output.init(rawValue:)) else { return false }
                line.output = output
                return true
            default: return false
            }
        }
        guard isRead, let digest else { return nil }
        line.image = .digest(digest)
        return line
    }

    private mutating func prompt() -> Prompt? {
        var points: [(x: Double, y: Double)] = []
        var labels: [PointLabel]?
        var prompt = Prompt()
        let isRead = object { scanner, name in
            switch name {
            case "points":
                return scanner.array { scanner in
                    guard let point = scanner.numbers(2) else { return false }
                    points.append((point[0], point[1]))
                    return true
                }
            case "labels":
                labels = []
                return scanner.array { scanner in
                    guard let label = scanner.label() else { return false }
                    labels?.append(label)
                    return true
                }
            case "box":
                guard let box = scanner.numbers(4), box[0] < box[2], box[1] < box[3] else { return false }
                prompt.box = BoundingBox(x0: box[0], y0: box[1], x1: box[2], y1: box[3])
                return true
            default: return false
            }
        }
        guard isRead, labels == nil || labels?.count == points.count else { return nil }
        guard !points.isEmpty || prompt.box != nil else { return nil }
        prompt.points = points.enumerated().map { index, point in
            LabeledPoint(x: point.x, y: point.y, label: labels?[index] ?? .foreground)
        }
        return prompt
    }

    // MARK: JSON

    private mutating func skipSpace() {
        while at < bytes.count, [0x20, 0x09, 0x0a, 0x0d].contains(bytes[at]) { at += 1 }
    }

    /// Takes one sign, spaces before it aside.
    private mutating func take(_ sign: Unicode.Scalar) -> Bool {
        skipSpace()
        guard at < bytes.count, bytes[at] == UInt8(ascii: sign) else { return false }
        at += 1
        return true
    }

    /// An object, in which no name comes twice; `member` reads the value behind a name.
    private mutating func object(_ member: (inout JobLineScanner, String) -> Bool) -> Bool {
        guard take("{") else { return false }
        var names: [String] = []
        repeat {
            guard let name = string(), !names.contains(name), take(":"), member(&self, name) else { return false }
            names.append(name)
        } while take(",")
        return take("}")
    }

    private mutating func array(_ element: (inout JobLineScanner) -> Bool) -> Bool {
        guard take("[") else { return false }
        if take("]") { return true }
        repeat { guard element(&self) else { return false } } while take(",")
        return take("]")
    }

    private mutating func numbers(_ count: Int) -> [Double]? {
        var numbers: [Double] = []
        let isRead = array { scanner in
            guard numbers.count < count, let number = scanner.number() else { return false }
            numbers.append(number)
            return true
        }
        return isRead && numbers.count == count ? numbers : nil
    }

    /// A text of plain ASCII without escapes.
    private mutating func string() -> String? {
        guard take("\"") else { return nil }
        let start = at
        while at < bytes.count, bytes[at] != UInt8(ascii: "\"") {
            guard (0x20..<0x7f).contains(bytes[at]), bytes[at] != UInt8(ascii: "\\") else { return nil }
            at += 1
        }
        guard at < bytes.count else { return nil }
        defer { at += 1 }
        return String(decoding: bytes[start..<at], as: UTF8.self)
    }

    private mutating func boolean() -> Bool? {
        skipSpace()
        for (word, value) in [("true", true), ("false", false)]
        where bytes[at...].prefix(word.utf8.count).elementsEqual(word.utf8) {
            at += word.utf8.count
            return value
        }
        return nil
    }

    /// 0 or 1; longer numbers end at a sign that is no comma and no bracket, and so are refused there.
    private mutating func label() -> PointLabel? {
        take("1") ? .foreground : take("0") ? .background : nil
    }

    /// A number of at most 15 digits without an exponent: two whole numbers below 2^53 and one division, so that the answer
    /// is the nearest double there is.
    private mutating func number() -> Double? {
        let isNegative = take("-")
        if !isNegative { skipSpace() }
        var (digits, value, scale, isFraction) = (0, 0, 1, false)
        let start = at
        while at < bytes.count {
            switch bytes[at] {
            case UInt8(ascii: "0")...UInt8(ascii: "9"):
                digits += 1
                guard digits <= 15 else { return nil }
                value = value * 10 + Int(bytes[at] - UInt8(ascii: "0"))
                if isFraction { scale *= 10 }
            case UInt8(ascii: "."):
                guard !isFraction, digits > 0 else { return nil }
                isFraction = true
            default:
                return ending(start, digits, isNegative, value, scale, isFraction)
            }
            at += 1
        }
        return nil
    }

    private func ending(
        _ start: Int, _ digits: Int, _ isNegative: Bool, _ value: Int, _ scale: Int, _ isFraction: Bool
    ) -> Double? {
        guard digits > 0, !isFraction || scale > 1 else { return nil }
        // JSON has no zero before another digit; an exponent is not for this scanner.
        if bytes[start] == UInt8(ascii: "0"), at - start > 1, bytes[start + 1] != UInt8(ascii: ".") { return nil }
        if bytes[at] == UInt8(ascii: "e") || bytes[at] == UInt8(ascii: "E") { return nil }
        let magnitude = Double(value) / Double(scale)
        return isNegative ? -magnitude : magnitude
    }
}

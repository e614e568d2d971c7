import FoundationEssentials
import JSON
public import Segmentation

/// Writing job lines as JSON.
extension JobLine {
    /// The line as it travels: the picture by its digest alone, and behind it where the job comes from.
    ///
    /// Where only the embedding is wanted the line itself is empty.
    public func encoded(for image: ImageDigest) -> [UInt8] {
        let note = origin.isEmpty ? [] : [JobOrigin.separator] + origin.encoded
        if asksForEmbeddingOnly { return note }
        var writer = JSONWriter()
        // Nothing in it can fail to be written: its numbers were read from JSON or checked to be finite.
        do { try write(for: image, to: &writer) } catch { return [] }
        return writer.bytes + note
    }

    private func write(for image: ImageDigest, to line: inout JSONWriter) throws {
        try line.object { line in
            if let everything { line.member("everything") { $0.written(everything.value.bytes) } }
            if let id { line.member("id") { $0.string(id) } }
            line.member("image") { $0.object { $0.member("sha256") { $0.string(image.hexadecimal) } } }
            if let instances {
                line.member("instances") { if instances == .max { $0.string("all") } else { $0.integer(instances) } }
            }
            if logits { line.member("logits") { $0.bool(true) } }
            if multimask { line.member("multimask") { $0.bool(true) } }
            line.member("output") { $0.string(output.rawValue) }
            if outlines != Outlines() {
                try line.member("polygon") {
                    try $0.object { polygon in
                        if let most = outlines.mostPoints { polygon.member("max_points") { $0.integer(most) } }
                        try polygon.member("tolerance") { try $0.number(outlines.tolerance) }
                    }
                }
            }
            if let tile { line.member("tile") { $0.string(tile.rawValue) } }
            try line.member("prompts") {
                try $0.array(Array(prompts.enumerated())) { prompt, line in
                    try line.object { line in
                        if let fault = faults[prompt.offset] {
                            line.member("error") { $0.string(fault) }
                        } else {
                            try prompt.element.write(to: &line)
                        }
                    }
                }
            }
        }
    }
}

extension Prompt {
    fileprivate func write(to line: inout JSONWriter) throws {
        if let box {
            try line.member("box") {
                try $0.array([box.x0, box.y0, box.x1, box.y1]) { try $1.number($0) }
            }
        }
        if !points.isEmpty {
            line.member("labels") { $0.array(points) { $1.integer($0.label.rawValue) } }
        }
        if let mask {
            line.member("mask") {
                $0.object { line in
                    line.member("logits") { $0.string(mask.base64) }
                    line.member("side") { $0.integer(mask.side) }
                }
            }
        }
        if !points.isEmpty {
            try line.member("points") {
                try $0.array(points) { point, line in
                    try line.array([point.x, point.y]) { try $1.number($0) }
                }
            }
        }
        if let text { line.member("text") { $0.string(text) } }
    }
}

extension LowResolutionLogits {
    /// Base64 of the logits as little-endian 32-bit floats, rows first: what a prompt's `mask` and an answer's `logits` hold.
    package var base64: String {
        var data = Data(capacity: values.count * 4)
        for value in values {
            withUnsafeBytes(of: value.bitPattern.littleEndian) { data.append(contentsOf: $0) }
        }
        return data.base64EncodedString()
    }

    /// Logits of that side that ``base64`` wrote; nil where they are none.
    package init?(side: Int, base64: String) {
        guard (1...1024).contains(side), let bytes = Data(base64Encoded: base64), bytes.count == side * side * 4 else {
            return nil
        }
        self.init(side: side, littleEndian: Array(bytes))
    }

    /// Logits of that side of their `4 * side * side` bytes.
    init(side: Int, littleEndian bytes: [UInt8]) {
        let values = bytes.withUnsafeBytes { raw in
            (0..<side * side).map { index in
                Float(
                    bitPattern: UInt32(
                        littleEndian: raw.loadUnaligned(fromByteOffset: index * 4, as: UInt32.self)))
            }
        }
        self.init(side: side, values: values)
    }
}

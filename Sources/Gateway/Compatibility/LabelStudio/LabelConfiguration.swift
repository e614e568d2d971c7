import HTTPTypes

/// What a project's labelling interface says of its pictures and of the tools for them.
///
/// The interface is XML as people write it: the elements are read one after the other, and nothing of it is resolved,
/// fetched or expanded beside the five entities that XML itself has and numbers of characters.
package struct LabelConfiguration: Sendable {
    /// An element.
    package struct Tag: Sendable, Hashable {
        /// `BrushLabels` and its like.
        package let name: String
        /// As they are written, entities resolved.
        package let attributes: [String: String]
        /// Of the `Label` elements in it.
        package var labels: [String] = []
    }

    /// Elements that are read at most.
    package static let most = 10_000

    /// The elements that may have a name of their own, in their order.
    package private(set) var tags: [Tag] = []

    /// Reads an interface.
    ///
    /// - Throws: ``Problem`` where it is no XML as far as it is looked at.
    package init(_ text: String) throws {
        var reader = TagReader(Array(text.utf8))
        var open: [(name: String, index: Int)] = []
        while let event = try reader.next() {
            switch event {
            case .open(let name, let attributes, let isEmpty):
                if name == "Label" || name == "Choice" {
                    if let value = attributes["alias"] ?? attributes["value"], let index = open.last?.index {
                        tags[index].labels.append(value)
                    }
                    if !isEmpty { open.append((name, open.last?.index ?? 0)) }
                    if tags.isEmpty { throw TagReader.fault("a Label stands in nothing") }
                } else {
                    guard tags.count < Self.most else {
                        throw TagReader.fault("there are more than \(Self.most) elements")
                    }
                    tags.append(Tag(name: name, attributes: attributes))
                    if !isEmpty { open.append((name, tags.count - 1)) }
                }
            case .close(let name):
                guard open.popLast()?.name == name else { throw TagReader.fault("</\(name)> closes what is not open") }
            }
        }
    }

    /// The first picture: its element's name, and under which name tasks hold it.
    package var image: (name: String, key: String)? {
        for tag in tags where tag.name == "Image" {
            guard let name = tag.attributes["name"] else { continue }
            let value = tag.attributes["value"] ?? "$image"
            return (name, String(value.drop { $0 == "$" }))
        }
        return nil
    }

    /// The first tool of one of these kinds for a picture, in the order of the kinds.
    ///
    /// A smart rectangle is there to prompt with, and is taken where there is nothing else.
    package func control(_ kinds: [String], for image: String) -> Tag? {
        let tools = tags.filter { tag in
            let targets = (tag.attributes["toName"] ?? "").split(separator: ",")
            return tag.attributes["name"] != nil && targets.contains(Substring(image))
        }
        func first(_ isMeant: (Tag) -> Bool) -> Tag? {
            for kind in kinds { if let tool = tools.first(where: { $0.name == kind && isMeant($0) }) { return tool } }
            return nil
        }
        return first { !($0.name.hasPrefix("Rectangle") && $0.attributes["smart"] == "true") } ?? first { _ in true }
    }
}

/// Reads the tags of XML.
private struct TagReader {
    enum Event {
        case open(String, [String: String], isEmpty: Bool)
        case close(String)
    }

    private let text: [UInt8]
    private var at = 0

    init(_ text: [UInt8]) { self.text = text }

    static func fault(_ reason: String) -> Problem {
        Problem(.badRequest, "bad-label-config", "label_config: \(reason)", field: "label_config")
    }

    mutating func next() throws(Problem) -> Event? {
        while let start = text[at...].firstIndex(of: UInt8(ascii: "<")) {
            at = start + 1
            if skips("!--", "-->") || skips("![CDATA[", "]]>") || skips("?", "?>") || skips("!", ">") { continue }
            if take("/") {
                let name = word()
                guard let end = text[at...].firstIndex(of: UInt8(ascii: ">")) else {
                    throw Self.fault("a tag does not end")
                }
                at = end + 1
                return .close(name)
            }
            return try open()
        }
        return nil
    }

    private mutating func open() throws(Problem) -> Event {
        let name = word()
        if name.isEmpty { throw Self.fault("< is no tag") }
        var attributes: [String: String] = [:]
        while true {
            skipSpace()
            if take("/>") { return .open(name, attributes, isEmpty: true) }
            if take(">") { return .open(name, attributes, isEmpty: false) }
            let attribute = word()
            skipSpace()
            guard !attribute.isEmpty, attributes.count < 256 else { throw Self.fault("<\(name)> is no tag") }
            guard take("=") else {
                attributes[attribute] = ""
                continue
            }
            skipSpace()
            guard at < text.count, text[at] == UInt8(ascii: "\"") || text[at] == UInt8(ascii: "'"),
                let end = text[(at + 1)...].firstIndex(of: text[at])
            else { throw Self.fault("the attribute \(attribute) of <\(name)> has no quoted value") }
            attributes[attribute] = Self.resolved(text[(at + 1)..<end])
            at = end + 1
        }
    }

    private mutating func word() -> String {
        let start = at
        while at < text.count, !" \t\r\n=/><\"'".utf8.contains(text[at]) { at += 1 }
        return String(decoding: text[start..<at], as: UTF8.self)
    }

    private mutating func skipSpace() { while at < text.count, " \t\r\n".utf8.contains(text[at]) { at += 1 } }

    private mutating func take(_ sign: String) -> Bool {
        guard text[at...].starts(with: sign.utf8) else { return false }
        at += sign.utf8.count
        return true
    }

    /// Skips what begins and ends so; what does not end is skipped to the end.
    private mutating func skips(_ start: String, _ end: String) -> Bool {
        guard take(start) else { return false }
        let pattern = Array(end.utf8)
        while at < text.count, !text[at...].starts(with: pattern) { at += 1 }
        at = min(text.count, at + pattern.count)
        return true
    }

    private static let entities = ["amp": "&", "lt": "<", "gt": ">", "quot": "\"", "apos": "'"]

    private static func resolved(_ value: ArraySlice<UInt8>) -> String {
        guard value.contains(UInt8(ascii: "&")) else { return String(decoding: value, as: UTF8.self) }
        var text = ""
        var rest = String(decoding: value, as: UTF8.self)[...]
        while let start = rest.firstIndex(of: "&") {
            text += rest[..<start]
            rest = rest[start...]
            guard let end = rest.prefix(12).firstIndex(of: ";") else {
                text.append("&")
                rest = rest.dropFirst()
                continue
            }
            let name = String(rest[rest.index(after: start)..<end])
            if let sign = entities[name] {
                text += sign
            } else if name.hasPrefix("#"),
                let number = name.hasPrefix("#x")
                    ? UInt32(name.dropFirst(2), radix: 16) : UInt32(name.dropFirst(1)),
                let scalar = Unicode.Scalar(number)
            {
                text.unicodeScalars.append(scalar)
            } else {
                text += rest[...end]
            }
            rest = rest[rest.index(after: end)...]
        }
        return text + rest
    }
}

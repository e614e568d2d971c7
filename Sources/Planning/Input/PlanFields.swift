import JSON
import Platform

/// The members of an object of a plan, each read once: what nobody asked for is an error, and so is a number out of bounds.
struct PlanFields {
    let place: String
    private let members: [JSONValue.Member]
    private var read: Set<String> = []

    init(_ value: JSONValue, at place: String) throws(PlanError) {
        guard let members = value.members else {
            throw PlanError(.wrongPlan, at: place, "is no object", remedy: "write it as {\"name\": value, …}")
        }
        self.place = place
        self.members = members
    }

    func path(_ name: String) -> String { place.hasSuffix(":") ? "\(place) \(name)" : "\(place).\(name)" }

    mutating func value(_ name: String) -> JSONValue? {
        read.insert(name)
        guard let value = members.first(where: { $0.name == name })?.value else { return nil }
        if case .null = value { return nil }
        return value
    }

    func missing(_ name: String, _ what: String) -> PlanError {
        PlanError(.wrongPlan, at: place, "\"\(name)\" is missing", remedy: "give \(what)")
    }

    mutating func number(
        _ name: String, in range: ClosedRange<Double>, _ what: String
    ) throws(PlanError) -> Double? {
        guard let value = value(name) else { return nil }
        guard let number = value.double, range.contains(number) else {
            throw PlanError(
                .wrongPlan, at: path(name), "is \(Self.shown(value))",
                remedy: "give \(what), from \(Self.shown(range.lowerBound)) to \(Self.shown(range.upperBound))")
        }
        return number
    }

    mutating func whole(_ name: String, in range: ClosedRange<Int>, _ what: String) throws(PlanError) -> Int? {
        guard let value = value(name) else { return nil }
        guard let number = value.integer ?? value.double.flatMap({ Int(exactly: $0) }), range.contains(number) else {
            throw PlanError(
                .wrongPlan, at: path(name), "is \(Self.shown(value))",
                remedy: "give \(what), a whole number from \(range.lowerBound) to \(range.upperBound)")
        }
        return number
    }

    mutating func text(_ name: String, among words: [String]? = nil) throws(PlanError) -> String? {
        guard let value = value(name) else { return nil }
        guard let text = value.string, words?.contains(text) ?? true else {
            throw PlanError(
                .wrongPlan, at: path(name), "is \(Self.shown(value))",
                remedy: words.map { "give one of \($0.joined(separator: ", "))" } ?? "give a text")
        }
        return text
    }

    mutating func bool(_ name: String) throws(PlanError) -> Bool? {
        guard let value = value(name) else { return nil }
        guard case .bool(let truth) = value else {
            throw PlanError(.wrongPlan, at: path(name), "is \(Self.shown(value))", remedy: "give true or false")
        }
        return truth
    }

    mutating func fields(_ name: String) throws(PlanError) -> PlanFields? {
        guard let value = value(name) else { return nil }
        return try PlanFields(value, at: path(name))
    }

    mutating func elements(_ name: String) throws(PlanError) -> [JSONValue]? {
        guard let value = value(name) else { return nil }
        guard let elements = value.elements else {
            throw PlanError(.wrongPlan, at: path(name), "is \(Self.shown(value))", remedy: "give a list: […]")
        }
        return elements
    }

    /// Says of what nobody has asked for that it is unknown.
    func finish() throws(PlanError) {
        guard let unknown = members.first(where: { !read.contains($0.name) }) else { return }
        throw PlanError(
            .wrongPlan, at: place, "\(Quotation.of(unknown.name)) is unknown",
            remedy: "take it out, or write one of \(read.sorted().joined(separator: ", "))")
    }

    /// The names of all members.
    var names: [String] { members.map(\.name) }

    static func shown(_ number: Double) -> String {
        number == number.rounded() && abs(number) < 1e15 ? "\(Int(number))" : "\(number)"
    }

    static func shown(_ value: JSONValue) -> String {
        let text = value.text
        return text.count > 60 ? "\(text.prefix(60))…" : text
    }
}

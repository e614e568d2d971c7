package import JSON

extension JSONValue {
    /// Of several measurements of one form: every number the median of the numbers in its place, all else as in the first.
    package static func medians(of measured: [JSONValue]) -> JSONValue {
        guard let first = measured.first else { return .null }
        switch first {
        case .integer:
            let numbers = measured.compactMap { if case .integer(let number) = $0 { number } else { nil } }
            return .integer(numbers.sorted()[numbers.count / 2])
        case .number:
            let numbers = measured.compactMap { if case .number(let number) = $0 { number } else { nil } }
            return .number(numbers.sorted()[numbers.count / 2])
        case .array(let items):
            let lists = measured.compactMap { if case .array(let items) = $0 { items } else { nil } }
            return .array(
                items.indices.map { index in medians(of: lists.filter { index < $0.count }.map { $0[index] }) })
        case .object(let members):
            let objects = measured.compactMap { if case .object(let members) = $0 { members } else { nil } }
            return .object(
                members.map { name, _ in
                    (name, medians(of: objects.compactMap { $0.first { $0.0 == name }?.1 }))
                })
        case .string, .bool, .null, .verbatim: return first
        }
    }
}

/// Names that a user may have meant: the least edits apart (Levenshtein 1966).
package enum NameDistance {
    /// The names closest to `name`, closest first; none that differs in more than a third of its characters.
    package static func closest(to name: String, among names: [String], count: Int) -> [String] {
        let wanted = Array(name.utf8.prefix(256))
        let limit = max(wanted.count / 3, 1)
        let ranked = names.compactMap { candidate -> (distance: Int, name: String)? in
            let bytes = Array(candidate.utf8.prefix(257))
            guard abs(bytes.count - wanted.count) <= limit else { return nil }
            let distance = distance(wanted, bytes)
            return distance <= limit ? (distance, candidate) : nil
        }
        return ranked.sorted { ($0.distance, $0.name) < ($1.distance, $1.name) }.prefix(count).map(\.name)
    }

    private static func distance(_ first: [UInt8], _ second: [UInt8]) -> Int {
        var row = Array(0...second.count)
        for (i, a) in first.enumerated() {
            var diagonal = row[0]
            row[0] = i + 1
            for (j, b) in second.enumerated() {
                let above = row[j + 1]
                row[j + 1] = min(above + 1, row[j] + 1, diagonal + (a == b ? 0 : 1))
                diagonal = above
            }
        }
        return row[second.count]
    }
}

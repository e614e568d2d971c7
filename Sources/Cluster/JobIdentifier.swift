/// What a job may be called: 1 to 128 of `A-Z a-z 0-9 . _ : @ / + -`.
package enum JobIdentifier {
    /// The longest id, in characters.
    package static let longest = 128

    /// What is wrong with an id, and what to do instead; nil for one that is right.
    package static func fault(in id: String) -> String? {
        let rule = "1 to \(longest) of A-Z a-z 0-9 . _ : @ / + - are expected"
        let remedy = "leave the id out (the answer names its picture as \"path\"), or put your own name into \"meta\""
        if id.isEmpty { return "it is empty: \(rule), or leave it out" }
        for (place, scalar) in id.unicodeScalars.enumerated() where !isAllowed(scalar) {
            return "character \(place + 1), \(CharacterName.of(scalar)), is not allowed: \(rule); \(remedy)"
        }
        let length = id.unicodeScalars.count
        return length > longest ? "it has \(length) characters: \(rule); \(remedy)" : nil
    }

    private static func isAllowed(_ scalar: Unicode.Scalar) -> Bool {
        switch scalar {
        case "A"..."Z", "a"..."z", "0"..."9", ".", "_", ":", "@", "/", "+", "-": true
        default: false
        }
    }
}

import Foundation
public import Redis

/// The users that `deploy/README.md` recommends, with the rights that it gives them; each one's password is its name.
public enum RecommendedUsers {
    /// Their names.
    public static let roles = ["submitter", "encoder", "decoder", "monitor", "gateway", "operator"]

    /// The rules, as lines of redis.conf.
    public static func rules() throws -> [String] {
        let page = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .deletingLastPathComponent().appendingPathComponent("deploy/README.md")
        let lines = try String(contentsOf: page, encoding: .utf8).split(separator: "\n").map(String.init)
        return try roles.map { role in
            guard let rule = lines.first(where: { $0.hasPrefix("user \(role) on >… ") }) else {
                throw NeverHappened(description: "deploy/README.md lost its user \(role)")
            }
            return rule.replacingOccurrences(of: ">…", with: ">\(role)")
        }
    }

    /// The address of a server as one of them.
    public static func url(_ role: String, at server: RedisURL) -> RedisURL {
        var url = server
        url.user = role
        url.password = RedisPassword(role)
        return url
    }
}

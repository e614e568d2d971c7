import Redis
import Testing

@Suite struct RedisURLTests {
    @Test(arguments: [
        ("redis://localhost", RedisURL(.tcp(host: "localhost", port: 6379))),
        ("REDIS://cache.example.org:7000/3", RedisURL(.tcp(host: "cache.example.org", port: 7000), database: 3)),
        ("redis://:secret@h", RedisURL(.tcp(host: "h", port: 6379), password: RedisPassword("secret"))),
        (
            "redis://worker:p%40ss%2F%3a%25@10.0.0.1:6380/0?cluster=off",
            RedisURL(
                .tcp(host: "10.0.0.1", port: 6380), user: "worker", password: RedisPassword("p@ss/:%"), cluster: .off)
        ),
        ("redis://[::1]:7001", RedisURL(.tcp(host: "::1", port: 7001))),
        ("redis://[fe80::1]", RedisURL(.tcp(host: "fe80::1", port: 6379))),
        ("redis://h/2?cluster=on", RedisURL(.tcp(host: "h", port: 6379), database: 2, cluster: .on)),
        ("redis://a:b@c@h", RedisURL(.tcp(host: "h", port: 6379), user: "a", password: RedisPassword("b@c"))),
        ("rediss://h:6380/1", RedisURL(.tcp(host: "h", port: 6380), database: 1, tls: RedisTLS())),
        (
            "rediss://h?ca=/etc/a%20b.pem&cert=c.pem&key=k.pem&name=redis.example",
            RedisURL(
                .tcp(host: "h", port: 6379),
                tls: RedisTLS(
                    authorities: "/etc/a b.pem", certificate: "c.pem", key: "k.pem", serverName: "redis.example"))
        ),
        (
            "redis+sentinel://w:p@a:1,[::1],c/main/2",
            RedisURL(
                .sentinels(
                    RedisSentinels(
                        [.init(host: "a", port: 1), .init(host: "::1", port: 26379), .init(host: "c", port: 26379)],
                        service: "main")), user: "w", password: RedisPassword("p"), database: 2, cluster: .off)
        ),
        (
            "rediss+sentinel://a/m",
            RedisURL(
                .sentinels(RedisSentinels([.init(host: "a", port: 26379)], service: "m")), cluster: .off,
                tls: RedisTLS())
        ),
        ("unix:///run/kirie/redis.sock", RedisURL(.unixSocket(path: "/run/kirie/redis.sock"))),
        (
            "unix://u:p@/tmp/a%20b.sock?db=4",
            RedisURL(.unixSocket(path: "/tmp/a b.sock"), user: "u", password: RedisPassword("p"), database: 4)
        ),
    ])
    func reads(_ text: String, _ expected: RedisURL) throws {
        #expect(try RedisURL(text) == expected)
    }

    @Test(arguments: [
        ("localhost:6379", RedisURLError.noScheme), ("http://h", .unknownScheme),
        ("redis://h?ca=/a.pem", .optionOfEncryption), ("unix:///s?cert=a", .optionOfEncryption),
        ("redis://", .missingHost), ("redis://:6379", .missingHost), ("redis://[::1", .missingHost),
        ("redis://h:0", .invalidPort), ("redis://h:65536", .invalidPort), ("redis://h:x", .invalidPort),
        ("redis://[::1]x", .invalidPort), ("redis://h/x", .invalidDatabase), ("redis://h/-1", .invalidDatabase),
        ("redis://h/99999999999999999999", .invalidDatabase), ("redis://user@h", .userWithoutPassword),
        ("redis://user:@h", .userWithoutPassword), ("redis://u:%zz@h", .percentEncoding(part: "password")),
        ("redis://u:%4@h", .percentEncoding(part: "password")), ("redis://u:%ff@h", .percentEncoding(part: "password")),
        ("unix://", .missingPath), ("unix:///", .missingPath), ("unix://tmp/redis.sock", .hostOfUnixSocket),
        ("unix:///" + String(repeating: "x", count: 107), .pathTooLong), ("unix:///a%00b", .pathTooLong),
        ("redis://h?cluster=maybe", .clusterOption), ("redis://h?timeout=3", .unknownOption),
        ("redis+sentinel://a:1,b:2", .missingService), ("redis+sentinel://a:1,/m", .missingHost),
        ("redis+sentinel://a:1/m/x", .invalidDatabase), ("redis+sentinel://a/m/1/2", .missingService),
        ("redis://h#1", .fragment),
        ("redis://u:pa/ss@h", .invalidPort),
    ])
    func refuses(_ text: String, _ expected: RedisURLError) {
        #expect(throws: expected) { try RedisURL(text) }
    }

    /// An address in a file or in `ps` names the user alone; the password comes another way.
    @Test func aPasswordFromElsewhereStandsInForOneThatIsMissing() throws {
        let other = RedisPassword("other")
        for text in ["redis://worker@h", "redis://worker:@h"] {
            let url = try RedisURL(text, password: other)
            #expect(url == RedisURL(.tcp(host: "h", port: 6379), user: "worker", password: other))
        }
        #expect(try RedisURL("redis://h", password: other).password == other)
        #expect(try RedisURL("redis://worker:own@h", password: other).password == RedisPassword("own"))
        #expect(throws: RedisURLError.userWithoutPassword) { try RedisURL("redis://worker@h") }
    }

    @Test func neverShowsThePassword() throws {
        let url = try RedisURL("redis://worker:tops3cret@h:7000/2")
        var dumped = ""
        dump(url, to: &dumped)
        for text in [url.description, url.debugDescription, "\(url)", dumped, "\(String(reflecting: url.password))"] {
            #expect(!text.contains("tops3cret"))
        }
        #expect(url.description == "redis://worker:***@h:7000/2")
        for broken in ["u:tops3cret/@h", "u:tops3cret#@h", "u:tops3cret?@h", "u:%tops3cret@h"].map({ "redis://\($0)" })
        {
            do {
                _ = try RedisURL(broken)
                Issue.record("\(broken) was read")
            } catch {
                #expect(!"\(error)".contains("tops3cret"))
            }
        }
    }
}

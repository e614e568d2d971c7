import Gateway
import Synchronization
import Testing

/// A time that only moves when it is told to.
private final class Clock: Sendable {
    /// Guards the time.
    let value: Mutex<ContinuousClock.Instant>

    init(_ start: ContinuousClock.Instant) { value = Mutex(start) }
}

/// Keys, rates and names.
@Suite struct AccessTests {
    @Test func aKeyIsFoundByItsTextAndKeptAsItsHash() throws {
        let (key, line) = ApiKeys.make(name: "one", scopes: [.read, .submit], requestsPerSecond: 2.5, masksPerDay: 10)
        #expect(!line.contains(key))
        let keys = try ApiKeys(parsing: "\n\(line)\n".utf8, named: "keys")
        let entry = try #require(keys.entry(of: key))
        #expect(entry.name == "one")
        #expect(entry.scopes == [.read, .submit])
        #expect(entry.requestsPerSecond == 2.5)
        #expect(entry.masksPerDay == 10)
        #expect(keys.entry(of: key + " ") == nil)
        #expect(keys.entry(of: "") == nil)
    }

    @Test(arguments: [
        "no JSON", "{}", #"{"name":"a"}"#, #"{"name":"a","sha256":"12","scopes":["read"]}"#,
        #"{"name":"a b","sha256":"\#(String(repeating: "0", count: 64))","scopes":["read"]}"#,
        #"{"name":"a","sha256":"\#(String(repeating: "0", count: 64))","scopes":[]}"#,
        #"{"name":"a","sha256":"\#(String(repeating: "0", count: 64))","scopes":["rule"]}"#,
        #"{"name":"a","sha256":"\#(String(repeating: "0", count: 64))","scopes":["read"],"masks_per_day":0}"#,
        #"{"name":"a","sha256":"\#(String(repeating: "0", count: 64))","scopes":["read"],"colour":1}"#,
    ])
    func aFileThatIsWrongIsRefusedByItsLine(_ line: String) {
        let fault = #expect(throws: ApiKeyError.self) { try ApiKeys(parsing: "\n\(line)".utf8, named: "keys") }
        #expect(fault?.place == "keys: line 2")
    }

    @Test func aRateGivesTwoSecondsWorthAndThenWhatTimeBrings() {
        let start = ContinuousClock.now
        let now = Clock(start)
        let limiter = RateLimiter { now.value.withLock { $0 } }
        for _ in 0..<20 { #expect(limiter.take("a", perSecond: 10) == nil) }
        #expect(limiter.take("a", perSecond: 10) != nil)
        #expect(limiter.take("b", perSecond: 10) == nil)
        now.value.withLock { $0 = start + .milliseconds(100) }
        #expect(limiter.take("a", perSecond: 10) == nil)
        #expect(limiter.take("a", perSecond: 10) != nil)
    }

    @Test(arguments: [
        ("localhost:8080", "localhost"), ("127.0.0.1", "127.0.0.1"), ("[::1]:80", "[::1]"), ("[::1]", "[::1]"),
        ("KIRIE.example.:443", "kirie.example"), ("", ""),
    ])
    func hosts(_ authority: String, _ host: String) { #expect(Authority.host(of: authority) == host) }

    @Test(arguments: [
        ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", true),
        ("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more", true),
        ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more", false),
        ("00-00000000000000000000000000000000-00f067aa0ba902b7-01", false),
        ("00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01", false),
        ("ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", false), ("", false), ("00-XY", false),
    ])
    func traces(_ header: String, _ isGood: Bool) { #expect((TraceContext(header) != nil) == isGood) }
}

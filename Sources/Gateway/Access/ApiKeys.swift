package import Cluster
import FoundationEssentials
import Hashing
import JSON
package import Platform
import Synchronization

/// The keys that a gateway knows: a file of JSON lines, in which each key stands as its SHA-256 alone.
///
/// ```json
/// {"name":"annotators","sha256":"…","scopes":["read","submit"],"requests_per_second":20,"masks_per_day":100000}
/// {"name":"lab-1","sha256":"…","scopes":["read","submit"],"tenant":"lab","weight":3}
/// ```
/// A key is 256 random bits, so its plain hash tells nobody what it is; a password would need a slow one.
package struct ApiKeys: Sendable {
    /// One key.
    package struct Entry: Sendable, Hashable {
        /// Unique; it stands in logs and quotas.
        package let name: String
        /// Of the key's text.
        package let digest: [UInt8]
        /// What its holder may do.
        package let scopes: Set<Scope>
        /// Requests that it may send a second, on average; nil for any number.
        package let requestsPerSecond: Double?
        /// Masks that it may ask for a day (UTC); nil for any number.
        package let masksPerDay: Int?
        /// Whose jobs and pictures it speaks of.
        package let tenant: Tenant
        /// What that tenant's turns weigh; nil for what was set, or 1.
        package let weight: Int?
    }

    /// The keys in their order.
    package let entries: [Entry]

    /// Reads the text of a file.
    ///
    /// - Throws: ``ApiKeyError`` that names the line and what is wrong with it.
    package init(parsing text: some Collection<UInt8>, named name: String) throws(ApiKeyError) {
        var entries: [Entry] = []
        var lines: [[UInt8]] = [[]]
        for byte in text { if byte == 0x0A { lines.append([]) } else { lines[lines.count - 1].append(byte) } }
        for (index, line) in lines.enumerated() where line.contains(where: { $0 != 0x20 && $0 != 0x0D && $0 != 0x09 }) {
            let entry = try Self.entry(line, at: "\(name): line \(index + 1)")
            if entries.contains(where: { $0.name == entry.name }) {
                throw ApiKeyError(place: "\(name): line \(index + 1)", reason: "a second key of the name \(entry.name)")
            }
            if let weight = entry.weight,
                let other = entries.first(where: { $0.tenant == entry.tenant && ($0.weight ?? weight) != weight })
            {
                throw ApiKeyError(
                    place: "\(name): line \(index + 1)",
                    reason:
                        "weight: \(weight) of the tenant \(entry.tenant), whose key \(other.name) says \(other.weight ?? 1)"
                )
            }
            entries.append(entry)
        }
        self.entries = entries
    }

    /// The key of that text; every entry is compared, in constant time.
    package func entry(of key: String) -> Entry? {
        let digest = SHA256.hash(key.utf8).bytes
        var found: Entry?
        for entry in entries where Self.areEqual(entry.digest, digest) { found = entry }
        return found
    }

    /// A new key, and the line that stands for it in the file.
    package static func make(
        name: String, scopes: [Scope], requestsPerSecond: Double?, masksPerDay: Int?, tenant: String? = nil,
        weight: Int? = nil
    ) -> (key: String, line: String) {
        var generator = SystemRandomNumberGenerator()
        let random = (0..<4).flatMap { _ in
            withUnsafeBytes(of: UInt64.random(in: .min ... .max, using: &generator)) { Array($0) }
        }
        let key = "kirie_" + Hexadecimal.text(of: random)
        var members: [JSONValue.Member] = [
            ("name", .string(name)), ("sha256", .string(Hexadecimal.text(of: SHA256.hash(key.utf8).bytes))),
            ("scopes", .array(scopes.map { .string($0.rawValue) })),
        ]
        if let requestsPerSecond { members.append(("requests_per_second", .number(requestsPerSecond))) }
        if let masksPerDay { members.append(("masks_per_day", .integer(masksPerDay))) }
        if let tenant { members.append(("tenant", .string(tenant))) }
        if let weight { members.append(("weight", .integer(weight))) }
        return (key, JSONValue.object(members).text)
    }

    private static func areEqual(_ left: [UInt8], _ right: [UInt8]) -> Bool {
        guard left.count == right.count else { return false }
        return zip(left, right).reduce(UInt8(0)) { $0 | ($1.0 ^ $1.1) } == 0
    }

    private static func entry(_ line: [UInt8], at place: String) throws(ApiKeyError) -> Entry {
        let value: JSONValue
        do throws(JSONValue.Fault) { value = try JSONValue(parsing: line) } catch {
            throw ApiKeyError(place: place, reason: "this is not JSON: \(error.reason)")
        }
        let known: Set<String> = [
            "name", "sha256", "scopes", "requests_per_second", "masks_per_day", "tenant", "weight",
        ]
        if let stranger = value.members?.first(where: { !known.contains($0.name) }) {
            throw ApiKeyError(place: place, reason: "there is no field \(Quotation.of(stranger.name))")
        }
        guard let name = value["name"]?.string, (1...64).contains(name.utf8.count),
            name.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7F && $0 != 0x22 })
        else { throw ApiKeyError(place: place, reason: "name: 1 to 64 letters are expected") }
        guard let digest = value["sha256"]?.string.flatMap({ Hexadecimal.bytes(of: $0) }), digest.count == 32 else {
            throw ApiKeyError(place: place, reason: "sha256: 64 hexadecimal digits are expected")
        }
        let words = value["scopes"]?.elements?.map { $0.string.flatMap(Scope.init(rawValue:)) } ?? []
        guard !words.isEmpty, !words.contains(nil) else {
            throw ApiKeyError(place: place, reason: "scopes: a list of read, submit and operate is expected")
        }
        let rate: Double? =
            switch value["requests_per_second"] {
            case .number(let rate): rate
            case .integer(let rate): Double(rate)
            default: nil
            }
        if value["requests_per_second"] != nil, !(rate.map { $0 > 0 && $0 <= 1e6 } ?? false) {
            throw ApiKeyError(place: place, reason: "requests_per_second: a number above 0 is expected")
        }
        let quota = value["masks_per_day"]?.integer
        if value["masks_per_day"] != nil, !(quota.map { $0 > 0 } ?? false) {
            throw ApiKeyError(place: place, reason: "masks_per_day: a whole number above 0 is expected")
        }
        let (tenant, weight) = try terms(value, scopes: words, at: place)
        return Entry(
            name: name, digest: digest, scopes: Set(words.compactMap(\.self)), requestsPerSecond: rate,
            masksPerDay: quota, tenant: tenant, weight: weight)
    }
}

extension ApiKeys {
    /// Whose key it is, and what the tenant's turns weigh.
    private static func terms(
        _ value: JSONValue, scopes: [Scope?], at place: String
    ) throws(ApiKeyError) -> (Tenant, weight: Int?) {
        var tenant = Tenant.standard
        if let member = value["tenant"] {
            guard let name = member.string else {
                throw ApiKeyError(place: place, reason: "tenant: a name is expected")
            }
            if let fault = Tenant.fault(in: name) { throw ApiKeyError(place: place, reason: "tenant: \(fault)") }
            tenant = Tenant(name) ?? .standard
        }
        let weight = value["weight"]?.integer
        if value["weight"] != nil, !(weight.map { TenantTerms.weights.contains($0) } ?? false) {
            let (least, most) = (TenantTerms.weights.lowerBound, TenantTerms.weights.upperBound)
            throw ApiKeyError(place: place, reason: "weight: a whole number from \(least) to \(most) is expected")
        }
        // What operators do is done to everybody's jobs.
        if !tenant.isStandard, scopes.contains(.operate) {
            throw ApiKeyError(
                place: place,
                reason:
                    "scopes: operate is of the whole cluster, and a key of the tenant \(tenant) speaks for that one alone"
            )
        }
        return (tenant, weight)
    }
}

/// A file of keys that cannot be used.
package struct ApiKeyError: ReportableError {
    /// File and line.
    package let place: String
    /// What is wrong there.
    package let reason: String

    /// A fault of that place.
    package init(place: String, reason: String) {
        self.place = place
        self.reason = reason
    }

    /// What is wrong, and where.
    package var report: ErrorReport { ErrorReport(.usage, "bad-key-file", at: place, reason) }
    /// The report in one line.
    package var description: String { report.text }
}

/// Tokens that come back with time: how many requests a key may send.
package final class RateLimiter: Sendable {
    private struct Bucket {
        var tokens: Double
        var at: ContinuousClock.Instant
    }

    /// Guards the buckets, one for each key.
    private let buckets = Mutex<[String: Bucket]>([:])
    private let now: @Sendable () -> ContinuousClock.Instant

    /// A limiter of the time that `now` tells.
    package init(now: @escaping @Sendable () -> ContinuousClock.Instant = { .now }) { self.now = now }

    /// Takes a token, of which two seconds' worth may come at once; returns nil, or after what time there is one again.
    package func take(_ name: String, perSecond rate: Double) -> Duration? {
        let now = now()
        return buckets.withLock { buckets in
            let most = max(1, rate * 2)
            var bucket = buckets[name] ?? Bucket(tokens: most, at: now)
            bucket.tokens = min(most, bucket.tokens + (now - bucket.at) / .seconds(1) * rate)
            bucket.at = now
            defer { buckets[name] = bucket }
            guard bucket.tokens >= 1 else { return .seconds((1 - bucket.tokens) / rate) }
            bucket.tokens -= 1
            return nil
        }
    }
}

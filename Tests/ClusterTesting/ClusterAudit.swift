public import Cluster
import Redis
import Segmentation

/// A look through every key of a cluster that has nothing left to do, for whatever should not be there.
///
/// It goes by the protocol's list of keys and knows nothing of how the functions work: each job in one terminal state, of
/// which it told once; no job, lease, entry, encode in flight or reference that was forgotten; every gauge at zero; totals that
/// add up; only what may be evicted or is still needed has, or has not, a time to live.
public struct ClusterAudit: Sendable {
    /// What is wrong, in words; empty where all is well.
    public private(set) var findings: [String] = []
    /// Every job that is known, and how it ended.
    public private(set) var states: [JobReference: JobState] = [:]

    private let broker: Broker

    /// Audits a cluster; jobs must not have been forgotten after their retention yet.
    public init(of broker: Broker) async throws {
        self.broker = broker
        let namespace = broker.keys.namespace
        var names: [Partition: Set<String>] = [:]
        var common: Set<String> = []
        let prefixes = broker.partitions.map { ($0, broker.keys.prefix($0)) }
        try await broker.redis.scan(match: "\(namespace):*", count: 4096) { page throws(RedisError) in
            for key in page.map(\.string) {
                if let (partition, prefix) = prefixes.first(where: { key.hasPrefix($0.1) }) {
                    names[partition, default: []].insert(String(key.dropFirst(prefix.count)))
                } else {
                    common.insert(String(key.dropFirst(namespace.count + 1)))
                }
            }
        }
        for key in common.subtracting(["workers", "models", "cluster", "embeddings"]) {
            findings.append("a key that nobody knows: \(namespace):\(key)")
        }
        for partition in broker.partitions { try await audit(partition, names[partition] ?? []) }
    }

    private mutating func audit(_ partition: Partition, _ names: Set<String>) async throws {
        let prefix = broker.keys.prefix(partition)
        var byKind: [String: [String]] = [:]
        for name in names.sorted() {
            let parts = name.split(separator: ":", maxSplits: 1)
            byKind[parts.first.map(String.init) ?? "", default: []].append(parts.count > 1 ? String(parts[1]) : "")
        }
        var jobs: [String: JobState] = [:]
        let ids = byKind["job"] ?? []
        for (id, reply) in zip(ids, try await ask(ids.map { RedisCommand("HGET", "\(prefix)job:\($0)", "state") })) {
            guard let state = reply.string.flatMap(JobState.init(rawValue:)) else {
                findings.append("\(prefix)job:\(id) has no state")
                continue
            }
            if !state.isTerminal { findings.append("\(prefix)job:\(id) is \(state.rawValue)") }
            jobs[id] = state
            states[JobReference(name: id, partition: partition)] = state
        }
        let resting = try await checkReferences(prefix)
        for (kind, rest) in byKind.sorted(by: { $0.key < $1.key }) {
            switch kind {
            case "job", "counters", "rates", "clock", "turn", "limits", "reply", "refs", "idle": break
            // Of tenants: what they may name, and whose turn it was.
            case "known", "weights", "quotas", "spent", "shares", "fair": break
            case "tenants": try await checkTenants(prefix, jobs)
            case "image": try await checkMortality(prefix, kind, rest.filter { resting[$0] == nil })
            case "embedding", "candidates": try await checkMortality(prefix, kind, rest)
            case "line":
                for id in rest where jobs[id] != .dead { findings.append("\(prefix)line:\(id) was left behind") }
            case "result":
                for id in rest where jobs[id] != .done { findings.append("\(prefix)result:\(id) of no finished job") }
            case "done": try await checkEndings(prefix, rest, jobs)
            case "encode", "decode": try await checkStream(prefix, kind, rest)
            case "dead": try await checkDeadLetters(prefix, jobs)
            case "ends": try await checkEnds(prefix, jobs)
            default: findings += rest.map { "\(prefix)\(kind)\($0.isEmpty ? "" : ":" + $0) was left behind" }
            }
        }
        for (id, state) in jobs where state.isTerminal {
            if !names.contains("done:\(id)") { findings.append("\(prefix)job:\(id) told nobody of its end") }
            if state == .done, !names.contains("result:\(id)") { findings.append("\(prefix)job:\(id) has no result") }
        }
        try await checkCounters(prefix, byKind["result"] ?? [], jobs, imageBytes: resting.values.reduce(0, +))
    }

    /// What may go when memory is short, and what no job needs any more, has its time.
    private mutating func checkMortality(_ prefix: String, _ kind: String, _ rest: [String]) async throws {
        let replies = try await ask(rest.map { RedisCommand("PTTL", "\(prefix)\(kind):\($0)") })
        // -2: it went between the scan and this question.
        for (name, reply) in zip(rest, replies) where reply.integer == -1 {
            findings.append("\(prefix)\(kind):\(name) never ends")
        }
    }

    /// No job needs an image; those in their grace, with their bytes, are to be let go of.
    private mutating func checkReferences(_ prefix: String) async throws -> [String: Int] {
        let references = try await broker.redis.fields("\(prefix)refs").compactMapValues(\.integer)
        let reply = try await ask([RedisCommand("ZRANGE", "\(prefix)ends", "0", "-1")])[0]
        let ends = Set((reply.array ?? []).compactMap(\.string))
        var resting: [String: Int] = [:]
        for (image, count) in references where !image.hasPrefix("b:") && !image.hasPrefix("t:") {
            if count != 0 { findings.append("\(prefix)refs: \(count) jobs need image \(image)") }
            if !ends.contains("i:\(image)") { findings.append("\(prefix)refs: nobody will let go of image \(image)") }
            resting[image] = references["b:\(image)"] ?? 0
        }
        for name in try await broker.redis.fields("\(prefix)refs").keys where name.hasPrefix("p:") {
            findings.append("\(prefix)refs: \(name) is still pinned")
        }
        for name in references.keys where name.hasPrefix("b:") && resting[String(name.dropFirst(2))] == nil {
            findings.append("\(prefix)refs: \(name) was left behind")
        }
        return resting
    }

    private mutating func checkEndings(_ prefix: String, _ rest: [String], _ jobs: [String: JobState]) async throws {
        let replies = try await ask(rest.map { RedisCommand("LRANGE", "\(prefix)done:\($0)", "0", "-1") })
        for (id, reply) in zip(rest, replies) {
            let told = (reply.array ?? []).compactMap(\.string)
            if told != [jobs[id]?.rawValue ?? "no job"] {
                findings.append("\(prefix)job:\(id) is \(jobs[id]?.rawValue ?? "no job") and told \(told)")
            }
        }
    }

    private mutating func checkStream(_ prefix: String, _ stage: String, _ rest: [String]) async throws {
        for lane in rest {
            let key = "\(prefix)\(stage):\(lane)"
            let left = try await broker.redis.entryCount(key)
            if lane.contains("@") { findings.append("\(key) of a tenant was left behind") }
            if left > 0 { findings.append("\(key) holds \(left) entries") }
            for group in try await broker.redis.groups(key) where group.pending > 0 {
                findings.append("\(key): \(group.pending) entries are not acknowledged")
            }
        }
    }

    /// No tenant has an unfinished job, and each has the bytes of its ended ones and of pictures in their grace.
    private mutating func checkTenants(_ prefix: String, _ jobs: [String: JobState]) async throws {
        let replies = try await ask(
            ["jobs", "bytes"].map { RedisCommand("ZRANGE", "\(prefix)tenants:\($0)", "0", "-1", "WITHSCORES") })
        let figures = replies.map { reply -> [String: Int] in
            let flat = (reply.array ?? []).compactMap(\.string)
            return Dictionary(
                uniqueKeysWithValues: stride(from: 0, to: flat.count - 1, by: 2).map {
                    (flat[$0], Int(Double(flat[$0 + 1]) ?? -1))
                })
        }
        if !figures[0].isEmpty { findings.append("\(prefix)tenants:jobs holds \(figures[0])") }
        let ids = jobs.keys.filter { $0.contains("~") }
        let kept = try await ask(ids.map { RedisCommand("HGET", "\(prefix)job:\($0)", "kept") })
        var held: [String: Int] = [:]
        func owe(_ tenant: Substring, _ bytes: Int) { held[String(tenant), default: 0] += bytes }
        for (id, reply) in zip(ids, kept) { owe(id.prefix { $0 != "~" }, reply.integer ?? 0) }
        let references = try await broker.redis.fields("\(prefix)refs")
        for (name, tenant) in references where name.hasPrefix("t:") {
            owe((tenant.string ?? "")[...], references["b:\(name.dropFirst(2))"]?.integer ?? 0)
        }
        if held != figures[1] { findings.append("\(prefix)tenants:bytes holds \(figures[1]), kept are \(held)") }
    }

    private mutating func checkDeadLetters(_ prefix: String, _ jobs: [String: JobState]) async throws {
        let reply = try await ask([RedisCommand("XRANGE", "\(prefix)dead", "-", "+")])[0]
        let letters = (reply.array ?? []).compactMap { $0.array?.last?.fields }
        let named = letters.filter { $0["source"]?.string != "stream" }.compactMap { $0["job"]?.string }
        let dead = jobs.filter { $0.value == .dead }.map(\.key)
        if named.sorted() != dead.sorted() {
            findings.append("\(prefix)dead: letters of \(named.sorted()), dead jobs are \(dead.sorted())")
        }
    }

    private mutating func checkEnds(_ prefix: String, _ jobs: [String: JobState]) async throws {
        let reply = try await ask([RedisCommand("ZRANGE", "\(prefix)ends", "0", "-1")])[0]
        let members = Set((reply.array ?? []).compactMap(\.string).filter { $0.hasPrefix("j:") })
        let wanted = Set(jobs.filter { $0.value != .dead }.map { "j:\($0.key)" })
        if members != wanted {
            findings.append(
                "\(prefix)ends: not those of the ended jobs: \(members.symmetricDifference(wanted).sorted())")
        }
    }

    private mutating func checkCounters(
        _ prefix: String, _ results: [String], _ jobs: [String: JobState], imageBytes: Int
    ) async throws {
        let fields = try await broker.redis.fields("\(prefix)counters").compactMapValues(\.integer)
        let lanes = Lane.allCases.map(\.rawValue)
        let gauges = [
            "parked", "queued", "delayed", "in_work", "divided", "bytes", "encode_queued", "encode_delayed",
            "encode_in_work",
        ]
        for name in gauges.flatMap({ gauge in lanes.map { "\(gauge):\($0)" } }) {
            if let held = fields[name], held != 0 { findings.append("\(prefix)counters: \(name) is \(held)") }
        }
        if fields["image_bytes"] ?? 0 != imageBytes {
            findings.append("\(prefix)counters: image_bytes is \(fields["image_bytes"] ?? 0), \(imageBytes) are held")
        }
        let sizes = try await ask(results.map { RedisCommand("STRLEN", "\(prefix)result:\($0)") })
        // 512 beside each result, and in the place of one; and the notes of those that have none.
        let ended = jobs.filter(\.value.isTerminal).map(\.key)
        let notes = try await ask(ended.map { RedisCommand("HSTRLEN", "\(prefix)job:\($0)", "note") })
        let bytes = (sizes + notes).reduce(0) { $0 + ($1.integer ?? 0) } + 512 * ended.count
        if bytes != fields["result_bytes"] ?? 0 {
            findings.append("\(prefix)counters: result_bytes is \(fields["result_bytes"] ?? 0), \(bytes) are kept")
        }
        let dead = jobs.filter { $0.value == .dead }.map(\.key)
        let lines = try await ask(dead.map { RedisCommand("STRLEN", "\(prefix)line:\($0)") })
        let letters = try await broker.redis.entryCount("\(prefix)dead")
        let deadBytes = lines.reduce(0) { $0 + ($1.integer ?? 0) } + 512 * letters
        if deadBytes != fields["dead_bytes"] ?? 0 {
            findings.append("\(prefix)counters: dead_bytes is \(fields["dead_bytes"] ?? 0), \(deadBytes) are kept")
        }
        func total(_ name: String) -> Int { lanes.reduce(0) { $0 + (fields["\(name):\($1)"] ?? 0) } }
        let endings = JobState.allCases.filter(\.isTerminal).reduce(0) { $0 + total($1.rawValue) }
        if total("in") != total("out") || endings != total("out") {
            findings.append("\(prefix)counters: \(total("in")) in, \(total("out")) out, \(endings) ended")
        }
        if total("in") - (fields["revived"] ?? 0) != jobs.count {
            findings.append("\(prefix)counters: \(total("in")) accepted, \(jobs.count) known")
        }
    }

    private func ask(_ commands: [RedisCommand]) async throws -> [RedisValue] {
        var replies: [RedisValue] = []
        for start in stride(from: 0, to: commands.count, by: 512) {
            replies += try await broker.redis.pipeline(Array(commands[start..<min(start + 512, commands.count)]))
        }
        if let error = replies.lazy.compactMap(\.error).first { throw error }
        return replies
    }
}

/// Which node of a Redis Cluster holds which slots, as CLUSTER SLOTS tells it.
struct ClusterMap: Sendable {
    /// The host and port of a node.
    struct Address: Sendable, Hashable {
        let host: String
        let port: Int
    }

    /// What an error reply asks a client to do.
    enum Redirection: Sendable, Hashable {
        /// The slot has moved for good: go there, and read the map again.
        case moved(Address)
        /// The slot is being moved and this key is there already: go there once, after ASKING.
        case ask(Address)
        /// The slot is between two nodes, or the cluster has no quorum: try again in a moment.
        case later
    }

    /// The nodes that own slots.
    private(set) var primaries: [Address] = []
    /// Their replicas, any of which may be a primary when the map is read the next time.
    private(set) var replicas: [Address] = []
    private var owners: [Int16]

    /// How many slots have an owner: all 16384 unless the cluster, or what a node knows of it, is in pieces.
    var coverage: Int { owners.count { $0 >= 0 } }

    init() { owners = Array(repeating: -1, count: HashSlot.count) }

    /// Reads the answer to CLUSTER SLOTS; nil where it is none.
    ///
    /// A node that names itself by an empty host is the one that answered: `fallback` is its host.
    init?(_ reply: RedisValue, fallback: String) {
        self.init()
        guard let ranges = reply.array else { return nil }
        var places: [Address: Int16] = [:]
        for range in ranges {
            guard let parts = range.array, parts.count >= 3, let first = parts[0].integer, let last = parts[1].integer,
                0 <= first, first <= last, last < HashSlot.count, let node = parts[2].array, node.count >= 2,
                let port = node[1].integer, (1...65535).contains(port)
            else { return nil }
            let address = Address(host: Self.host(node[0].string ?? "", fallback: fallback), port: port)
            let place = places[address] ?? Int16(primaries.count)
            if places[address] == nil {
                guard primaries.count < Int(Int16.max) else { return nil }
                places[address] = place
                primaries.append(address)
            }
            for slot in first...last { owners[slot] = place }
            for replica in parts[3...] {
                guard let node = replica.array, node.count >= 2, let port = node[1].integer, (1...65535).contains(port)
                else { continue }
                let address = Address(host: Self.host(node[0].string ?? "", fallback: fallback), port: port)
                if !replicas.contains(address) { replicas.append(address) }
            }
        }
    }

    /// A node that does not know its own name stands as an empty one or as `?`.
    private static func host(_ name: String, fallback: String) -> String {
        name.isEmpty || name == "?" ? fallback : name
    }

    /// The node that owns a slot; any for commands without a key; nil where nobody does.
    func owner(of slot: Int?) -> Address? {
        guard let slot else { return primaries.first }
        let place = Int(owners[slot])
        return place < 0 ? nil : primaries[place]
    }

    /// Reads `MOVED <slot> <host>:<port>` and its like; nil for other errors.
    static func redirection(_ error: RedisServerError, from node: Address) -> Redirection? {
        switch error.code {
        case "TRYAGAIN", "CLUSTERDOWN", "LOADING", "MASTERDOWN", "READONLY", "UNBLOCKED": return .later
        case "MOVED", "ASK":
            let words = error.message.split(separator: " ")
            guard words.count == 3, let colon = words[2].lastIndex(of: ":"),
                let port = Int(words[2][words[2].index(after: colon)...]), (1...65535).contains(port)
            else { return nil }
            let address = Address(host: host(String(words[2][..<colon]), fallback: node.host), port: port)
            return error.code == "ASK" ? .ask(address) : .moved(address)
        default: return nil
        }
    }
}

/// A dictionary whose values have a cost: beyond a limit those go that were not used for longest.
///
/// Every operation takes constant time, an insertion besides for every value that has to go.
/// The entries form a doubly linked ring through an array; place 0 is the ring's anchor.
///
/// ```text
///   anchor.next ─▶ newest ─▶ … ─▶ oldest ─▶ anchor
/// ```
public struct LeastRecentlyUsed<Key: Hashable, Value> {
    fileprivate struct Node {
        var key: Key?
        var value: Value?
        var cost = 0
        var previous = 0
        var next = 0
    }

    /// What the values may cost together; not negative.
    public let limit: Int
    /// What they do cost.
    public private(set) var cost = 0
    /// How many went because of the limit.
    public private(set) var evictions = 0
    private var nodes = [Node()]
    private var places: [Key: Int] = [:]
    private var free: [Int] = []

    /// An empty dictionary.
    public init(limit: Int) { self.limit = max(0, limit) }

    /// The number of values.
    public var count: Int { places.count }

    /// Looks a value up and makes it the newest.
    public mutating func value(for key: Key) -> Value? {
        guard let place = places[key] else { return nil }
        unlink(place)
        link(place)
        return nodes[place].value
    }

    /// Looks a value up and leaves its age.
    public func peek(_ key: Key) -> Value? { places[key].flatMap { nodes[$0].value } }

    /// Keeps a value as the newest and returns what had to go for it, the oldest first.
    ///
    /// A value that costs more than the limit is not kept and nothing goes for it: it is what is returned.
    @discardableResult
    public mutating func insert(_ value: Value, for key: Key, cost: Int) -> [(key: Key, value: Value)] {
        remove(key)
        guard cost <= limit else { return [(key, value)] }
        var gone: [(key: Key, value: Value)] = []
        while self.cost > limit - cost, let oldest = nodes[nodes[0].previous].key, let value = remove(oldest) {
            gone.append((oldest, value))
            evictions += 1
        }
        let place = free.popLast() ?? nodes.count
        if place == nodes.count { nodes.append(Node()) }
        nodes[place] = Node(key: key, value: value, cost: cost)
        places[key] = place
        self.cost += cost
        link(place)
        return gone
    }

    /// Removes a value and returns it.
    @discardableResult
    public mutating func remove(_ key: Key) -> Value? {
        guard let place = places.removeValue(forKey: key) else { return nil }
        unlink(place)
        let node = nodes[place]
        nodes[place] = Node()
        free.append(place)
        cost -= node.cost
        return node.value
    }

    private mutating func link(_ place: Int) {
        let next = nodes[0].next
        nodes[place].previous = 0
        nodes[place].next = next
        nodes[next].previous = place
        nodes[0].next = place
    }

    private mutating func unlink(_ place: Int) {
        let (previous, next) = (nodes[place].previous, nodes[place].next)
        nodes[previous].next = next
        nodes[next].previous = previous
    }
}

extension LeastRecentlyUsed: Sendable where Key: Sendable, Value: Sendable {}
extension LeastRecentlyUsed.Node: Sendable where Key: Sendable, Value: Sendable {}

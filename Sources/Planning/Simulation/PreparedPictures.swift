/// The pictures that a decoder has ready in its memory, bounded by bytes; the least recently used go first.
package struct PreparedPictures {
    private struct Node {
        var picture: Int32
        var before: Int32
        var after: Int32
    }

    private let limit: Int
    private let bytesEach: Int
    private var nodes: [Node] = []
    private var places: [Int32: Int32] = [:]
    private var newest: Int32 = -1
    private var oldest: Int32 = -1

    /// - Parameters:
    ///   - limit: bytes that the pictures may take together.
    ///   - bytesEach: what one takes.
    package init(limit: Int, bytesEach: Int) {
        self.limit = limit
        self.bytesEach = max(1, bytesEach)
    }

    package var count: Int { places.count }
    package var bytes: Int { places.count * bytesEach }

    /// Whether a picture is there, which is the most recently used from then on.
    package mutating func use(_ picture: Int32) -> Bool {
        guard let place = places[picture] else { return false }
        unlink(place)
        link(place)
        return true
    }

    package mutating func insert(_ picture: Int32) {
        if use(picture) || bytesEach > limit { return }
        let place: Int32
        if (places.count + 1) * bytesEach > limit {
            place = oldest
            unlink(place)
            places[nodes[Int(place)].picture] = nil
            nodes[Int(place)].picture = picture
        } else {
            place = Int32(nodes.count)
            nodes.append(Node(picture: picture, before: -1, after: -1))
        }
        places[picture] = place
        link(place)
    }

    /// A process that starts anew has none.
    package mutating func removeAll() { self = PreparedPictures(limit: limit, bytesEach: bytesEach) }

    private mutating func link(_ place: Int32) {
        nodes[Int(place)].before = newest
        nodes[Int(place)].after = -1
        if newest >= 0 { nodes[Int(newest)].after = place }
        newest = place
        if oldest < 0 { oldest = place }
    }

    private mutating func unlink(_ place: Int32) {
        let node = nodes[Int(place)]
        if node.before >= 0 { nodes[Int(node.before)].after = node.after } else { oldest = node.after }
        if node.after >= 0 { nodes[Int(node.after)].before = node.before } else { newest = node.before }
    }
}

extension Polygon {
    /// Exterior and holes as one ring: each hole hangs on the exterior by a bridge that is walked there and back.
    ///
    /// The bridges enclose nothing, so area and filling are those of the region. Each goes from the hole's topmost vertex
    /// to a near one of the exterior; where it runs does not matter. Cost: O(n log n) for n vertices.
    public var joined: [PixelVertex] {
        guard !holes.isEmpty, !exterior.isEmpty else { return exterior }
        let order = exterior.indices.sorted { (exterior[$0].x, $0) < (exterior[$1].x, $1) }
        var hanging: [Int: [[PixelVertex]]] = [:]
        for hole in holes {
            guard let top = hole.indices.min(by: { (hole[$0].y, hole[$0].x) < (hole[$1].y, hole[$1].x) }) else {
                continue
            }
            let anchor = nearest(to: hole[top], among: order)
            hanging[anchor, default: []].append(Array(hole[top...] + hole[..<top]))
        }
        return exterior.indices.flatMap { index in
            [exterior[index]] + (hanging[index] ?? []).flatMap { hole in hole + [hole[0], exterior[index]] }
        }
    }

    /// A vertex of the exterior that is near: the nearest of those with about the same x.
    private func nearest(to vertex: PixelVertex, among order: [Int]) -> Int {
        var (low, high) = (0, order.count)
        while low < high {
            let middle = (low + high) / 2
            if exterior[order[middle]].x < vertex.x { low = middle + 1 } else { high = middle }
        }
        let window = order[max(0, low - 32)..<min(order.count, low + 32)]
        func distance(_ index: Int) -> Int {
            let (dx, dy) = (exterior[index].x - vertex.x, exterior[index].y - vertex.y)
            return dx * dx + dy * dy
        }
        return window.min { distance($0) < distance($1) } ?? 0
    }

    /// The vertices of all rings.
    public var vertexCount: Int { rings.reduce(0) { $0 + $1.count } }

    /// Polygons with fewer vertices: none that was dropped is farther than `tolerance` pixels from what remains.
    ///
    /// Where more than `mostPoints` vertices would be left, the least tolerance that leaves few enough is taken, to a
    /// hundredth.
    ///
    /// What collapses is dropped; if that were everything, the largest regions stay that fit, at least a rectangle around
    /// the largest.
    ///
    /// - Precondition: `tolerance` is a number, not negative, and `mostPoints` at least 4.
    public static func simplified(_ polygons: [Polygon], tolerance: Double, mostPoints: Int? = nil) -> [Polygon] {
        precondition(mostPoints ?? 4 >= 4, "\(mostPoints ?? 0) points bound no region")
        func simplified(_ tolerance: Double) -> [Polygon] {
            tolerance == 0 ? polygons : polygons.compactMap { $0.simplified(tolerance: tolerance) }
        }
        func count(_ polygons: [Polygon]) -> Int { polygons.reduce(0) { $0 + $1.vertexCount } }
        let wanted = simplified(tolerance)
        guard let mostPoints, count(wanted) > mostPoints else { return wanted }
        // Every polygon of a mask collapses before the tolerance is as large as the mask.
        var (low, high) = (tolerance, max(1, 2 * tolerance))
        while count(simplified(high)) > mostPoints { (low, high) = (high, 2 * high) }
        while high - low > 0.01 {
            let middle = (low + high) / 2
            if count(simplified(middle)) > mostPoints { low = middle } else { high = middle }
        }
        let fitting = simplified(high)
        if !fitting.isEmpty { return fitting }
        var left = mostPoints
        let largest = simplified(low).sorted { $0.area > $1.area }
        let kept = largest.compactMap { polygon -> Polygon? in
            let outline = polygon.vertexCount <= left ? polygon : Polygon(exterior: polygon.exterior)
            guard outline.vertexCount <= left else { return nil }
            left -= outline.vertexCount
            return outline
        }
        return kept.isEmpty ? largest.prefix(1).compactMap(\.boundingRectangle) : kept
    }

    /// The smallest upright rectangle around the exterior; nil without one.
    private var boundingRectangle: Polygon? {
        guard let left = exterior.map(\.x).min(), let right = exterior.map(\.x).max(),
            let top = exterior.map(\.y).min(), let bottom = exterior.map(\.y).max()
        else { return nil }
        return Polygon(exterior: [
            PixelVertex(x: left, y: top), PixelVertex(x: right, y: top), PixelVertex(x: right, y: bottom),
            PixelVertex(x: left, y: bottom),
        ])
    }
}

/// A corner of a polygon, in pixels of the picture: x right, y down.
public struct PixelVertex: Sendable, Hashable {
    /// Pixels from the left.
    public var x: Int
    /// Pixels from the top.
    public var y: Int

    /// The corner at `(x, y)`.
    public init(x: Int, y: Int) {
        self.x = x
        self.y = y
    }
}

/// A region with holes, bounded by closed rings of straight lines.
///
/// A ring does not repeat its first vertex at its end. On the screen (y down) the exterior runs clockwise and the holes
/// counterclockwise: the region lies to the right of every line. A ring may touch itself in a vertex, where two pixels
/// of the object meet in a corner only.
public struct Polygon: Sendable, Hashable {
    /// The outer boundary.
    public var exterior: [PixelVertex]
    /// The boundaries of what is cut out.
    public var holes: [[PixelVertex]]

    /// A region between `exterior` and `holes`.
    public init(exterior: [PixelVertex], holes: [[PixelVertex]] = []) {
        self.exterior = exterior
        self.holes = holes
    }

    /// The exterior and the holes.
    public var rings: [[PixelVertex]] { [exterior] + holes }

    /// The area in pixels by the shoelace formula, holes taken off.
    ///
    /// The areas of the polygons traced along pixel edges add up to the number of pixels of the mask.
    public var area: Double {
        rings.reduce(0) { $0 + Polygon.signedArea(of: $1) }
    }

    /// Twice-halved cross products: positive for a ring that runs clockwise on the screen.
    static func signedArea(of ring: [PixelVertex]) -> Double {
        var sum = 0.0
        for (index, vertex) in ring.enumerated() {
            let next = ring[index + 1 == ring.count ? 0 : index + 1]
            sum += Double(vertex.x) * Double(next.y) - Double(next.x) * Double(vertex.y)
        }
        return sum / 2
    }

    /// The region as COCO's `segmentation` lists it: `[x0, y0, x1, y1, …]` of one ring, ``joined``.
    ///
    /// COCO's polygons know no holes: every list is filled, and lists are laid over each other. The joined ring has the
    /// right area in readers that fill by the even-odd or the winding rule, pycocotools and OpenCV among them. COCO's
    /// coordinates are those of ``VertexConvention/pixelEdges``: pixel (0, 0) is the square from (0, 0) to (1, 1).
    public var cocoSegmentation: [[Int]] { [joined.flatMap { [$0.x, $0.y] }] }

    /// The polygon with fewer vertices: no dropped vertex is farther than `tolerance` pixels from what remains.
    ///
    /// Rings that collapse to a line are dropped; nil when the exterior does. A tolerance of 0 drops only what lies on
    /// a straight line. Douglas and Peucker, "Algorithms for the reduction of the number of points required to
    /// represent a digitized line or its caricature", 1973, <https://doi.org/10.3138/FM57-6770-U75U-7727>.
    ///
    /// - Precondition: `tolerance` is a number, not negative.
    public func simplified(tolerance: Double) -> Polygon? {
        precondition(tolerance >= 0, "a tolerance of \(tolerance) pixels")
        guard let exterior = Polygon.simplify(exterior, tolerance) else { return nil }
        return Polygon(exterior: exterior, holes: holes.compactMap { Polygon.simplify($0, tolerance) })
    }

    private static func simplify(_ ring: [PixelVertex], _ tolerance: Double) -> [PixelVertex]? {
        guard ring.count >= 3, let first = ring.first else { return nil }
        // A closed ring has no ends: it is cut at its first vertex and at the one farthest from it.
        let open = ring + [first]
        let far = open.indices.max { squaredDistance(open[$0], first, first) < squaredDistance(open[$1], first, first) }
        guard let far, far > 0 else { return nil }
        var keeps = [Bool](repeating: false, count: open.count)
        keeps[0] = true
        keeps[far] = true
        var spans = [(0, far), (far, open.count - 1)]
        while let (start, end) = spans.popLast() {
            var worst = (index: start, distance: tolerance * tolerance)
            for index in (start + 1)..<max(end, start + 1) {
                let distance = squaredDistance(open[index], open[start], open[end])
                if distance > worst.distance { worst = (index, distance) }
            }
            guard worst.index != start else { continue }
            keeps[worst.index] = true
            spans += [(start, worst.index), (worst.index, end)]
        }
        let kept = ring.indices.filter { keeps[$0] }.map { ring[$0] }
        return kept.count >= 3 && signedArea(of: kept) != 0 ? kept : nil
    }

    /// From `point` to the line between `start` and `end`, which may be one point.
    private static func squaredDistance(_ point: PixelVertex, _ start: PixelVertex, _ end: PixelVertex) -> Double {
        let (dx, dy) = (Double(end.x - start.x), Double(end.y - start.y))
        let (px, py) = (Double(point.x - start.x), Double(point.y - start.y))
        let length = dx * dx + dy * dy
        let along = length == 0 ? 0 : min(max((px * dx + py * dy) / length, 0), 1)
        let (rx, ry) = (px - along * dx, py - along * dy)
        return rx * rx + ry * ry
    }
}

extension GrayImage {
    /// The mask that `polygons` cover, 1 on the object and 0 elsewhere; parts outside the picture are cut off.
    ///
    /// A pixel is on the object if its centre is inside a polygon by the even-odd rule. What ``Polygon/tracing(_:_:)``
    /// found along pixel edges gives back exactly the mask it was traced from.
    ///
    /// - Precondition: `width` and `height` are not negative, and the mask can be addressed.
    public init(covering polygons: [Polygon], width: Int, height: Int) {
        var mask = [UInt8](repeating: 0, count: width * height)
        for polygon in polygons {
            let ys = polygon.exterior.lazy.map(\.y)
            let top = min(max(ys.min() ?? 0, 0), height)
            let bottom = max(min(ys.max() ?? 0, height), top)
            // Parity changes at these pixels; one column more takes the changes past the right edge.
            var changes = [UInt8](repeating: 0, count: (bottom - top) * (width + 1))
            for ring in polygon.rings {
                for (index, vertex) in ring.enumerated() {
                    let next = ring[index + 1 == ring.count ? 0 : index + 1]
                    let (upper, lower) = vertex.y < next.y ? (vertex, next) : (next, vertex)
                    let slope = Double(lower.x - upper.x) / Double(max(lower.y - upper.y, 1))
                    for y in max(upper.y, top)..<max(min(lower.y, bottom), max(upper.y, top)) {
                        let crossing = Double(upper.x) + (Double(y) + 0.5 - Double(upper.y)) * slope
                        let x = Int(min(max((crossing - 0.5).rounded(.up), 0), Double(width)))
                        changes[(y - top) * (width + 1) + x] ^= 1
                    }
                }
            }
            for y in top..<bottom {
                var inside: UInt8 = 0
                for x in 0..<width {
                    inside ^= changes[(y - top) * (width + 1) + x]
                    mask[y * width + x] |= inside
                }
            }
        }
        self.init(width: width, height: height, pixels: mask)
    }
}

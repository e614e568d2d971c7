/// What the coordinates of a traced polygon mean.
public enum VertexConvention: Sendable, Hashable, CaseIterable {
    /// Corners of pixels: pixel (x, y) is the square from (x, y) to (x + 1, y + 1). The polygon bounds exactly the
    /// area of the mask; COCO, GeoJSON-like formats and ``GrayImage/init(covering:width:height:)`` speak so.
    case pixelEdges
    /// Pixels of the object along its boundary, as OpenCV's `findContours(mask, RETR_CCOMP, CHAIN_APPROX_SIMPLE)`
    /// gives them. Such a polygon is half a pixel smaller than the mask on every side, a hole half a pixel larger,
    /// and a line of one pixel's width has no area.
    case pixelCenters
}

extension Polygon {
    /// The connected regions of a mask as polygons with holes, in the order of their topmost, then leftmost pixel.
    ///
    /// Every pixel that is not 0 is on the object. Pixels of the object that touch in a corner only are connected,
    /// pixels of a hole are not (8-connected object, 4-connected background), as in Suzuki and Abe, "Topological
    /// structural analysis of digitized binary images by border following", 1985,
    /// <https://doi.org/10.1016/0734-189X(85)90016-7>. An object inside a hole is a polygon of its own.
    /// Only vertices where the direction changes are kept. Cost: one pass over the object's bounding box.
    public static func tracing(_ mask: GrayImage, _ convention: VertexConvention = .pixelEdges) -> [Polygon] {
        guard let grid = ObjectGrid(mask) else { return [] }
        let rings = grid.tracedRings()
        var polygons: [Polygon] = []
        for ring in rings {
            let vertices = convention == .pixelEdges ? ring.corners : pixelChain(ring.cracks)
            let placed = vertices.map { PixelVertex(x: $0.x + grid.left, y: $0.y + grid.top) }
            if ring.isHole {
                polygons[ring.polygon].holes.append(placed)
            } else {
                polygons.append(Polygon(exterior: placed))
            }
        }
        return polygons
    }

    /// The object's pixels along a ring, one for each change of direction.
    private static func pixelChain(_ cracks: [Crack]) -> [PixelVertex] {
        var chain: [PixelVertex] = []
        for crack in cracks where chain.last != crack.pixel { chain.append(crack.pixel) }
        while chain.count > 1, chain.first == chain.last { chain.removeLast() }
        guard chain.count > 2 else { return chain }
        return chain.indices.filter { index in
            let before = chain[index == 0 ? chain.count - 1 : index - 1]
            let here = chain[index]
            let after = chain[index + 1 == chain.count ? 0 : index + 1]
            return here.x - before.x != after.x - here.x || here.y - before.y != after.y - here.y
        }.map { chain[$0] }
    }
}

/// The side of one pixel on the boundary between object and background, with the object to its right.
struct Crack: Sendable, Hashable {
    enum Direction: Int, Sendable {
        case right, down, left, up

        var turnedLeft: Direction { Direction(rawValue: (rawValue + 3) & 3) ?? .right }
        var turnedRight: Direction { Direction(rawValue: (rawValue + 1) & 3) ?? .right }
    }

    /// Where it begins, a corner of a pixel.
    var start: PixelVertex
    var direction: Direction

    /// Where it ends.
    var end: PixelVertex {
        switch direction {
        case .right: PixelVertex(x: start.x + 1, y: start.y)
        case .down: PixelVertex(x: start.x, y: start.y + 1)
        case .left: PixelVertex(x: start.x - 1, y: start.y)
        case .up: PixelVertex(x: start.x, y: start.y - 1)
        }
    }

    /// The pixel of the object that it is a side of.
    var pixel: PixelVertex {
        switch direction {
        case .right: start
        case .down: PixelVertex(x: start.x - 1, y: start.y)
        case .left: PixelVertex(x: start.x - 1, y: start.y - 1)
        case .up: PixelVertex(x: start.x, y: start.y - 1)
        }
    }
}

/// The bounding box of a mask's object with one pixel of background around it.
struct ObjectGrid {
    /// A closed boundary in coordinates of the box.
    struct Ring {
        var cracks: [Crack]
        var corners: [PixelVertex]
        var isHole: Bool
        /// The index of the polygon that it bounds.
        var polygon: Int
    }

    /// The column and row of the mask where the box begins.
    let left: Int
    let top: Int
    private let width: Int
    private let height: Int
    /// `(height + 2) * stride` bytes, 1 on the object; column 0 and row 0 are the frame of background.
    private let cells: [UInt8]
    private let stride: Int

    /// Nil for a mask without an object.
    init?(_ mask: GrayImage) {
        var box: (left: Int, top: Int, right: Int, bottom: Int)?
        mask.pixels.withUnsafeBufferPointer { pixels in
            for y in 0..<mask.height {
                let row = UnsafeBufferPointer(rebasing: pixels[(y * mask.width)..<((y + 1) * mask.width)])
                guard let first = row.firstIndex(where: { $0 != 0 }), let last = row.lastIndex(where: { $0 != 0 })
                else { continue }
                box = (min(box?.left ?? first, first), box?.top ?? y, max(box?.right ?? last, last), y)
            }
        }
        guard let box else { return nil }
        (left, top) = (box.left, box.top)
        (width, height) = (box.right - box.left + 1, box.bottom - box.top + 1)
        stride = width + 2
        var cells = [UInt8](repeating: 0, count: (height + 2) * stride)
        for y in 0..<height {
            for x in 0..<width where mask.pixels[(y + top) * mask.width + x + left] != 0 {
                cells[(y + 1) * stride + x + 1] = 1
            }
        }
        self.cells = cells
    }

    /// All boundaries, each after the one that surrounds it.
    ///
    /// The scan meets a region first at the upper side of a pixel, and a hole first at the lower side of the pixel
    /// above it. The region that a hole belongs to is the one whose upper side was seen last in that column.
    func tracedRings() -> [Ring] {
        var rings: [Ring] = []
        var polygonCount = 0
        // The horizontal cracks that a ring has passed, by the pixel below them: the ring's polygon + 1.
        var passed = [Int32](repeating: 0, count: cells.count)
        var polygonOfColumn = [Int](repeating: 0, count: stride)
        for y in 1...(height + 1) {
            for x in 1...width {
                let below = cells[y * stride + x]
                guard below != cells[(y - 1) * stride + x] else { continue }
                if passed[y * stride + x] == 0 {
                    let isHole = below == 0
                    let polygon = isHole ? polygonOfColumn[x] : polygonCount
                    if !isHole { polygonCount += 1 }
                    let start =
                        isHole
                        ? Crack(start: PixelVertex(x: x + 1, y: y), direction: .left)
                        : Crack(start: PixelVertex(x: x, y: y), direction: .right)
                    rings.append(ring(from: start, isHole: isHole, polygon: polygon, passed: &passed))
                }
                if below != 0 { polygonOfColumn[x] = Int(passed[y * stride + x]) - 1 }
            }
        }
        return rings
    }

    private func ring(from first: Crack, isHole: Bool, polygon: Int, passed: inout [Int32]) -> Ring {
        var ring = Ring(cracks: [], corners: [], isHole: isHole, polygon: polygon)
        var crack = first
        repeat {
            switch crack.direction {
            case .right: passed[crack.start.y * stride + crack.start.x] = Int32(truncatingIfNeeded: polygon + 1)
            case .left: passed[crack.start.y * stride + crack.start.x - 1] = Int32(truncatingIfNeeded: polygon + 1)
            case .up, .down: break
            }
            let next = following(crack)
            ring.cracks.append(unframed(crack))
            if next.direction != crack.direction { ring.corners.append(unframed(next).start) }
            crack = next
        } while crack != first
        return ring
    }

    /// The next side of the boundary: to the left if the pixel there is on the object, which joins corners, else
    /// straight on, else to the right around the pixel.
    private func following(_ crack: Crack) -> Crack {
        let corner = crack.end
        let northWest = (corner.y - 1) * stride + corner.x - 1
        let (leftAhead, rightAhead) =
            switch crack.direction {
            case .right: (northWest + 1, northWest + stride + 1)
            case .down: (northWest + stride + 1, northWest + stride)
            case .left: (northWest + stride, northWest)
            case .up: (northWest, northWest + 1)
            }
        let direction =
            cells[leftAhead] != 0
            ? crack.direction.turnedLeft
            : cells[rightAhead] != 0 ? crack.direction : crack.direction.turnedRight
        return Crack(start: corner, direction: direction)
    }

    private func unframed(_ crack: Crack) -> Crack {
        Crack(start: PixelVertex(x: crack.start.x - 1, y: crack.start.y - 1), direction: crack.direction)
    }
}

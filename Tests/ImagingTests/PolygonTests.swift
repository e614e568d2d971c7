import Imaging
import Testing

@Suite("Masks become polygons and come back")
struct PolygonTests {
    private struct Case: Decodable {
        let rows: [String]
        let exteriors: [[[Int]]]
        let holes: [[[Int]]]

        var mask: GrayImage {
            GrayImage(
                width: rows[0].utf8.count, height: rows.count,
                pixels: rows.flatMap { $0.utf8.map { $0 == 0x31 ? 1 : 0 } })
        }
    }

    /// A ring from its smallest vertex on: where a ring begins is nobody's business.
    private func turned(_ ring: [PixelVertex]) -> [[Int]] {
        let flat = ring.map { [$0.x, $0.y] }
        return flat.indices.map { Array(flat[$0...] + flat[..<$0]) }
            .min { $0.lexicographicallyPrecedes($1) { $0.lexicographicallyPrecedes($1) } } ?? []
    }

    /// Rings as a sorted list, each from its smallest vertex on, in the direction that sorts first.
    private func canonical(_ rings: [[PixelVertex]]) -> [[[Int]]] {
        rings.map { ring in
            [turned(ring), turned(ring.reversed())]
                .min { $0.lexicographicallyPrecedes($1) { $0.lexicographicallyPrecedes($1) } } ?? []
        }
        .sorted { $0.lexicographicallyPrecedes($1) { $0.lexicographicallyPrecedes($1) } }
    }

    @Test("along pixel centres the rings are OpenCV's")
    func openCV() throws {
        let cases = try Fixtures.decode([Case].self, from: "contours.json")
        #expect(cases.count >= 15)
        for (index, item) in cases.enumerated() {
            let polygons = Polygon.tracing(item.mask, .pixelCenters)
            func vertices(_ rings: [[[Int]]]) -> [[PixelVertex]] {
                rings.map { $0.map { PixelVertex(x: $0[0], y: $0[1]) } }
            }
            #expect(canonical(polygons.map(\.exterior)) == canonical(vertices(item.exteriors)), "case \(index)")
            #expect(canonical(polygons.flatMap(\.holes)) == canonical(vertices(item.holes)), "case \(index)")
        }
    }

    @Test("along pixel edges the area is the mask's, the winding tells holes, and the way back is exact")
    func roundTrip() {
        let seed: UInt64 = 11
        print("polygons: seed \(seed)")
        var random = SeededGenerator(seed: seed)
        for _ in 0..<300 {
            let (width, height) = (Int.random(in: 1...24, using: &random), Int.random(in: 1...24, using: &random))
            let density = Double.random(in: 0...1, using: &random)
            let pixels = (0..<(width * height)).map { _ in
                Double.random(in: 0..<1, using: &random) < density ? UInt8(1) : 0
            }
            let mask = GrayImage(width: width, height: height, pixels: pixels)
            let polygons = Polygon.tracing(mask)
            #expect(GrayImage(covering: polygons, width: width, height: height) == mask)
            #expect(polygons.reduce(0) { $0 + $1.area } == Double(pixels.reduce(0) { $0 + Int($1) }))
            for polygon in polygons {
                #expect(Polygon(exterior: polygon.exterior).area > 0)
                #expect(polygon.holes.allSatisfy { Polygon(exterior: $0).area < 0 })
                #expect(polygon.area > 0)
                // Nothing is dropped that does not lie on a straight line.
                #expect(polygon.simplified(tolerance: 0)?.area == polygon.area)
                #expect(Polygon(exterior: polygon.joined).area == polygon.area)
            }
            // Joined to one ring each, as COCO has them, they fill the same pixels.
            let joined = polygons.map { Polygon(exterior: $0.joined) }
            #expect(GrayImage(covering: joined, width: width, height: height) == mask)
        }
    }

    @Test("a frame with an island is two polygons, one with a hole")
    func nesting() {
        let rows = ["1111111", "1000001", "1011101", "1010101", "1011101", "1000001", "1111111"]
        let mask = GrayImage(width: 7, height: 7, pixels: rows.flatMap { $0.utf8.map { $0 == 0x31 ? 255 : 0 } })
        let polygons = Polygon.tracing(mask)
        #expect(polygons.count == 2)
        #expect(polygons.map(\.holes.count) == [1, 1])
        #expect(polygons.map(\.area) == [24, 8])
        #expect(polygons[1].holes == [[[3, 3], [3, 4], [4, 4], [4, 3]].map { PixelVertex(x: $0[0], y: $0[1]) }])
        // One list for each region, the hole hung on it.
        #expect(polygons.map(\.cocoSegmentation.count) == [1, 1])
        #expect(Polygon(exterior: polygons[1].joined).area == 8)
        #expect(Polygon.tracing(GrayImage(width: 3, height: 3, pixels: [UInt8](repeating: 0, count: 9))).isEmpty)
    }

    @Test("simplifying keeps within its tolerance and drops what collapses")
    func simplify() {
        let size = 80
        let disc = (0..<(size * size)).map { index in
            let (x, y) = (index % size - 40, index / size - 40)
            return x * x + y * y < 35 * 35 && x * x + y * y >= 1 ? UInt8(1) : 0
        }
        let mask = GrayImage(width: size, height: size, pixels: disc)
        let polygons = Polygon.tracing(mask)
        #expect(polygons.count == 1 && polygons[0].holes.count == 1)
        let simple = polygons.compactMap { $0.simplified(tolerance: 1.5) }
        #expect(simple.count == 1 && simple[0].holes.isEmpty)
        #expect(simple[0].exterior.count < polygons[0].exterior.count / 3)
        let back = GrayImage(covering: simple, width: size, height: size)
        let differing = zip(back.pixels, disc).count { $0 != $1 }
        #expect(differing < 220, "\(differing) of \(size * size) pixels differ")
        #expect(
            Polygon(exterior: [.init(x: 0, y: 0), .init(x: 9, y: 1), .init(x: 20, y: 0)]).simplified(tolerance: 2)
                == nil)
    }

    @Test("a budget of points is kept, and what it costs is little")
    func budget() {
        let size = 120
        let rings = (0..<(size * size)).map { index in
            let (x, y) = (index % size - 60, index / size - 60)
            let square = x * x + y * y
            return square < 55 * 55 && square >= 25 * 25 || square < 9 * 9 ? UInt8(1) : 0
        }
        let mask = GrayImage(width: size, height: size, pixels: rings)
        let polygons = Polygon.tracing(mask)
        for budget in [4, 8, 12, 30, 60, 100, 1000] {
            let simple = Polygon.simplified(polygons, tolerance: 0, mostPoints: budget)
            #expect(!simple.isEmpty && simple.reduce(0) { $0 + $1.vertexCount } <= budget, "budget \(budget)")
            guard budget >= 60 else { continue }
            let back = GrayImage(covering: simple, width: size, height: size)
            let differing = zip(back.pixels, rings).count { $0 != $1 }
            #expect(differing < 400, "\(differing) of \(size * size) pixels differ at \(budget) points")
        }
        // Of a thousand equal dots as many stay as fit.
        let dots = GrayImage(
            width: 99, height: 99, pixels: (0..<9801).map { $0 / 99 % 3 == 1 && $0 % 99 % 3 == 1 ? 1 : 0 })
        let kept = Polygon.simplified(Polygon.tracing(dots), tolerance: 0, mostPoints: 101)
        #expect(kept.count == 25 && kept.allSatisfy { $0.vertexCount == 4 })
        #expect(Polygon.simplified(polygons, tolerance: 0) == polygons)
        #expect(Polygon.simplified([], tolerance: 1, mostPoints: 4).isEmpty)
    }

    @Test("polygons that leave the picture are cut off")
    func clipping() {
        let far = Polygon(exterior: [
            .init(x: -1_000_000, y: -5), .init(x: 1_000_000, y: -5), .init(x: 1_000_000, y: 2),
            .init(x: -1_000_000, y: 2),
        ])
        let mask = GrayImage(covering: [far], width: 4, height: 3)
        #expect(mask.pixels == [1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0])
        let above = Polygon(exterior: [.init(x: 0, y: -9), .init(x: 4, y: -9), .init(x: 4, y: -5)])
        #expect(GrayImage(covering: [above], width: 4, height: 3).pixels.allSatisfy { $0 == 0 })
    }
}

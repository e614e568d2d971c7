import SegmentAnything
import Testing

/// What the loaders ask for is what published models have.
@Suite struct LoaderTensorsTests {
    private static func check(_ geometry: SamGeometry, _ what: String) {
        func lines(_ shapes: [(name: String, shape: [Int])]) -> [String] { shapes.map { "\($0.name) \($0.shape)" } }
        let (asked, published) = (lines(SamTensors(geometry).shapes), lines(PublishedTensors(geometry).shapes))
        #expect(Set(asked).count == asked.count, "\(what): a tensor twice")
        #expect(Set(asked).subtracting(published).sorted() == [], "\(what): asked for and not published")
        #expect(Set(published).subtracting(asked).sorted() == [], "\(what): published and not asked for")
    }

    /// The time is printed and decides nothing.
    @Test(arguments: [
        "vit_b", "vit_l", "vit_h", "mobile", "hq_vit_b", "sam2.1_tiny", "sam2.1_small", "sam2.1_base_plus",
        "sam2.1_large", "edgetam",
    ]) func publishedModels(_ name: String) throws {
        let geometry = try #require(SamGeometry(published: name))
        let start = ContinuousClock.now
        let count = SamTensors(geometry).shapes.count
        print("\(name): \(count) tensors in \(ContinuousClock.now - start)")
        Self.check(geometry, name)
    }

    @Test func modelsOfAnySize() {
        let seed = UInt64.random(in: 0...UInt64.max)
        print("geometries of loaders: seed \(seed)")
        var random = RandomGeometry(seed: seed)
        for index in 0..<24 { Self.check(random.next(), "geometry \(index)") }
    }
}

import Planning
import Testing

/// Clicks of `kirie bench cluster` on a machine that others share: two decoders take each other's time, or somebody else does.
@Suite struct DisturbedClicksTests {
    /// Decodes of five quantiles, from p5 to p95.
    private func clicks(_ decodes: [Double]) -> String {
        let names = ["p5", "p25", "p50", "p75", "p95"]
        let values = zip(names, decodes).map { #""\#($0)":\#($1)"# }.joined(separator: ",")
        let top = decodes[4] * 1.5
        func others(_ more: Double) -> String {
            zip(names, decodes).map { #""\#($0)":\#($1 + more)"# }.joined(separator: ",") + #","p99":\#(top + more)"#
        }
        return #"{"decode_ms":{\#(values),"p99":\#(top)},"service_ms":{\#(others(1))},"wait_ms":{\#(others(0.1))}}"#
    }

    private func figures(
        one: [Double], two: [Double]
    ) throws -> (figures: BenchFigures, costs: ClusterModel.DecodeCosts) {
        var files = PlanFixture.files
        files["cluster.json"] =
            #"{"model":"tiny","processors":2,"click":{"one_decoder":\#(clicks(one)),"two_decoders":\#(clicks(two))}}"#
        let text = PlanFixture.usual.replacing(#""decode.json""#, with: #""decode.json", "cluster.json""#)
        let plan = try PlanFixture.plan(text, files: files)
        let model = ClusterModel(plan, Counts(encoders: [1], decoders: [1]))
        return (plan.models[0].figures, model.served[0].decode)
    }

    @Test(arguments: [[2.1, 2.2, 2.3, 2.5, 3], [2.15, 2.6, 3.2, 4, 6]])
    func aSmallModelStaysOne(two: [Double]) throws {
        let found = try figures(one: [2, 2.1, 2.2, 2.4, 3], two: two)
        #expect(found.figures.isSmall)
        #expect(found.costs.click.mean < 2.6)
    }

    @Test(arguments: [[1.4, 1.5, 2, 2.2, 2.6], [1.4, 1.7, 2.4, 3, 4]])
    func aLargeOneStaysLarge(one: [Double]) throws {
        let found = try figures(one: one, two: [2.1, 2.3, 2.4, 2.6, 3])
        #expect(!found.figures.isSmall)
    }

    /// Alone a decode takes 1.9 to 3 ms, 2 in the middle, and 0.35 more in a cluster.
    @Test(arguments: [[2.2, 2.3, 2.35, 2.4, 3], [2.2, 2.3, 3.5, 5, 9]])
    func waitsForTheOtherDecoderAreNoPartOfADecode(two: [Double]) throws {
        let costs = try figures(one: [1.4, 1.5, 1.6, 1.7, 2], two: two).costs
        let alone = (1.9 + 2) / 4 + (2.0 + 3) / 4
        #expect(abs(costs.click.mean - (alone + 2.3 - 1.95)) < 1e-9)
    }
}

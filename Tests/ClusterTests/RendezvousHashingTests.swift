import Cluster
import Segmentation
import Testing

@Suite struct RendezvousHashingTests {
    @Test func partitionOfAnImageIsTheHeadOfItsDigest() throws {
        let image = try #require(ImageDigest("0000002A" + String(repeating: "0", count: 56)))
        #expect(Partition(of: image, among: 16).index == 42 % 16)
        let last = try #require(ImageDigest(String(repeating: "f", count: 64)))
        #expect(Partition(of: last, among: 16).index == 15)
        #expect(ImageDigest("0000002g" + String(repeating: "0", count: 56)) == nil)
        #expect(ImageDigest("00") == nil)
        #expect(ImageDigest(bytes: (0..<32).map { UInt8($0) }).hexadecimal.hasPrefix("000102"))
    }

    @Test func everyPartitionHasOneOwnerWhateverTheOrder() {
        let workers = (0..<7).map { "decoder-\($0)" }
        for index in 0..<64 {
            let owner = RendezvousHashing.owner(of: Partition(index), among: workers)
            #expect(owner == RendezvousHashing.owner(of: Partition(index), among: workers.reversed()))
            #expect(owner != nil)
        }
        #expect(RendezvousHashing.owner(of: Partition(0), among: []) == nil)
    }

    @Test func aWorkerThatLeavesMovesOnlyItsOwnPartitions() {
        let workers = (0..<5).map { "worker-\($0)" }
        for index in 0..<256 {
            let before = RendezvousHashing.owner(of: Partition(index), among: workers)
            let after = RendezvousHashing.owner(of: Partition(index), among: workers.dropLast())
            #expect(before == "worker-4" || before == after)
        }
    }

    @Test func sharesAreEven() {
        let workers = (0..<4).map { "host:\($0)" }
        let shares = workers.map { RendezvousHashing.partitions(of: $0, among: workers, count: 4096).count }
        #expect(shares.reduce(0, +) == 4096)
        #expect(shares.allSatisfy { abs($0 - 1024) < 160 }, "\(shares)")
    }
}

import ArgumentParser
import Cluster

/// How many partitions a new cluster gets.
struct PartitionOption: ParsableArguments {
    @Option(
        name: .customLong("partitions"),
        help: ArgumentHelp(
            "Partitions of a new cluster, at least as many as there will be decoders. One that exists keeps its number, and "
                + "another is refused. Default: 16.", valueName: "n"))
    var count: Int?

    func validate() throws {
        let bounds = Broker.partitionBounds
        if let count, !bounds.contains(count) {
            throw ValidationError("--partitions takes a number from \(bounds.lowerBound) to \(bounds.upperBound).")
        }
    }
}

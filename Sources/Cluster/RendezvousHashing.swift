/// Which worker owns which partition, agreed on without a word between them.
///
/// Each partition goes to the worker for which a hash of the two names is the highest. When a worker comes or goes, only
/// its own partitions change hands.
///
/// Source: Thaler and Ravishankar, "Using Name-Based Mappings to Increase Hit Rates", IEEE/ACM Transactions on
/// Networking 6(1), 1998.
public enum RendezvousHashing {
    /// The owner of a partition; nil where there is no worker.
    public static func owner(of partition: Partition, among workers: some Sequence<String>) -> String? {
        // Equal weights are as good as impossible; the name decides them, so that all agree.
        workers.max { (weight($0, partition), $0) < (weight($1, partition), $1) }
    }

    /// The partitions that a worker owns, in order.
    public static func partitions(of worker: String, among workers: [String], count: Int) -> [Partition] {
        (0..<count).map { Partition($0) }.filter { owner(of: $0, among: workers) == worker }
    }

    /// FNV-1a over the name, then the partition and a finalizer (that of SplitMix64), which FNV needs: its high bits
    /// hardly depend on the last bytes.
    private static func weight(_ worker: String, _ partition: Partition) -> UInt64 {
        var hash: UInt64 = 0xcbf2_9ce4_8422_2325
        for byte in worker.utf8 { hash = (hash ^ UInt64(byte)) &* 0x0000_0100_0000_01b3 }
        hash ^= UInt64(partition.index) &* 0x9e37_79b9_7f4a_7c15
        hash = (hash ^ hash >> 30) &* 0xbf58_476d_1ce4_e5b9
        hash = (hash ^ hash >> 27) &* 0x94d0_49bb_1331_11eb
        return hash ^ hash >> 31
    }
}

/// Which worker owns which partition: the hash of `Cluster`'s `RendezvousHashing`.
///
/// A simulated worker owns what a real one of its name does: a test holds the two equal.
package enum Rendezvous {
    /// The owner of each partition, as a place in `workers`.
    package static func owners(among workers: [String], partitions: Int) -> [Int] {
        let names = workers.map { Array($0.utf8) }
        return (0..<partitions).map { partition in
            let best = workers.indices.max {
                (weight(names[$0], partition), workers[$0]) < (weight(names[$1], partition), workers[$1])
            }
            return best ?? 0
        }
    }

    private static func weight(_ worker: [UInt8], _ partition: Int) -> UInt64 {
        var hash: UInt64 = 0xcbf2_9ce4_8422_2325
        for byte in worker { hash = (hash ^ UInt64(byte)) &* 0x0000_0100_0000_01b3 }
        hash ^= UInt64(partition) &* 0x9e37_79b9_7f4a_7c15
        hash = (hash ^ hash >> 30) &* 0xbf58_476d_1ce4_e5b9
        hash = (hash ^ hash >> 27) &* 0x94d0_49bb_1331_11eb
        return hash ^ hash >> 31
    }
}

import Cluster
import Embeddings
import Segmentation
import Terminals
import Workers

/// Embeddings between the cluster and files.
struct EmbeddingTransfer {
    private let store: EmbeddingStore

    init(_ store: EmbeddingStore) { self.store = store }

    /// Puts the records of a folder into the cluster; returns whether all of them were whole, and are there.
    func bring(from path: String) async throws -> Bool {
        let folder = try EmbeddingFolder(reading: path)
        let keys = folder.keys().sorted { "\($0)" < "\($1)" }
        if keys.isEmpty {
            Terminal.complain(
                "kirie: there are no embeddings in \(path): give a folder of --export or of --cache-dir")
            return false
        }
        var brought: [EmbeddingKey] = []
        for key in keys {
            guard let record = folder.record(for: key) else {
                Terminal.complain("kirie: \(key): the file is damaged: export it again, or have the picture encoded")
                continue
            }
            try await store.offer(record)
            brought.append(key)
        }
        var there = 0
        for some in brought.chunks(of: 512) { there += try await store.contains(some).count { $0 } }
        if there < brought.count {
            Terminal.complain(
                "kirie: \(Figures.count(brought.count - there)) embeddings were evicted while others came: raise Redis's "
                    + "maxmemory, or give the encoders the folder as their --cache-dir")
        }
        Terminal.complain("\(Figures.count(there)) embeddings of \(path) are in the cluster")
        return there == keys.count
    }

    /// Writes the cluster's records of keys to a folder; returns whether all of them were there.
    func take(_ keys: [EmbeddingKey], to path: String) async throws -> Bool {
        let folder = try EmbeddingFolder(path, byteLimit: .max)
        var missing = 0
        for key in keys.sorted(by: { "\($0)" < "\($1)" }) {
            if let record = try await store.record(for: key) { try folder.store(record) } else { missing += 1 }
        }
        if missing > 0 {
            Terminal.complain(
                "kirie: \(Figures.count(missing)) embeddings were evicted before they were written: run it again")
        }
        Terminal.complain("\(Figures.count(keys.count - missing)) embeddings are in \(path)")
        return missing == 0
    }
}

import Cluster
import Embeddings
import Segmentation
import Terminals
import Workers

/// Embeddings between the cluster and files.
struct EmbeddingTransfer {
    private let store: EmbeddingStore
    /// Records on their way at a time, each of some megabytes: enough that disk and Redis do not wait for each other.
    private static let inFlight = 8

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
        let brought = try await each(keys, "importing") { key, status in
            guard let record = folder.record(for: key) else {
                status.say("kirie: \(key): the file is damaged: export it again, or have the picture encoded")
                return false
            }
            // What is there would be counted twice, and takes its time: a second run goes on where the first was stopped.
            if try await !store.contains([key])[0] { try await store.offer(record) }
            return true
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
        let written = try await each(keys.sorted { "\($0)" < "\($1)" }, "exporting") { key, _ in
            guard let record = try await store.record(for: key) else { return false }
            try folder.store(record)
            return true
        }
        let missing = keys.count - written.count
        if missing > 0 {
            Terminal.complain(
                "kirie: \(Figures.count(missing)) embeddings were evicted before they were written: run it again")
        }
        Terminal.complain("\(Figures.count(keys.count - missing)) embeddings are in \(path)")
        return missing == 0
    }

    /// Does something with each key, several at a time, and draws how far that is; returns those for which it came true.
    private func each(
        _ keys: [EmbeddingKey], _ title: String,
        _ work: @escaping @Sendable (EmbeddingKey, StatusLine) async throws -> Bool
    ) async throws -> [EmbeddingKey] {
        let status = StatusLine()
        defer { status.hide() }
        let start = ContinuousClock.now
        return try await withThrowingTaskGroup(of: EmbeddingKey?.self) { group in
            var done: [EmbeddingKey] = []
            var ended = 0
            func takeOne() async throws {
                guard let outcome = try await group.next() else { return }
                ended += 1
                if let key = outcome { done.append(key) }
                let part = Double(ended) / Double(keys.count)
                let left = (ContinuousClock.now - start) / .seconds(1) * (1 / part - 1)
                status.show(
                    "\(title) \(StatusLine.bar(part)) \(Int(part * 100)) %  \(Figures.count(ended)) of "
                        + "\(Figures.count(keys.count))  about \(Figures.duration(.seconds(left))) left")
            }
            for (index, key) in keys.enumerated() {
                if index >= Self.inFlight { try await takeOne() }
                group.addTask { try await work(key, status) ? key : nil }
            }
            while ended < keys.count { try await takeOne() }
            return done
        }
    }
}

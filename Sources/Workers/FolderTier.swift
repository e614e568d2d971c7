import Embeddings
import Platform
import Segmentation
import Synchronization

/// A folder of embeddings as a worker uses it: outside the cooperative pool, counted, and its faults are said once.
final class FolderTier: Sendable {
    private let folder: EmbeddingFolder
    private let onChange: @Sendable ((any Error)?) -> Void
    /// For files, which may be on somebody else's disk.
    private let threads = ComputeThreads(count: 2)
    /// Whether the last record was not taken.
    private let isFailing = Mutex(false)

    init(_ folder: EmbeddingFolder, onChange: @escaping @Sendable ((any Error)?) -> Void) {
        self.folder = folder
        self.onChange = onChange
        WorkerMetrics.beginFolder(bytes: folder.countedBytes)
    }

    /// An embedding, verified; nil where there is none.
    func record(for key: EmbeddingKey) async -> EmbeddingRecord? {
        guard let finding = await threads.run({ [folder] in folder.lookUp(key) }) else { return nil }
        WorkerMetrics.lookedUp(finding)
        if case .record(let record) = finding { return record }
        return nil
    }

    /// Keeps a record; when it returns it is on the disk, or the folder does not take it.
    func keep(_ record: EmbeddingRecord) async {
        let result = await threads.run { [folder] () -> Result<Int?, any Error> in
            do {
                guard try folder.store(record) else {
                    return .failure(TooSmallFolder(record: record.byteCount, limit: folder.byteLimit))
                }
                return .success(folder.countedBytes)
            } catch {
                return .failure(error)
            }
        }
        switch result {
        case nil: break
        case .success(let total):
            WorkerMetrics.kept(bytes: record.byteCount, total: total)
            if change(to: false) { onChange(nil) }
        case .failure(let error):
            WorkerMetrics.notKept()
            if change(to: true) { onChange(error) }
        }
    }

    /// Whether that is new.
    private func change(to failing: Bool) -> Bool {
        isFailing.withLock { isFailing in
            defer { isFailing = failing }
            return isFailing != failing
        }
    }
}

/// A record that is larger than all of the folder may be.
private struct TooSmallFolder: Error, CustomStringConvertible {
    let record: Int
    let limit: Int

    var description: String {
        "an embedding takes \(record) bytes, and the folder may take \(limit): raise --cache-dir-bytes"
    }
}

import Embeddings
import SegmentAnything
import Segmentation
import Synchronization
import Tensors

/// The images that a decoder has ready in its memory, bounded by bytes; the least recently used go first.
///
/// What two batches ask for at once is fetched once.
final class PreparedImages: Sendable {
    /// Where an image came from.
    enum Outcome: Sendable {
        /// It was in memory.
        case hit
        /// It was fetched, and the image-dependent part of the decoder computed.
        case fetched
        /// It is nowhere.
        case missing
    }

    private struct State: Sendable {
        var images: LeastRecentlyUsed<EmbeddingKey, any PreparedImage>
        var loading: [EmbeddingKey: Loading] = [:]
    }

    /// An embedding that could not be fetched, or cannot be used.
    struct Unavailable: Error, Sendable {
        let reason: String
        /// Whether it was given up because all who asked for it lost their leases.
        var isAbandoned = false
    }

    /// An image on its way, and how many batches wait for it: when the last of them is stopped, it is.
    private struct Loading: Sendable {
        let task: Task<Result<(any PreparedImage)?, Unavailable>, Never>
        var waiting: Int
    }

    /// Guards the images and those that are on their way.
    private let state: Mutex<State>
    private let load: @Sendable (EmbeddingKey) async throws(Unavailable) -> (any PreparedImage)?

    /// - Parameters:
    ///   - byteLimit: what prepared images may take together.
    ///   - load: fetches and prepares; nil where the embedding is nowhere.
    init(
        byteLimit: Int, load: @escaping @Sendable (EmbeddingKey) async throws(Unavailable) -> (any PreparedImage)?
    ) {
        state = Mutex(State(images: LeastRecentlyUsed(limit: byteLimit)))
        self.load = load
    }

    /// Images held and their bytes.
    var holdings: (count: Int, bytes: Int) { state.withLock { ($0.images.count, $0.images.cost) } }

    /// An image made ready, from memory or fetched.
    func image(
        for key: EmbeddingKey
    ) async throws(Unavailable) -> (image: (any PreparedImage)?, outcome: Outcome) {
        let (held, task): ((any PreparedImage)?, Task<Result<(any PreparedImage)?, Unavailable>, Never>?) =
            state.withLock { state in
                if let held = state.images.value(for: key) { return (held, nil) }
                if let loading = state.loading[key] {
                    state.loading[key]?.waiting += 1
                    return (nil, loading.task)
                }
                let task = Task { await self.fetch(key) }
                state.loading[key] = Loading(task: task, waiting: 1)
                return (nil, task)
            }
        if let held { return (held, .hit) }
        guard let task else { return (nil, .missing) }
        let image = try await withTaskCancellationHandler {
            await task.value
        } onCancel: {
            leave(key, task)
        }.get()
        return (image, image == nil ? .missing : .fetched)
    }

    /// A batch that waits for an image is stopped.
    private func leave(_ key: EmbeddingKey, _ task: Task<Result<(any PreparedImage)?, Unavailable>, Never>) {
        state.withLock { state in
            guard let loading = state.loading[key], loading.task == task else { return }
            state.loading[key]?.waiting -= 1
            if loading.waiting <= 1 {
                // Whoever comes now starts anew.
                state.loading[key] = nil
                task.cancel()
            }
        }
    }

    private func fetch(_ key: EmbeddingKey) async -> Result<(any PreparedImage)?, Unavailable> {
        let result: Result<(any PreparedImage)?, Unavailable>
        do throws(Unavailable) { result = .success(try await load(key)) } catch { result = .failure(error) }
        let gone = state.withLock { state in
            if !Task.isCancelled { state.loading[key] = nil }
            guard case .success(let image?) = result else { return 0 }
            return state.images.insert(image, for: key, cost: image.byteCount).count
        }
        if gone > 0 { WorkerMetrics.evicted(gone) }
        return result
    }
}

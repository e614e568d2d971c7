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
        var images: LeastRecentlyUsed<EmbeddingKey, SamDecoder.PreparedImage>
        var loading: [EmbeddingKey: Task<Result<SamDecoder.PreparedImage?, Unavailable>, Never>] = [:]
    }

    /// An embedding that could not be fetched, or cannot be used.
    struct Unavailable: Error, Sendable {
        let reason: String
    }

    /// Guards the images and those that are on their way.
    private let state: Mutex<State>
    private let load: @Sendable (EmbeddingKey) async throws(Unavailable) -> SamDecoder.PreparedImage?

    /// - Parameters:
    ///   - byteLimit: what prepared images may take together.
    ///   - load: fetches and prepares; nil where the embedding is nowhere.
    init(
        byteLimit: Int, load: @escaping @Sendable (EmbeddingKey) async throws(Unavailable) -> SamDecoder.PreparedImage?
    ) {
        state = Mutex(State(images: LeastRecentlyUsed(limit: byteLimit)))
        self.load = load
    }

    /// Images held and their bytes.
    var holdings: (count: Int, bytes: Int) { state.withLock { ($0.images.count, $0.images.cost) } }

    /// An image made ready, from memory or fetched.
    func image(
        for key: EmbeddingKey
    ) async throws(Unavailable) -> (image: SamDecoder.PreparedImage?, outcome: Outcome) {
        let (held, loading): (SamDecoder.PreparedImage?, Task<Result<SamDecoder.PreparedImage?, Unavailable>, Never>?) =
            state.withLock { state in
                if let held = state.images.value(for: key) { return (held, nil) }
                if let loading = state.loading[key] { return (nil, loading) }
                let task = Task { await self.fetch(key) }
                state.loading[key] = task
                return (nil, task)
            }
        if let held { return (held, .hit) }
        guard let loading else { return (nil, .missing) }
        let image = try await loading.value.get()
        return (image, image == nil ? .missing : .fetched)
    }

    private func fetch(_ key: EmbeddingKey) async -> Result<SamDecoder.PreparedImage?, Unavailable> {
        let result: Result<SamDecoder.PreparedImage?, Unavailable>
        do throws(Unavailable) { result = .success(try await load(key)) } catch { result = .failure(error) }
        state.withLock { state in
            state.loading[key] = nil
            if case .success(let image?) = result { state.images.insert(image, for: key, cost: image.byteCount) }
        }
        return result
    }
}

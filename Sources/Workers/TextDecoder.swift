import Cluster
import Hashing
import Imaging
import Platform
import Redis
import SegmentAnything
import Segmentation
import Synchronization
import Tensors
public import TextMatching

/// The model that a decoder matches texts with, opened when the first text comes.
public final class TextModel: Sendable {
    private let open: @Sendable () throws -> any TextMatcher
    /// Guards the model, which several slots may ask for at once.
    private let state = Mutex<(any TextMatcher)?>(nil)
    /// Texts that were made ready: people ask for the same few things in many pictures.
    private let queries = RememberedValues<String, TextQuery>(byteLimit: 16 << 20)

    /// A model that `open` opens.
    public init(open: @escaping @Sendable () throws -> any TextMatcher) { self.open = open }

    /// The model.
    func matcher() throws -> any TextMatcher {
        try state.withLock { state in
            if let state { return state }
            let opened = try open()
            state = opened
            return opened
        }
    }

    /// Texts made ready, those that are not remembered all at once.
    ///
    /// - Parameters:
    ///   - texts: as many as there are.
    ///   - pool: the threads that share the work.
    /// - Returns: a query for each text, in their order.
    /// - Throws: ``TextError`` for the first that says nothing, is too long, or lies outside of what the matcher knows; what
    ///   the model's files throw.
    func ready(_ texts: [String], pool: ThreadPool) throws -> [TextQuery] {
        let matcher = try matcher()
        var found = texts.map { queries.value(for: $0) }
        let unknown = texts.indices.filter { found[$0] == nil }
        for (index, query) in zip(unknown, try matcher.queries(unknown.map { texts[$0] }, pool: pool)) {
            found[index] = query
            queries.remember(query, for: texts[index], bytes: 2 * texts[index].utf8.count + 4 * query.row.count + 256)
        }
        return found.compactMap(\.self)
    }
}

/// Text prompts in a cluster: candidates from everything mode, what the matcher sees in them, and which of them a text means.
///
/// What the matcher saw is kept beside the candidates: a second text on the picture costs its own encoding and a product.
struct TextDecoder: Sendable {
    let broker: Broker
    let model: TextModel
    let pool: ThreadPool
    let limit: PixelLimit
    /// How long rows are kept.
    let timeToLive: Duration
    /// Rows by what they are kept under.
    private let remembered = RememberedValues<String, Tensor>(byteLimit: 64 << 20)

    /// What the matcher sees in candidates, (candidates, width).
    ///
    /// - Parameters:
    ///   - candidates: of everything mode.
    ///   - parameters: with which they were found.
    ///   - matcher: what looks at them.
    ///   - key: of the picture's embedding.
    ///   - partition: where rows are kept.
    /// - Returns: a row for each candidate.
    /// - Throws: ``PromptRefusal`` where the picture itself is not in the cluster; ``ClusterError`` where Redis does not
    ///   answer.
    func rows(
        of candidates: [MaskCandidate], foundWith parameters: EverythingParameters, _ matcher: any TextMatcher,
        key: EmbeddingKey, in partition: Partition
    ) async throws -> Tensor {
        let kind = "\(parameters.searched.json) \(matcher.fingerprint) \(candidates.count)"
        let name = "\(key)/rows-\(Hexadecimal.text(of: SHA256.hash(Array(kind.utf8)).bytes.prefix(12)))"
        if let rows = remembered.value(for: name) { return rows }
        let count = candidates.count * matcher.width
        if let kept = try await broker.kept(name, in: partition), kept.count == 4 * count {
            let rows = Tensor(shape: [candidates.count, matcher.width]) { memory in
                kept.withUnsafeBytes { bytes in
                    for index in 0..<count {
                        memory[index] = Float(
                            bitPattern: UInt32(
                                littleEndian: bytes.loadUnaligned(fromByteOffset: 4 * index, as: UInt32.self)))
                    }
                }
            }
            remembered.remember(rows, for: name, bytes: 4 * count + 256)
            return rows
        }
        guard let bytes = try await broker.image(key.image) else {
            throw PromptRefusal(reason: "the picture itself is no longer in the cluster: send it again for a text")
        }
        let picture: Image
        do {
            picture = try SubmittedImage(digest: key.image, bytes: bytes).decoded(sharedFolder: nil, limit: limit).image
        } catch let error as UnusableImage {
            throw PromptRefusal(reason: error.reason)
        }
        let rows = matcher.rows(of: candidates.map(\.encoding), in: picture, pool: pool)
        let stored = rows.withUnsafeBufferPointer { numbers in
            numbers.flatMap { withUnsafeBytes(of: $0.bitPattern.littleEndian, Array.init) }
        }
        if !stored.isEmpty {
            // To keep them saves time and no more.
            try? await broker.keep(RedisBytes(stored), as: name, in: partition, timeToLive: timeToLive)
        }
        remembered.remember(rows, for: name, bytes: 4 * count + 256)
        return rows
    }
}

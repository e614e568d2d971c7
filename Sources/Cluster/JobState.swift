/// Where a job stands; the raw values are those of the protocol (`Protocol.md`, "Jobs").
public enum JobState: String, Sendable, Hashable, CaseIterable {
    /// Parked until the embedding of its image is there.
    case waitingForEmbedding = "waiting_embedding"
    /// Queued for a decoder, or in a pause before the next attempt.
    case queued
    /// A decoder holds its lease.
    case inWork = "in_work"
    /// Its parts are done by decoders; it is queued again when the last of them is.
    case waitingForParts = "waiting_parts"
    /// There is a result.
    case done
    /// It cannot be done: the picture or the prompt is to blame.
    case failed
    /// Given up after too many attempts; there is a dead letter.
    case dead
    /// Cancelled by somebody.
    case cancelled
    /// Its deadline passed.
    case expired

    /// Whether it stays so.
    public var isTerminal: Bool {
        switch self {
        case .waitingForEmbedding, .queued, .inWork, .waitingForParts: false
        case .done, .failed, .dead, .cancelled, .expired: true
        }
    }
}

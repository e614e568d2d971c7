/// One of the two ways in which work waits: clicks of people, who look on, and what scripts ask for.
///
/// Interactive work goes first; bulk gets at least one take of nine in each partition (`Protocol.md`, "Which lane first").
public enum Lane: String, Sendable, Hashable, CaseIterable {
    /// Somebody waits for it.
    case interactive
    /// Nobody looks on.
    case bulk
}

/// One of the two kinds of work.
public enum Stage: String, Sendable, Hashable, CaseIterable {
    /// A picture to its embedding: heavy, once per picture and model.
    case encode
    /// An embedding and prompts to masks: light, once per job.
    case decode

    /// The consumer group of the stage's streams.
    public var group: String {
        switch self {
        case .encode: "encoders"
        case .decode: "decoders"
        }
    }
}

public import Segmentation

/// The names of keys and channels (`Protocol.md`, "Keys" and "Waking").
public struct ClusterKeys: Sendable, Hashable {
    /// The first word of every key; several clusters may share a Redis under different ones.
    public let namespace: String

    /// The names under a namespace of letters, digits and `._/-`.
    public init(namespace: String = "kirie") { self.namespace = namespace }

    /// Hash: heartbeats by worker.
    public var workers: String { "\(namespace):workers" }
    /// Hash: the models that workers serve; field `default` is the usual one.
    public var models: String { "\(namespace):models" }
    /// Hash: what holds for the whole cluster; field `partitions`.
    public var cluster: String { "\(namespace):cluster" }

    /// What precedes every key of a partition; KEYS[1] of every function.
    public func prefix(_ partition: Partition) -> String { "\(namespace):{\(partition.index)}:" }
    /// An image file's bytes.
    public func image(_ image: ImageDigest, in partition: Partition) -> String { "\(prefix(partition))image:\(image)" }
    /// An embedding's record.
    public func embedding(_ key: EmbeddingKey, in partition: Partition) -> String {
        "\(prefix(partition))embedding:\(key)"
    }
    /// A job's fields.
    public func job(_ id: String, in partition: Partition) -> String { "\(prefix(partition))job:\(id)" }
    /// A job's result.
    public func result(_ id: String, in partition: Partition) -> String { "\(prefix(partition))result:\(id)" }
    /// A list that gets the state when the job ends.
    public func done(_ id: String, in partition: Partition) -> String { "\(prefix(partition))done:\(id)" }
    /// The stream of dead letters.
    public func deadLetters(_ partition: Partition) -> String { "\(prefix(partition))dead" }
    /// A partition's settings.
    public func limits(_ partition: Partition) -> String { "\(prefix(partition))limits" }
    /// A partition's counters.
    public func counters(_ partition: Partition) -> String { "\(prefix(partition))counters" }
    /// What waits for the workers of a stage.
    public func stream(_ stage: Stage, _ lane: Lane, in partition: Partition) -> String {
        "\(prefix(partition))\(stage.rawValue):\(lane.rawValue)"
    }

    /// Channel: a partition's number, when work came into a stream that was short.
    public func wake(_ stage: Stage) -> String { "\(namespace):wake:\(stage.rawValue)" }
    /// Channel: `<id> <state>` of each job of a partition that ended.
    public func events(_ partition: Partition) -> String { "\(prefix(partition))events" }
    /// Channel: `<id> <state>` of each job of a client that ended.
    public func reply(_ client: String) -> String { "\(namespace):reply:\(client)" }
}

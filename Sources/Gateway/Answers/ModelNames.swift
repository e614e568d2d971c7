import Clients
import Cluster
import HTTPTypes
import Segmentation
import Synchronization

/// The models that the cluster serves, as they were a moment ago: a click does not ask Redis for them.
final class ModelNames: Sendable {
    /// For so long an answer holds.
    private static let validity: Duration = .seconds(1)

    /// A model that may be asked for.
    struct Model: Sendable, Hashable {
        /// How people call it.
        let name: String
        /// Under which its jobs go.
        let identifier: ModelIdentifier
        /// Living workers by role.
        let encoders: Int
        let decoders: Int
        /// Whether it is the one that is meant where none is named.
        let isDefault: Bool
    }

    private struct Memory {
        var at: ContinuousClock.Instant
        var resolution: ServedModels.Resolution
        var hasWorkers: Bool
    }

    private let broker: Broker
    private let served: ServedModels
    /// Guards what was found by name.
    private let known = Mutex<[String: Memory]>([:])

    init(_ broker: Broker) {
        self.broker = broker
        served = ServedModels(broker)
    }

    /// The model of a name; nil for the cluster's usual one.
    ///
    /// - Parameters:
    ///   - name: as `kirie workers` shows it, or an identifier.
    ///   - needsWorkers: whether a model that no living worker serves is refused.
    /// - Returns: under which jobs and embeddings go.
    /// - Throws: ``UnknownModel``; ``Problem`` where no worker is there.
    func model(_ name: String?, needsWorkers: Bool) async throws -> ModelIdentifier {
        let now = ContinuousClock.now
        if let memory = known.withLock({ $0[name ?? ""] }), now - memory.at < Self.validity,
            memory.hasWorkers || !needsWorkers
        {
            return memory.resolution.identifier
        }
        let resolution = try await served.resolve(name)
        let hasWorkers = try await models().contains {
            $0.identifier.family == resolution.identifier.family && $0.decoders > 0
        }
        known.withLock { known in
            if known.count > 256 { known = [:] }
            known[name ?? ""] = Memory(at: now, resolution: resolution, hasWorkers: hasWorkers)
        }
        if needsWorkers, !hasWorkers {
            throw Problem(
                .serviceUnavailable, "no-worker",
                "no worker is there for the model \(name ?? "of this cluster"): start `kirie encoder` and `kirie decoder`, or "
                    + "send Prefer: respond-async, and the job waits for one",
                retryAfter: .seconds(5))
        }
        return resolution.identifier
    }

    /// All models that living workers serve.
    func models() async throws -> [Model] {
        let registry = WorkerRegistry(broker)
        let heartbeats = try await registry.workers().filter { $0.age < WorkerRegistry.patience }.map(\.heartbeat)
        let usual = try await registry.defaultModel()?.family
        var models: [Model] = []
        for (family, group) in Dictionary(grouping: heartbeats, by: \.family) {
            guard let family else { continue }
            models.append(
                Model(
                    name: group.first?.modelName ?? family.text, identifier: try await registry.identifier(of: family),
                    encoders: group.count { $0.role == .encoder && !$0.draining },
                    decoders: group.count { $0.role == .decoder && !$0.draining }, isDefault: family == usual))
        }
        return models.sorted { ($0.isDefault ? 0 : 1, $0.name) < ($1.isDefault ? 0 : 1, $1.name) }
    }
}

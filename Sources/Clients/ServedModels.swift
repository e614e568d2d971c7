package import Cluster
package import Platform
package import Segmentation

/// The models that a cluster serves, by the names that people call them.
package struct ServedModels: Sendable {
    /// What the workers' announcements say of a name.
    package struct Resolution: Sendable {
        /// Under which jobs and embeddings go.
        package let identifier: ModelIdentifier
        /// Whether a worker serves it now; jobs for another wait for one.
        package let isServed: Bool
    }

    private let registry: WorkerRegistry

    package init(_ broker: Broker) { registry = WorkerRegistry(broker) }

    /// The model of a name that `kirie workers` shows, of an identifier, or for nil the cluster's usual one.
    ///
    /// - Throws: ``UnknownModel`` where nobody serves it; `ClusterError` where Redis cannot be asked.
    package func resolve(_ name: String?) async throws -> Resolution {
        guard let name else {
            guard let usual = try await registry.defaultModel() else { throw UnknownModel.noneAnnounced }
            return Resolution(identifier: usual, isServed: true)
        }
        let heartbeats = try await registry.workers().map(\.heartbeat)
        // Encoders of one model that compute differently are no two models: the registry says whose embeddings are meant.
        let named = Set(heartbeats.filter { $0.modelName == name }.compactMap(\.family))
        if named.count > 1 { throw UnknownModel.ambiguous(name: name, identifiers: named.map(\.text).sorted()) }
        if let family = named.first {
            return Resolution(identifier: try await registry.identifier(of: family), isServed: true)
        }
        if heartbeats.contains(where: { $0.model == name || $0.serves?.contains(name) ?? false }),
            let identifier = ModelIdentifier(name)
        {
            return Resolution(identifier: identifier, isServed: true)
        }
        // An identifier has colons and a name has none; its workers may still be on their way.
        if name.contains(":"), let identifier = ModelIdentifier(name) {
            return Resolution(identifier: identifier, isServed: false)
        }
        throw UnknownModel.notServed(
            name: name, served: Set(heartbeats.map(\.modelName)).filter { !$0.isEmpty }.sorted())
    }
}

/// A model that jobs cannot be submitted for.
package enum UnknownModel: ReportableError {
    case noneAnnounced
    case notServed(name: String, served: [String])
    case ambiguous(name: String, identifiers: [String])

    /// What is served, and what to do.
    package var report: ErrorReport {
        switch self {
        case .noneAnnounced:
            ErrorReport(
                .comeBackLater, "no-worker", "no worker has ever announced a model here",
                remedy: "start `kirie up`, or `kirie encoder` and `kirie decoder`, then submit again")
        case .notServed(let name, let served) where served.isEmpty:
            ErrorReport(
                .comeBackLater, "no-worker", "no worker serves the model \(name); no worker is there at all",
                remedy: "start `kirie encoder` and `kirie decoder`")
        case .notServed(let name, let served):
            ErrorReport(
                .notFound, "unknown-model",
                "no worker serves the model \(name); served are: \(served.joined(separator: ", "))")
        case .ambiguous(let name, let identifiers):
            ErrorReport(
                .usage, "ambiguous-model", "workers serve different weights under the name \(name)",
                remedy: "name one of \(identifiers.joined(separator: ", "))")
        }
    }

    /// The report in one line.
    package var description: String { report.text }
}

import ArgumentParser
import Cluster
import Segmentation

/// For which model of the cluster.
struct ModelChoice: ParsableArguments {
    @Option(
        name: .long,
        help: ArgumentHelp(
            "The name that `kirie workers` shows, or a model identifier. Default: the cluster's usual model.",
            valueName: "model"))
    var model: String?

    /// The identifier under which jobs and embeddings go.
    ///
    /// - Throws: ``UnknownModel`` where nobody serves it.
    func resolve(_ broker: Broker) async throws -> ModelIdentifier {
        let registry = WorkerRegistry(broker)
        guard let model else {
            guard let usual = try await registry.defaultModel() else { throw UnknownModel.noneAnnounced }
            return usual
        }
        let heartbeats = try await registry.workers().map(\.heartbeat)
        let named = Set(heartbeats.filter { $0.modelName == model || $0.model == model }.map(\.model))
        if named.count > 1 { throw UnknownModel.ambiguous(name: model, identifiers: named.sorted()) }
        if let identifier = named.first.flatMap({ ModelIdentifier($0) }) { return identifier }
        // An identifier has colons and a name has none; its workers may still be on their way.
        if model.contains(":"), let identifier = ModelIdentifier(model) {
            Terminal.complain("kirie: no worker serves the model \(model) now; the jobs wait for one")
            return identifier
        }
        throw UnknownModel.notServed(
            name: model, served: Set(heartbeats.map(\.modelName)).filter { !$0.isEmpty }.sorted())
    }
}

/// A model that jobs cannot be submitted for.
enum UnknownModel: Error, CustomStringConvertible {
    case noneAnnounced
    case notServed(name: String, served: [String])
    case ambiguous(name: String, identifiers: [String])

    var description: String {
        switch self {
        case .noneAnnounced:
            "no worker has ever announced a model here: start `kirie up`, or `kirie encoder` and `kirie decoder`, then "
                + "submit again"
        case .notServed(let name, let served):
            "no worker serves the model \(name); "
                + (served.isEmpty ? "no worker is there at all" : "served are: \(served.joined(separator: ", "))")
        case .ambiguous(let name, let identifiers):
            "workers serve different weights under the name \(name): name one of \(identifiers.joined(separator: ", "))"
        }
    }
}

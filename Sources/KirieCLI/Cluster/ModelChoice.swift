import ArgumentParser
import Clients
import Cluster
import Segmentation
import Terminals

/// For which models of the cluster.
struct ModelsChoice: ParsableArguments {
    @Option(
        name: .customLong("model"),
        help: ArgumentHelp(
            "The name that `kirie workers` shows, or a model identifier; may be given several times. Default: the cluster's "
                + "usual model.",
            valueName: "model"))
    var models: [String] = []

    /// The identifiers, each once, with how they were called.
    ///
    /// - Throws: ``UnknownModel`` where nobody serves one.
    func resolve(_ broker: Broker) async throws -> [(name: String, identifier: ModelIdentifier)] {
        var found: [(name: String, identifier: ModelIdentifier)] = []
        for name in models.isEmpty ? [nil] : models.map(Optional.some) {
            var choice = ModelChoice()
            choice.model = name
            let identifier = try await choice.resolve(broker)
            if !found.contains(where: { $0.identifier == identifier }) {
                found.append((name ?? identifier.text, identifier))
            }
        }
        return found
    }
}

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
        let resolution = try await ServedModels(broker).resolve(model)
        if !resolution.isServed {
            Terminal.complain(
                "kirie: no worker serves the model \(resolution.identifier.text) now; the jobs wait for one")
        }
        return resolution.identifier
    }
}

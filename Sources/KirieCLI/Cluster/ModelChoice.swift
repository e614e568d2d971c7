import ArgumentParser
import Clients
import Cluster
import Segmentation
import Terminals

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

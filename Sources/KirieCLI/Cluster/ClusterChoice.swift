import ArgumentParser
import Clients
import Cluster
import Embeddings
import FoundationEssentials
import Redis
import Segmentation

/// Whether a command works in its own process or has a cluster do it.
struct ClusterChoice: ParsableArguments {
    @Option(
        name: .long,
        help: ArgumentHelp(
            "Let the workers of a cluster do it, for the same output: redis://… or unix:///… of its Redis. Without it the "
                + "work is done here.",
            valueName: "url"))
    var redis: String?

    @Option(name: .long, help: ArgumentHelp("The first word of the cluster's keys.", visibility: .hidden))
    var namespace = "kirie"

    @OptionGroup var tenant: TenantOption

    /// Refuses what only workers can be told when they are started.
    func check(_ model: ModelOptions) throws {
        guard let redis else {
            if tenant.tenant != nil {
                throw ValidationError("--tenant goes with --redis: here nobody shares anything.")
            }
            return
        }
        _ = try RedisOptions.url(redis, password: RedisOptions.secret)
        if model.precision != .auto || model.threads != nil || model.pin {
            throw ValidationError("With --redis the workers' own --precision, --threads and --pin hold.")
        }
    }

    /// The cluster; nil where the work is done here.
    ///
    /// `model` is a name that `kirie workers` shows; nil for the cluster's usual one.
    func call(model: String?, pictures: PictureOptions) async throws -> ClusterCall? {
        guard let redis else { return nil }
        let options = try RedisOptions.parse(["--redis", redis, "--namespace", namespace])
        let choice = try ModelChoice.parse(model.map { ["--model", $0] } ?? [])
        let broker = try await options.submitter(for: tenant)
        let files = PictureFiles(readers: 1, decoder: pictures.decoder)
        return ClusterCall(broker: broker, model: try await choice.resolve(broker), files: files)
    }
}

/// A command's one job in a cluster.
struct ClusterCall: Sendable {
    let broker: Broker
    let model: ModelIdentifier
    let files: PictureFiles

    var intake: JobIntake { JobIntake(JobIntake.Defaults(model: model, lane: .interactive), files: files) }

    /// What became of a job.
    func result(of request: JobRequest) async throws -> Answer {
        let result = try await JobCall(broker, files: files).result(of: request)
        do { return try JSONDecoder().decode(Answer.self, from: Data(result.array)) } catch {
            throw JobFailure(state: .done, reason: "its result is no answer that this program reads")
        }
    }

    /// What became of a job, with its masks prompt by prompt.
    func answer(of request: JobRequest) async throws -> (answer: Answer, masks: [[Mask]]) {
        var answer = try await result(of: request)
        var masks: [[Mask]] = []
        var last: Int?
        for cutout in answer.masks {
            guard let runs = cutout.segmentation, runs.size.count == 2 else { continue }
            let mask = try RunLengthEncoding(
                compressed: runs.counts, height: runs.size[0], width: runs.size[1]
            ).mask
            if cutout.prompt == last { masks[masks.count - 1].append(mask) } else { masks.append([mask]) }
            last = cutout.prompt
        }
        if answer.image.sha256 == nil { answer.image.sha256 = request.job.image.hexadecimal }
        return (answer, masks)
    }
}

import ArgumentParser
import Cluster
import Glibc
import LocalCluster
import Platform
import Redis
import Tensors
import Terminals

struct UpCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "up",
        abstract: "Run a whole cluster on this machine: a private redis-server, workers, and the page to click on.",
        discussion: """
            kirie up                                   then, in another terminal:
            kirie submit photo.jpg --point 920,560 --wait
            kirie queues --watch

            Redis listens on a Unix socket in the data folder, which survives: jobs that were accepted are finished after
            a restart. A worker that crashes is started again. Ctrl-C or SIGTERM drains the workers and stops Redis.
            When the cluster is ready, two lines are printed on standard output: KIRIE_REDIS=unix:///… and
            KIRIE_GATEWAY=http://…, the page's address.
            """)

    @Option(
        name: .long,
        help: ArgumentHelp(
            "The folder for Redis's data, its socket and the logs. Default: $XDG_DATA_HOME/kirie/cluster.",
            valueName: "folder"))
    var data: String?

    @Option(name: .long, help: "Encoder workers.")
    var encoders = 1

    @Option(name: .long, help: "Decoder workers. Default: one for each four processors, at least one.")
    var decoders: Int?

    @Option(
        name: .customLong("redis-memory"),
        help: ArgumentHelp(
            "Redis's maxmemory in bytes; embeddings go when it is reached. Default: a quarter of the memory.",
            valueName: "bytes"))
    var redisMemory: Int?

    @Option(
        name: .customLong("appendfsync"),
        help: "When Redis's append-only file is flushed: always (nothing accepted is ever lost), everysec or no.")
    var appendFsync: AppendFsync = .everysec

    @Option(
        name: .customLong("cache-bytes"), help: ArgumentHelp("Of each decoder; see `kirie decoder`.", valueName: "n"))
    var cacheBytes = 1 << 30

    @Option(
        name: .long, help: ArgumentHelp("Of each worker; see `kirie encoder`.", valueName: "seconds"),
        transform: DecimalNumber.argument)
    var lease = 15.0

    @Option(
        name: .customLong("metrics-port"),
        help: ArgumentHelp("Serve each worker's metrics, from this port upwards.", valueName: "port"))
    var metricsPort: Int?

    @Option(
        name: .long,
        help: ArgumentHelp(
            "Where the gateway listens; none for no gateway. Default: 127.0.0.1:8080, or a free port where that is taken.",
            valueName: "host:port"))
    var listen: String?

    @OptionGroup var folder: CacheFolderOptions
    @OptionGroup var partitions: PartitionOption
    @OptionGroup var model: ModelOptions

    enum AppendFsync: String, ExpressibleByArgument, CaseIterable { case always, everysec, no }

    func validate() throws {
        if !(0...256).contains(encoders) { throw ValidationError("--encoders takes a number from 0 to 256.") }
        if let decoders, !(0...256).contains(decoders) {
            throw ValidationError("--decoders takes a number from 0 to 256.")
        }
        if let redisMemory, redisMemory < 64 << 20 {
            throw ValidationError("--redis-memory takes at least 67108864 bytes.")
        }
        if !(0.05...86_400).contains(lease) { throw ValidationError("--lease takes seconds from 0.05 to 86400.") }
        if let listen, listen != "none", ListenAddress(argument: listen) == nil {
            throw ValidationError("--listen takes an address such as 127.0.0.1:8080, or none.")
        }
        if let metricsPort, !(1...65_000).contains(metricsPort) {
            throw ValidationError("--metrics-port takes a number from 1 to 65000.")
        }
    }

    func run() async throws {
        // What is wrong with the model is said here once, not by every worker over and over.
        _ = try model.open()
        _ = try folder.open()
        let processes = LocalProcesses(
            LocalProcesses.Settings(
                folder: ClusterFolder(path: try data.map(Self.absolute) ?? ClusterFolder.standard.path),
                encoders: encoders, decoders: decoders ?? max(1, ThreadPool.availableProcessors / 4),
                redisMemory: redisMemory ?? Self.quarterOfMemory, appendFsync: appendFsync.rawValue,
                workerArguments: try workerArguments + folder.arguments(Self.absolute),
                decoderArguments: ["--cache-bytes", "\(cacheBytes)"],
                metricsPort: metricsPort, gatewayArguments: gatewayArguments, partitions: partitions.count))
        try await processes.run { socket, address in
            let page = address.map { "KIRIE_GATEWAY=\($0)\n" } ?? ""
            try StandardOutput.print(Array("KIRIE_REDIS=unix://\(socket)\n\(page)".utf8))
        }
    }

    private var gatewayArguments: [String]? {
        if listen == "none" { return nil }
        return ["--listen", listen ?? "127.0.0.1:8080"] + (listen == nil ? ["--any-port"] : [])
    }

    private var workerArguments: [String] {
        ["--lease", "\(lease)"] + model.workerArguments + (model.threads.map { ["--threads", "\($0)"] } ?? [])
    }

    private static func absolute(_ path: String) throws -> String {
        if path.hasPrefix("/") { return path }
        guard let here = getcwd(nil, 0) else { return path }
        defer { free(here) }
        return "\(FileName.text(of: here))/\(path)"
    }

    private static var quarterOfMemory: Int {
        max(256 << 20, sysconf(Int32(_SC_PHYS_PAGES)) * sysconf(Int32(_SC_PAGESIZE)) / 4)
    }
}

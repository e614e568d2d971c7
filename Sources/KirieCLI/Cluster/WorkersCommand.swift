import ArgumentParser
import Cluster
import JSON
import Redis
import Terminals

struct WorkersCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "workers",
        abstract: "Who is there: encoders, decoders, gateways, and what each is doing.",
        discussion: """
            kirie workers --watch
            kirie workers --json

            LOAD is the pieces of work that a worker holds, of those that it can hold. SEEN is how long ago its last heartbeat
            came; one comes every two seconds, and after eight a worker counts as gone.
            """)

    @OptionGroup var options: WatchOptions
    @OptionGroup var redis: RedisOptions

    func run() async throws {
        let broker = try await redis.watcher(patience: options.watch ? .seconds(1) : nil)
        let registry = WorkerRegistry(broker)
        let view = LiveView(
            title: "kirie workers  \(broker.redis.url)", interval: options.watch ? options.interval : nil,
            isJSON: options.json)
        try await view.run {
            let workers = try await registry.workers()
            return LiveFrame(
                lines: Self.lines(workers),
                json: .object([("workers", .array(workers.map { Self.json($0.heartbeat, age: $0.age) }))]))
        }
    }

    private static func lines(_ workers: [(heartbeat: WorkerHeartbeat, age: Duration)]) -> [TintedLine] {
        // What a narrow window cuts off is what the name of a worker mostly says too.
        var table = TextTable([
            ("ROLE", .left, 7), ("NAME", .left, 12), ("STATE", .left, 8), ("SEEN", .right, 6), ("LOAD", .right, 4),
            ("DONE", .right, 6), ("IMAGES", .right, 6), ("MEMORY", .right, 6), ("MODEL", .left, 0),
            ("THREADS", .right, 7), ("HOST", .left, 0), ("PID", .right, 0),
        ])
        for (worker, age) in workers {
            let isGone = age >= WorkerRegistry.patience
            let nothing = TextTable.Cell(Figures.nothing, .quiet)
            let memory: [TextTable.Cell] =
                worker.role == .decoder
                ? [
                    .count(worker.cachedImages),
                    TextTable.Cell(Figures.bytes(worker.cachedBytes), worker.cachedBytes == 0 ? .quiet : .plain),
                ] : [nothing, nothing]
            let state =
                isGone
                ? TextTable.Cell("gone", .bad)
                : worker.draining ? TextTable.Cell("draining", .warning) : TextTable.Cell("here", .good)
            table.add(
                [
                    TextTable.Cell(worker.role.rawValue), TextTable.Cell(worker.name), state,
                    TextTable.Cell(Figures.duration(age), isGone ? .bad : .plain),
                    TextTable.Cell("\(worker.load)/\(worker.capacity)", worker.load > 0 ? .good : .quiet),
                    .count(worker.completed),
                ] + memory + [
                    TextTable.Cell(worker.modelName.isEmpty ? worker.model : worker.modelName),
                    TextTable.Cell("\(worker.threads)"), TextTable.Cell(worker.host),
                    TextTable.Cell("\(worker.processIdentifier)"),
                ])
        }
        if workers.isEmpty {
            return [TintedLine("no worker is there: start kirie encoder and kirie decoder, or kirie up", .warning)]
        }
        var line = TintedLine()
        for (index, role) in WorkerHeartbeat.Role.allCases.enumerated() {
            let count = workers.count { $0.heartbeat.role == role && $0.age < WorkerRegistry.patience }
            line.add("\(index > 0 ? " · " : "")\(role.rawValue)s ", .quiet)
            line.add("\(count)", count == 0 && role != .gateway ? .bad : .plain)
        }
        return table.lines + [TintedLine(), line]
    }

    private static func json(_ worker: WorkerHeartbeat, age: Duration) -> JSONValue {
        .object([
            ("role", .string(worker.role.rawValue)), ("name", .string(worker.name)), ("host", .string(worker.host)),
            ("pid", .integer(worker.processIdentifier)), ("model", .string(worker.model)),
            ("model_name", .string(worker.modelName)), ("threads", .integer(worker.threads)),
            ("load", .integer(worker.load)), ("capacity", .integer(worker.capacity)),
            ("cached_images", .integer(worker.cachedImages)), ("cached_bytes", .integer(worker.cachedBytes)),
            ("completed", .integer(worker.completed)), ("draining", .bool(worker.draining)),
            ("age_ms", JSONValue(milliseconds: age)), ("alive", .bool(age < WorkerRegistry.patience)),
        ])
    }
}

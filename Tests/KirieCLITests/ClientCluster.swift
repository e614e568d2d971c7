import Cluster
import Foundation
import KirieTesting
import Platform
import Redis
import RedisTesting
import Segmentation
import Synchronization
import Testing

/// `kirie` against a real redis-server, as a process beside the test.
///
/// Starting one blocks nobody: the test's own workers share the process with it.
final class ClientRun: Sendable {
    /// What a run printed and how it ended.
    struct Ending: Sendable {
        let output: String
        let complaint: String
        let status: Int32

        /// The JSON objects on standard output, a line each; what is none fails the test.
        var objects: [[String: Any]] {
            output.split(separator: "\n").compactMap { line in
                let object = try? JSONSerialization.jsonObject(with: Data(line.utf8))
                if object == nil { Issue.record("this is no JSON: \(line)") }
                return object as? [String: Any]
            }
        }
    }

    let child: ChildProcess
    private let directory: String

    /// Runs `program` with the arguments, after `env` and `sh` have set it up; `input` is a file for its standard
    /// input, `path` a folder that comes before those of programs.
    init(
        _ arguments: [String], redis: RedisURL?, input: String? = nil, environment: [String: String] = [:],
        workingDirectory: String = "/tmp", closesOutput: Bool = false, program: String = KirieProcess.executable.path,
        path: String? = nil
    ) throws {
        directory = NSTemporaryDirectory() + "kirie-run-\(UUID().uuidString)"
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        var variables = environment
        if let redis { variables["KIRIE_REDIS"] = redis.textWithPassword }
        if let path { variables["PATH"] = "\(path):/usr/local/bin:/usr/bin:/bin" }
        let words = variables.map { "\($0.key)=\($0.value)" }
        let output = closesOutput ? ">&-" : ">\"$OUT/output\""
        child = try ChildProcess.start(
            "/usr/bin/env",
            ["-u", "KIRIE_REDIS", "-u", "KIRIE_MODEL", "OUT=\(directory)", "IN=\(input ?? "/dev/null")"] + words + [
                "sh", "-c", "cd '\(workingDirectory)' && exec \"$0\" \"$@\" \(output) 2>\"$OUT/complaint\" <\"$IN\"",
                program,
            ] + arguments, ChildProcess.Options(output: .file("\(directory)/shell")))
    }

    deinit {
        child.signal(SIGKILL)
        try? FileManager.default.removeItem(atPath: directory)
    }

    /// What it printed so far.
    var output: String { (try? String(contentsOfFile: "\(directory)/output", encoding: .utf8)) ?? "" }
    var complaint: String { (try? String(contentsOfFile: "\(directory)/complaint", encoding: .utf8)) ?? "" }

    /// Returns when it has ended.
    func end() async throws -> Ending {
        let child = child
        let exit = try await within(
            .hang, "the end of kirie; so far \(output.suffix(500)) \(complaint.suffix(500))"
        ) { await child.waitForExit() }
        // The shell's own words are there when it could not start the program.
        let shell = (try? String(contentsOfFile: "\(directory)/shell", encoding: .utf8)) ?? ""
        let status: Int32 =
            switch exit {
            case .status(let status): status
            case .signal(let signal): -signal
            }
        return Ending(output: output, complaint: complaint + shell, status: status)
    }
}

/// The heartbeats of workers that only a test knows, for as long as it uses them.
private final class Hearts: Sendable {
    /// By worker, what sends its heartbeats; under the lock a new one takes the place of the one before.
    private let beating = Mutex<[String: Task<Void, Never>]>([:])

    deinit { beating.withLock { $0.values.forEach { $0.cancel() } } }

    func beat(_ heartbeat: WorkerHeartbeat, in registry: WorkerRegistry) async throws {
        // What it said before must not come after what it says now.
        if let former = beating.withLock({ $0.removeValue(forKey: heartbeat.name) }) {
            former.cancel()
            await former.value
        }
        try await registry.beat(heartbeat)
        let heart = Task {
            // A test may stop Redis: the next heartbeat may find it again.
            while (try? await Task.sleep(for: .seconds(1))) != nil { try? await registry.beat(heartbeat) }
        }
        beating.withLock { $0[heartbeat.name] = heart }
    }
}

/// A cluster whose far side runs in the test: encoders and decoders that know no model.
struct ClientCluster: Sendable {
    static let model = ModelIdentifier(fingerprint: [UInt8](repeating: 7, count: 32))
    /// Another one, which none of its workers serves unless a test wants it.
    static let otherModel = ModelIdentifier(fingerprint: [UInt8](repeating: 8, count: 32))

    let server: RedisServerProcess
    let broker: Broker
    let encodes = Tally()
    private let hearts = Hearts()

    static func start(
        _ options: RedisServerProcess.Options = .init(), settings: [String: Int] = [:], announces: Bool = true
    ) async throws -> ClientCluster {
        let server = try await RedisServerProcess.start(options)
        let broker = try await Broker.open(try await RedisClient.connect(server.url))
        try await broker.set(settings)
        let cluster = ClientCluster(server: server, broker: broker)
        if announces { try await cluster.announce() }
        return cluster
    }

    /// Sends a worker's heartbeat, and again each second, as a real one would: however slow the machine, no look finds it gone.
    func announce(_ change: (inout WorkerHeartbeat) -> Void = { _ in }) async throws {
        var heartbeat = WorkerHeartbeat(
            name: "far:1", role: .decoder, host: "far", processIdentifier: 1, model: Self.model, modelName: "tiny")
        change(&heartbeat)
        try await hearts.beat(heartbeat, in: WorkerRegistry(broker))
    }

    /// Runs `kirie` to its end.
    func kirie(
        _ arguments: [String], input: String? = nil, environment: [String: String] = [:],
        workingDirectory: String = "/tmp"
    ) async throws -> ClientRun.Ending {
        try await start(arguments, input: input, environment: environment, workingDirectory: workingDirectory).end()
    }

    func start(
        _ arguments: [String], input: String? = nil, environment: [String: String] = [:],
        workingDirectory: String = "/tmp"
    ) throws -> ClientRun {
        try ClientRun(
            arguments, redis: server.url, input: input, environment: environment, workingDirectory: workingDirectory)
    }

    /// Has jobs done while `body` runs; `gate` is awaited before each batch is answered.
    ///
    /// A prompt whose first point lies at x = 13 is unusable. `others` are models that pictures are encoded for, too.
    func working(
        encodingAlso others: [ModelIdentifier] = [], gate: @escaping @Sendable () async -> Void = {},
        _ body: @escaping @Sendable () async throws -> Void
    ) async throws {
        var settings = WorkLoopSettings(concurrency: 2)
        settings.poll = .milliseconds(200)
        settings.housekeeping = .milliseconds(50)
        // No lease ends by itself, however long a task waits for its turn.
        settings.lease = .seconds(3600)
        let encodes = encodes
        let encoders = ([Self.model] + others).enumerated().map { index, model in
            WorkLoop(
                EncodeSource(broker, worker: "encoder\(index)", model: model) { _ in
                    encodes.add()
                    return .embedding(RedisBytes("record"), expiry: .seconds(600))
                }, broker: broker, settings: settings, members: { ["encoder\(index)"] })
        }
        let decoder = WorkLoop(
            DecodeSource(broker, worker: "decoder", model: Self.model) { batch in
                await gate()
                return .answers(batch.leases.map { Self.answer($0.line) })
            }, broker: broker, settings: settings, members: { ["decoder"] })
        try await withThrowingTaskGroup(of: Void.self) { group in
            for encoder in encoders { group.addTask { await encoder.run() } }
            group.addTask { await decoder.run() }
            do { try await body() } catch {
                group.cancelAll()
                throw error
            }
            for encoder in encoders { encoder.drain() }
            decoder.drain()
        }
    }

    /// A mask of 4 x 3 pixels for each prompt, with as many pixels as the prompt's number and one.
    static func mask(_ prompt: Int) -> Mask {
        Mask(width: 4, height: 3, pixels: (0..<12).map { $0 <= prompt ? 1 : 0 })
    }

    private static func answer(_ bytes: RedisBytes) -> PromptAnswer {
        guard let line = try? JobLine(parsing: bytes.array) else { return .unusable(reason: "no line") }
        if line.prompts.first?.points.first?.x == 13 { return .unusable(reason: "thirteen is no place") }
        let masks = line.prompts.indices.map { index in
            let encoding = RunLengthEncoding(mask(index))
            return
                "{\"prompt\":\(index),\"score\":0.5,\"stability_score\":1,\"area\":\(encoding.area),\"bbox\":[0,0,1,1],"
                + "\"segmentation\":{\"size\":[3,4],\"counts\":\"\(encoding.compressed)\"}}"
        }
        return .result(
            RedisBytes(
                "{\"image\":{\"width\":4,\"height\":3},\"model\":\"tiny\",\"precision\":\"fp32\",\"timings_ms\":{},"
                    + "\"masks\":[\(masks.joined(separator: ","))]}"))
    }
}

extension RedisURL {
    /// The text form as a user would write it.
    fileprivate var textWithPassword: String {
        guard case .unixSocket(let path) = endpoint else { return description }
        return password.map { "unix://\(user ?? ""):\($0.secret)@\(path)" } ?? "unix://\(path)"
    }
}

import Cluster
import Glibc
import Logging
import Platform
import Redis
import RedisTesting
import Segmentation
import ServiceLifecycle
import UnixSignals
import Workers

// The examples of documentation comments on Redis, jobs, workers, threads and errors, word for word; around them is what
// they speak of.

func sentCommands(_ record: RedisBytes) async throws -> [RedisValue] {
    let redis = try await RedisClient.connect(RedisURL("unix:///run/kirie/redis.sock"))
    try await redis.set("kirie:{3}:embedding:a", .bytes(record), expiry: .seconds(3600))
    let answers = try await redis.pipeline([RedisCommand("XLEN", "a"), RedisCommand("XLEN", "b")])
    return answers
}

func killedServer() async throws -> RedisClient {
    let server = try await RedisServerProcess.start(.init(appendOnly: true, appendFsync: .always))
    let redis = try await RedisClient.connect(server.url)
    await server.kill(SIGKILL)
    try await server.restart()  // the same data, the same address
    return redis
}

func submittedByBroker(
    _ url: RedisURL, _ digest: ImageDigest, _ file: RedisBytes, _ model: ModelIdentifier, _ line: RedisBytes
) async throws -> [Submission] {
    let broker = try await Broker.open(RedisClient.connect(url))
    try await broker.putImage(digest, .bytes(file))
    let outcomes = try await broker.submit([Job(id: "a", lane: .bulk, image: digest, model: model, line: line)])
    return outcomes
}

func submittedWithPictures(
    _ broker: Broker, _ jobs: [Job], _ pictures: [ImageDigest: RedisBytes]
) async throws -> [Submission] {
    let submitter = JobSubmitter(broker, whenFull: .wait)
    let outcomes = try await submitter.submit(jobs) { digest in pictures[digest] }
    return outcomes
}

func followed(
    _ broker: Broker, _ references: [JobReference], report: @escaping @Sendable ([JobEnding]) -> Void
) async throws {
    let follower = JobFollower(broker)
    async let told: Void = follower.run { endings in report(endings) }
    follower.add(references)  // any number of times
    follower.close()  // run() returns with the last ending
    try await told
}

func worked(_ source: some WorkSource, _ broker: Broker, toldToStop: () async -> Void) async {
    let loop = WorkLoop(
        source, broker: broker, settings: WorkLoopSettings(concurrency: 2), members: { ["encoder-1", "encoder-2"] })
    async let running: Void = loop.run()
    await toldToStop()  // SIGTERM
    loop.drain()
    await running
}

func served(
    _ source: some WorkSource, _ broker: Broker, _ settings: WorkLoopSettings, _ heartbeat: WorkerHeartbeat,
    _ logger: Logger
) async throws {
    let encoder = WorkerService(source, broker: broker, settings: settings, heartbeat: heartbeat, logger: logger)
    try await ServiceGroup(services: [encoder], gracefulShutdownSignals: [.sigterm, .sigint], logger: logger).run()
}

func doneOnAThreadOfItsOwn(work: @Sendable () async -> Void) async {
    await withTaskExecutorPreference(OwnThread()) { await work() }
}

actor Pages {
    private let thread = BlockingExecutor()
    nonisolated var unownedExecutor: UnownedSerialExecutor { thread.asUnownedSerialExecutor() }
}

func reported() -> ErrorReport {
    let report = ErrorReport(
        .input, "truncated-picture", at: "photo.png", "the file ends after 500 bytes", remedy: "copy it again")
    print(report.text)  // photo.png: the file ends after 500 bytes: copy it again
    return report
}

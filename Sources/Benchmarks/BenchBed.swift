package import Cluster
import Embeddings
import Glibc
import Imaging
package import JSON
package import LocalCluster
package import Platform
package import Redis
package import Segmentation

/// A redis-server, a folder and workers for one measurement, gone when it is over.
package final class BenchBed: Sendable {
    package let broker: Broker
    package let folder: ClusterFolder
    private let redis: LocalRedis
    private let program: String
    private let workerArguments: [String]

    /// Where the server listens.
    package var url: RedisURL { broker.redis.url }

    private init(
        _ broker: Broker, _ folder: ClusterFolder, _ redis: LocalRedis, _ program: String, _ workerArguments: [String]
    ) {
        self.broker = broker
        self.folder = folder
        self.redis = redis
        self.program = program
        self.workerArguments = workerArguments
    }

    /// Runs `body` with a redis-server that is there for it alone, and returns what it measured.
    ///
    /// - Parameters:
    ///   - program: the path of the `kirie` that workers are started from.
    ///   - workerArguments: how they are told which model to serve.
    ///   - body: may start workers; the server and the folder are gone when it returns or throws.
    /// - Returns: what `body` returns.
    /// - Throws: `ClusterFolderError` where no folder can be made or no port is free; what stands in the way of the
    ///   server's start; what `body` throws.
    package static func use<Figure>(
        program: String, workerArguments: [String], _ body: (BenchBed) async throws -> Figure
    ) async throws -> Figure {
        guard let path = TemporaryFolder.make("kirie-bench"), let port = LoopbackPort.free() else {
            throw ClusterFolderError(path: "/tmp", reason: "no folder can be made in it, or no port is free")
        }
        defer { TemporaryFolder.remove(path) }
        let folder = ClusterFolder(path: path)
        try folder.prepare()
        let redis = LocalRedis(folder: folder, memory: 8 << 30, appendFsync: "everysec", port: port)
        try await redis.prepare()
        let running = Task { await redis.keepRunning() }
        do {
            _ = try await redis.connect { false }
            let client = try await RedisClient.connect(RedisURL(.tcp(host: "127.0.0.1", port: port)))
            let bed = BenchBed(try await Broker.open(client), folder, redis, program, workerArguments)
            let figure = try await body(bed)
            client.close()
            await redis.stop()
            await running.value
            return figure
        } catch {
            await redis.stop()
            throw error
        }
    }

    /// Starts workers, and returns when all have announced themselves.
    package func start(_ role: String, count: Int, threads: Int?, more: [String] = []) async throws -> [ChildProcess] {
        var arguments = [role, "--redis", "\(url)"] + more
        arguments += workerArguments
        if let threads { arguments += ["--threads", "\(threads)"] }
        let before = try await WorkerRegistry(broker).workers().count
        let children = try (0..<count).map { _ in
            try ChildProcess.start(program, arguments, .init(output: .file(folder.log(role))))
        }
        while try await WorkerRegistry(broker).workers().count < before + count {
            guard children.allSatisfy(\.isRunning) else {
                throw ClusterFolderError(path: folder.log(role), reason: "a worker ended: run it by hand to see why")
            }
            try await Task.sleep(for: .milliseconds(20))
        }
        return children
    }

    /// Ends workers with SIGTERM.
    package func stop(_ children: [ChildProcess]) async {
        for child in children { child.signal(SIGTERM) }
        for child in children { await child.waitForExit() }
    }

    /// Puts drawn pictures into the cluster and has them encoded.
    package func encodePictures(_ count: Int, seed: UInt64) async throws -> (
        images: [ImageDigest], model: ModelIdentifier
    ) {
        guard let model = try await WorkerRegistry(broker).defaultModel() else {
            throw ClusterFolderError(path: folder.path, reason: "no worker has announced a model")
        }
        var random = SplitMix64(seed: seed)
        var jobs: [Job] = []
        for _ in 0..<count {
            let file = try BenchPicture.draw(&random)
            let digest = file.withUnsafeBytes { ImageDigest(ofFile: $0) }
            try await broker.putImage(digest, .bytes(RedisBytes(file)))
            jobs.append(
                Job(id: Job.makeIdentifier(), lane: .bulk, image: digest, model: model, line: RedisBytes("")))
        }
        try await finish(jobs)
        return (jobs.map(\.image), model)
    }

    /// Submits jobs and returns when all have ended; throws where one did not end well.
    package func finish(_ jobs: [Job]) async throws {
        let references = try await broker.submit(jobs).compactMap(\.reference)
        for try await ending in JobWaiter(broker).endings(of: references) where ending.state != .done {
            throw ClusterFolderError(
                path: folder.path,
                reason: "a job ended as \(ending.state.map(\.rawValue) ?? "unknown"): \(ending.error ?? "")")
        }
    }
}

/// A picture with shapes to point at.
package enum BenchPicture {
    package static let width = 1024
    package static let height = 768

    package static func draw(_ random: inout SplitMix64) throws -> [UInt8] {
        var pixels = [UInt8](repeating: 0, count: width * height * 3)
        let colours = (0..<8).map { _ in (0..<3).map { _ in UInt8.random(in: 0...255, using: &random) } }
        let centres = (0..<8).map { _ in
            (Int.random(in: 0..<width, using: &random), Int.random(in: 0..<height, using: &random))
        }
        for y in 0..<height {
            for x in 0..<width {
                // Each pixel has the colour of the nearest centre: patches with straight edges.
                var best = (index: 0, distance: Int.max)
                for (index, centre) in centres.enumerated() {
                    let (dx, dy) = (x - centre.0, y - centre.1)
                    let distance = dx * dx + dy * dy
                    if distance < best.distance { best = (index, distance) }
                }
                for channel in 0..<3 { pixels[(y * width + x) * 3 + channel] = colours[best.index][channel] }
            }
        }
        return try PNGWriter.encode(Image(width: width, height: height, pixels: pixels))
    }
}

extension BenchPicture {
    /// A picture file of about so many bytes: noise, which nothing makes smaller.
    static func noise(bytes: Int, seed: UInt64) throws -> [UInt8] {
        var random = SplitMix64(seed: seed)
        let side = Int((Double(bytes) / 3).squareRoot())
        var pixels = [UInt8](repeating: 0, count: side * side * 3)
        pixels.withUnsafeMutableBytes { memory in
            for index in stride(from: 0, to: memory.count - 7, by: 8) {
                memory.storeBytes(of: random.next(), toByteOffset: index, as: UInt64.self)
            }
        }
        return try PNGWriter.encode(Image(width: side, height: side, pixels: pixels))
    }
}

/// Times in figures.
package struct Times {
    private let sorted: [Double]

    /// Milliseconds, in any order.
    package init(_ milliseconds: [Double]) { sorted = milliseconds.sorted() }

    /// The time below which a part of all lies.
    package func quantile(_ part: Double) -> Double {
        guard !sorted.isEmpty else { return 0 }
        return sorted[min(sorted.count - 1, Int(part * Double(sorted.count)))]
    }

    package var figures: JSONValue {
        .object([("p50", number(0.5)), ("p95", number(0.95)), ("p99", number(0.99))])
    }

    /// The same, and between them as much as a simulation needs that draws such times.
    package var spread: JSONValue {
        .object(
            [5, 25, 50, 75, 95, 99].map { percent in ("p\(percent)", number(Double(percent) / 100)) })
    }

    private func number(_ part: Double) -> JSONValue { .number((quantile(part) * 1000).rounded() / 1000) }
}

import Cluster
import FoundationEssentials
import Glibc
package import JSON
import LocalCluster
import Platform
import Segmentation
import Synchronization

/// What a gateway costs beside the cluster behind it: its part of a click, its connections, its uploads.
package struct GatewayLoad {
    private let bed: BenchBed
    private let program: String
    private let clicks: Int
    private let rate: Double
    private let connections: [Int]
    private let seed: UInt64

    /// Measures so many clicks at `rate` a second, and what idle connections cost, in the numbers of `connections`.
    package init(_ bed: BenchBed, program: String, clicks: Int, rate: Double, connections: [Int], seed: UInt64) {
        self.bed = bed
        self.program = program
        self.clicks = clicks
        self.rate = rate
        self.connections = connections
        self.seed = seed
    }

    /// The figures, in milliseconds and bytes.
    package func measure() async throws -> JSONValue {
        Descriptors.raiseLimit()
        let encoders = try await bed.start("encoder", count: 1, threads: nil)
        let decoders = try await bed.start("decoder", count: 1, threads: nil)
        let file = "\(bed.folder.path)/address"
        let gateway = try ChildProcess.start(
            program,
            [
                "gateway", "--redis", "\(bed.url)", "--listen", "127.0.0.1:0", "--address-file", file, "--log-level",
                "warning",
            ],
            .init(output: .file(bed.folder.log("gateway"))))
        let port = try await port(file, gateway)
        let (images, _) = try await bed.encodePictures(16, seed: seed)
        let process = ProcessMemory(gateway.identifier)
        let rested = process.resident
        var figures: [JSONValue.Member] = [("memory_at_rest_bytes", .integer(rested))]
        figures.append(("click", try await measureClicks(port, images)))
        figures.append(("memory_after_clicks_bytes", .integer(process.resident)))
        figures.append(("upload", try await measureUpload(port, process)))
        for count in connections { figures.append(("idle_\(count)", try await measureIdle(port, count, process))) }
        await bed.stop([gateway])
        await bed.stop(encoders + decoders)
        return .object(figures)
    }

    private func port(_ file: String, _ gateway: ChildProcess) async throws -> Int {
        while gateway.isRunning {
            if let text = try? String(decoding: Data(contentsOf: URL(fileURLWithPath: file)), as: UTF8.self),
                text.hasSuffix("\n"), let port = text.split(separator: ":").last.flatMap({ Int($0.filter(\.isNumber)) })
            {
                return port
            }
            try await Task.sleep(for: .milliseconds(20))
        }
        throw ClusterFolderError(
            path: bed.folder.log("gateway"), reason: "the gateway ended: run it by hand to see why")
    }

    // MARK: Clicks

    /// From the request's first byte to the answer's last, less what the answer says was the cluster's.
    private func measureClicks(_ port: Int, _ images: [ImageDigest]) async throws -> JSONValue {
        let plan = ClickPlan(images: images, clicks: clicks, rate: rate, seed: seed)
        let clients = 8
        let results = try await withThrowingTaskGroup(of: [Click].self) { group in
            for _ in 0..<clients {
                let threads = ComputeThreads(count: 1)
                group.addTask {
                    let result = await threads.run { Result { try plan.run(port) } }
                    return try result?.get() ?? []
                }
            }
            var all: [Click] = []
            for try await clicks in group { all += clicks }
            return all
        }
        return .object([
            ("clicks", .integer(results.count)), ("per_second", .number(rate)),
            ("own_ms", Times(results.map(\.own)).figures), ("cluster_ms", Times(results.map(\.cluster)).figures),
            ("total_ms", Times(results.map { $0.own + $0.cluster }).figures),
        ])
    }

    // MARK: Uploads

    private func measureUpload(_ port: Int, _ process: ProcessMemory) async throws -> JSONValue {
        let picture = try BenchPicture.noise(bytes: 20 << 20, seed: seed)
        let before = process.anonymous
        let threads = ComputeThreads(count: 1)
        let clock = ContinuousClock()
        let start = clock.now
        // Pages of the file in which the upload waits are the system's to drop at any time: they are not counted.
        let sampling = Task.detached {
            var peak = 0
            while !Task.isCancelled {
                peak = max(peak, process.anonymous)
                usleep(500)
            }
            return peak
        }
        let result = await threads.run {
            Result {
                let client = try HTTPConnection(port: port)
                return try client.post("/v1/images", type: "image/png", picture).status
            }
        }
        sampling.cancel()
        let peak = await sampling.value
        guard try result?.get() == 201 else {
            throw ClusterFolderError(path: bed.folder.log("gateway"), reason: "an upload was not taken")
        }
        return .object([
            ("bytes", .integer(picture.count)), ("seconds", .number((clock.now - start) / .seconds(1))),
            ("peak_extra_bytes", .integer(max(0, peak - before))),
        ])
    }

    // MARK: Connections

    private func measureIdle(_ port: Int, _ count: Int, _ process: ProcessMemory) async throws -> JSONValue {
        let before = process.resident
        let threads = ComputeThreads(count: 1)
        let held = await threads.run {
            Result {
                try (0..<count).map { _ in
                    let connection = try HTTPConnection(port: port)
                    _ = try connection.get("/healthz")
                    return connection
                }
            }
        }
        let connections = try held?.get() ?? []
        let resident = process.resident
        // They are still there, and answered.
        let answered = await threads.run {
            connections.count { connection in ((try? connection.get("/healthz").status) ?? 0) == 200 }
        }
        return .object([
            ("connections", .integer(connections.count)), ("answered", .integer(answered ?? 0)),
            ("bytes_each", .integer(max(0, resident - before) / max(1, count))), ("memory_bytes", .integer(resident)),
        ])
    }
}

/// A click's times in milliseconds.
private struct Click: Sendable {
    let own: Double
    let cluster: Double
}

/// Which clicks are due when: several clients take the next one in turn.
private final class ClickPlan: Sendable {
    private struct State {
        var random: SplitMix64
        var due: ContinuousClock.Instant
        var left: Int
    }
    private let images: [ImageDigest]
    private let rate: Double
    /// Guards the next click.
    private let state: Mutex<State>

    init(images: [ImageDigest], clicks: Int, rate: Double, seed: UInt64) {
        self.images = images
        self.rate = rate
        // The first of each picture are not counted: they fetch its embedding.
        state = Mutex(State(random: SplitMix64(seed: seed), due: .now, left: clicks))
    }

    func run(_ port: Int) throws -> [Click] {
        let client = try HTTPConnection(port: port)
        for image in images { _ = try click(client, image, x: 100, y: 100) }
        var clicks: [Click] = []
        let clock = ContinuousClock()
        while let next = next() {
            let pause = next.due - clock.now
            if pause > .zero { usleep(UInt32(pause / .microseconds(1))) }
            clicks.append(try click(client, next.image, x: next.x, y: next.y))
        }
        return clicks
    }

    private func next() -> (image: ImageDigest, x: Int, y: Int, due: ContinuousClock.Instant)? {
        state.withLock { state in
            guard state.left > 0 else { return nil }
            state.left -= 1
            let gap = -Double.random(in: Double.leastNonzeroMagnitude..<1, using: &state.random).logarithm / rate
            state.due += .microseconds(Int64(gap * 1e6))
            return (
                images[Int.random(in: images.indices, using: &state.random)],
                Int.random(in: 0..<BenchPicture.width, using: &state.random),
                Int.random(in: 0..<BenchPicture.height, using: &state.random), state.due
            )
        }
    }

    private func click(_ client: HTTPConnection, _ image: ImageDigest, x: Int, y: Int) throws -> Click {
        let body = #"{"image":{"sha256":"\#(image.hexadecimal)"},"prompts":[{"points":[[\#(x),\#(y)]]}]}"#
        let clock = ContinuousClock()
        let start = clock.now
        let answer = try client.post("/v1/segment", type: "application/json", Array(body.utf8))
        let total = (clock.now - start) / .milliseconds(1)
        guard answer.status == 200, let timing = answer.headers["server-timing"],
            let cluster = timing.split(separator: "=").last.flatMap({ Double($0) })
        else { throw HTTPConnectionError(reason: "a click was answered with \(answer.status)") }
        return Click(own: total - cluster, cluster: cluster)
    }
}

/// What a process has in memory, as the kernel counts it.
private struct ProcessMemory: Sendable {
    private let folder: String

    init(_ identifier: Int32) { folder = "/proc/\(identifier)" }

    var resident: Int { field("VmRSS:") }
    var anonymous: Int { field("RssAnon:") }

    private func field(_ name: String) -> Int {
        guard
            let text = try? String(decoding: Data(contentsOf: URL(fileURLWithPath: "\(folder)/status")), as: UTF8.self)
        else { return 0 }
        let line = text.split(separator: "\n").first { $0.hasPrefix(name) } ?? ""
        return (line.split(whereSeparator: { !$0.isNumber }).first.flatMap { Int($0) } ?? 0) * 1024
    }
}

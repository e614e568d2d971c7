import Foundation
import KirieTesting
import Platform
import Redis
import RedisTesting
import Testing

/// A redis-server, an encoder and a decoder as processes, of the smallest model that there is.
struct RealCluster: Sendable {
    let server: RedisServerProcess
    private let workers: [ClientRun]

    /// Starts both, of another model if one is named, with more options for each.
    static func start(
        model: String = KirieProcess.nano, encoder: [String] = [], decoder: [String] = []
    ) async throws -> RealCluster {
        let server = try await RedisServerProcess.start()
        let workers = try [("encoder", encoder), ("decoder", decoder)].map { role, more in
            try ClientRun([role, "--model", model, "--threads", "1"] + more, redis: server.url)
        }
        let cluster = RealCluster(server: server, workers: workers)
        try await eventually("both workers are there") {
            let run = try await cluster.kirie(["workers", "--json"])
            return run.objects.first.flatMap { $0["workers"] as? [Any] }?.count == 2
        }
        return cluster
    }

    /// Runs `kirie` to its end.
    func kirie(
        _ arguments: [String], input: String? = nil, workingDirectory: String = "/tmp"
    ) async throws -> ClientRun.Ending {
        try await ClientRun(arguments, redis: server.url, input: input, workingDirectory: workingDirectory).end()
    }

    /// Ends the workers and expects them to end well.
    func stop() async throws {
        for worker in workers { worker.child.signal(SIGTERM) }
        for worker in workers { #expect(try await worker.end().status == 0) }
    }
}

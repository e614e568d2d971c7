import Cluster
import Foundation
import KirieTesting
import Platform
import Redis
import RedisTesting
import Segmentation
import Testing

/// `queues`, `workers` and `dead` as operators use them.
@Suite struct WatchTests {
    private let photo = KirieProcess.landscape

    @Test func queuesPrintOneObjectOrATable() async throws {
        let cluster = try await ClientCluster.start()
        for index in 0..<3 {
            #expect(try await cluster.kirie(["submit", photo, "--point", "\(index),5"]).status == 0)
        }
        let waiting = try await cluster.kirie(["queues", "--json"])
        #expect(waiting.status == 0)
        let object = try #require(waiting.objects.first)
        #expect(object["unfinished"] as? Int == 3 && object["partitions"] as? Int == 16)
        let lines = try #require(object["streams"] as? [[String: Any]])
        #expect(
            lines.map { "\($0["lane"] ?? "") \($0["stage"] ?? "")" } == [
                "interactive encode", "interactive decode", "bulk encode", "bulk decode",
            ])
        #expect(lines[0]["parked"] as? Int == 3 && lines[0]["queued"] as? Int == 1 && lines[0]["lag"] as? Int == 1)
        #expect((lines[0]["oldest_ms"] as? NSNumber)?.doubleValue ?? 0 > 0)

        try await cluster.working {
            try await eventually("the end") { try await cluster.broker.statistics().unfinished == 0 }
            let object = try #require(try await cluster.kirie(["queues", "--json"]).objects.first)
            let lines = try #require(object["streams"] as? [[String: Any]])
            let wait = try #require(lines[1]["wait_ms"] as? [String: Any])
            #expect(wait["count"] as? Int == 3 && wait["p50"] is NSNumber && wait["p99"] is NSNumber)
            #expect((object["totals"] as? [String: Any])?["done:interactive"] as? Int == 3)
        }
        let table = try await cluster.kirie(["queues"])
        #expect(!table.output.contains("\u{1B}"), "no colour where nobody looks on")
        let rows = table.output.split(separator: "\n")
        #expect(rows[0].hasPrefix("LANE         STAGE   PARKED"))
        #expect(rows.allSatisfy { $0.count <= 80 }, "it fits a terminal of 80 columns")
        #expect(table.output.contains("unfinished 0 · done 3 · failed 0"))
    }

    @Test func watchingPrintsABlockEachTimeAndEndsWhenTold() async throws {
        let cluster = try await ClientCluster.start()
        let json = try cluster.start(["queues", "--watch", "--json", "--interval", "0.1"])
        let text = try cluster.start(["workers", "--watch", "--interval", "0.1"])
        try await eventually("three looks") {
            json.output.filter { $0 == "\n" }.count >= 3 && text.output.components(separatedBy: "ROLE").count >= 4
        }
        json.child.signal(SIGTERM)
        text.child.signal(SIGINT)
        let ends = (try await json.end(), try await text.end())
        #expect(ends.0.status == 0 && ends.1.status == 0)
        #expect(ends.0.objects.count >= 3)
        #expect(!ends.1.output.contains("\u{1B}") && ends.1.output.contains("far:1"))
    }

    @Test func watchingGoesOnWhileRedisIsAway() async throws {
        let cluster = try await ClientCluster.start(.init(appendOnly: true, appendFsync: .always))
        let run = try cluster.start(["queues", "--watch", "--json", "--interval", "0.1"])
        try await eventually("a look") { run.output.contains("\n") }
        await cluster.server.kill()
        try await eventually("a complaint") { run.complaint.contains("trying again") }
        try await cluster.server.restart()
        let looks = run.output.filter { $0 == "\n" }.count
        try await eventually("it goes on") { run.output.filter { $0 == "\n" }.count > looks }
        run.child.signal(SIGTERM)
        #expect(try await run.end().status == 0)
    }

    @Test func workersShowWhoIsThere() async throws {
        let cluster = try await ClientCluster.start(announces: false)
        let nobody = try await cluster.kirie(["workers"])
        #expect(nobody.status == 0 && nobody.output.contains("no worker is there"))
        /// Looks until a look came while the heartbeat was fresh.
        func look(_ arguments: [String], isFresh: (ClientRun.Ending) -> Bool) async throws -> ClientRun.Ending {
            var run: ClientRun.Ending?
            try await eventually("a look at a fresh heartbeat") {
                try await cluster.announce {
                    $0.load = 3
                    $0.capacity = 16
                    $0.cachedImages = 12
                    $0.cachedBytes = 25_165_824
                    $0.draining = true
                }
                let look = try await cluster.kirie(["workers"] + arguments)
                run = look
                return isFresh(look)
            }
            return try #require(run)
        }
        let run = try await look([]) { $0.output.contains("decoder") && !$0.output.contains("gone") }
        let row = try #require(run.output.split(separator: "\n").first { $0.hasPrefix("decoder") })
        for part in ["far:1", "tiny", "3/16", "12", "25 MB", "draining"] { #expect(row.contains(part), "\(row)") }
        let json = try await look(["--json"]) { $0.output.contains("\"alive\":true") }
        let object = try #require(json.objects.first)
        let worker = try #require((object["workers"] as? [[String: Any]])?.first)
        #expect(worker["cached_bytes"] as? Int == 25_165_824 && worker["alive"] as? Bool == true)
        #expect(worker["model"] as? String == ClientCluster.model.text && worker["age_ms"] is NSNumber)
    }

    @Test func deadLettersAreListedShownRetriedAndPurged() async throws {
        let cluster = try await ClientCluster.start(settings: ["attempts": 1])
        let broker = cluster.broker
        let directory = try TemporaryDirectory()
        let lines = ["x", "y", "z"].map { #"{"id":"\#($0)","image":"\#(photo)","prompts":[{"points":[[5,5]]}]}"# }
        let file = try directory.write(Array(lines.joined(separator: "\n").utf8), to: "jobs.jsonl")
        #expect(try await cluster.kirie(["submit", "--jobs", file]).status == 0)
        // The encode fails for a reason that may pass, once too often.
        let reference = try #require(try await broker.find(["x"])["x"]?.first?.reference)
        guard
            case .work(let leases, _) = try await broker.takeEncodes(
                in: reference.partition, worker: "w", model: ClientCluster.model, lease: .seconds(60))
        else { throw NeverHappened(description: "no encode to take") }
        try await broker.fail(LeaseName(leases[0]), mayPass: true, reason: "the disk is full")

        let table = try await cluster.kirie(["dead", "list"])
        #expect(table.status == 0 && table.output.split(separator: "\n").count == 4)
        #expect(table.output.contains("the disk is full"))
        let letters = try await cluster.kirie(["dead", "list", "--json"]).objects
        #expect(letters.compactMap { $0["job"] as? String }.sorted() == ["x", "y", "z"])
        #expect(letters.allSatisfy { $0["reason"] as? String == "the disk is full" && $0["attempts"] as? Int == 1 })
        let entry = try #require(letters.first { $0["job"] as? String == "y" }?["entry"] as? String)

        let shown = try await cluster.kirie(["dead", "show", entry, "nobody"])
        #expect(shown.status == 1 && shown.complaint.contains("no dead letter is called nobody"))
        #expect(shown.output.contains("job          y") && shown.output.contains("the disk is full"))

        let purged = try await cluster.kirie(["dead", "purge", "x"])
        #expect(purged.status == 0 && (purged.objects.first?["removed"] as? Int == 1))
        let retried = try await cluster.kirie(["dead", "retry", "--all"])
        #expect(retried.status == 0)
        #expect(retried.objects.allSatisfy { $0["state"] as? String == "waiting_embedding" })
        try await cluster.working {
            let run = try await cluster.kirie(["wait", "y", "z"])
            #expect(run.status == 0, "\(run)")
        }
        let empty = try await cluster.kirie(["dead", "list"])
        #expect(empty.status == 0 && empty.output.isEmpty && empty.complaint.contains("there are no dead letters"))
    }
}

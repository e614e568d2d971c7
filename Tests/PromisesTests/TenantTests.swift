import Cluster
import ClusterTesting
import Foundation
import FoundationNetworking
import Glibc
import KirieTesting
import Platform
import Redis
import RedisTesting
import Segmentation
import Testing

/// Tenants with real processes: what the command line and a gateway keep apart, and what a kill leaves.
@Suite(.serialized) struct TenantTests {
    @Test(.timeLimit(.minutes(30)))
    func theCommandLineKeepsTenantsApart() async throws {
        try await LiveCluster.run { cluster in
            try cluster.start(.encoder, "encoder")
            try cluster.start(.decoder, "decoder")
            try await cluster.ready("encoder", "decoder")
            let picture = try TestPicture(1, in: cluster.folder)
            let named =
                "{\"id\":\"same\",\"image\":{\"sha256\":\"\(picture.digest)\"},\"prompts\":[{\"points\":[[3,3]]}]}"
            let jobs = try cluster.write([picture.line("same", points: [(3, 3)])], to: "a.jsonl")
            let byHash = try cluster.write([named], to: "hash.jsonl")
            let first = try await cluster.kirie("submit", "--jobs", jobs, "--wait", "--tenant", "a")
            #expect(first.exit == .status(0) && first.lines.first?.id == "same", "\(first.json) \(first.complaint)")
            // By its hash it is there for its tenant, and for nobody else; the words are those for a picture of nobody.
            #expect(try await cluster.kirie("submit", "--jobs", byHash, "--wait", "--tenant", "a").exit == .status(0))
            let strange = try cluster.write(
                [named.replacing("\(picture.digest)", with: String(repeating: "0", count: 64))], to: "nobody.jsonl")
            for tenant in [["--tenant", "b"], []] {
                let run = try await cluster.kirie(["submit", "--jobs", byHash, "--wait"] + tenant)
                let unknown = try await cluster.kirie(["submit", "--jobs", strange, "--wait"] + tenant)
                #expect(run.exit == .status(1) && run.lines.first?.field == "image", "\(run.json)")
                #expect(
                    run.json.replacing("\(picture.digest)", with: "?")
                        == unknown.json.replacing(String(repeating: "0", count: 64), with: "?"))
                for command in ["status", "cancel", "wait"] {
                    let asked = try await cluster.kirie([command, "same"] + tenant)
                    #expect(
                        asked.exit == .status(1) && asked.lines.first?.state == "unknown", "\(command): \(asked.json)")
                    let reached = try await cluster.kirie([command, "a~same"] + tenant)
                    #expect(reached.lines.first?.state == "unknown", "\(command): \(reached.json)")
                }
            }
            #expect(try await cluster.kirie("status", "same", "--tenant", "a").lines.first?.state == "done")
            // The same id, the same file: another job, and the same embedding.
            let second = try await cluster.kirie("submit", "--jobs", jobs, "--wait", "--tenant", "b")
            #expect(second.exit == .status(0) && second.lines.first?.known != true)
            #expect(
                second.lines.first?.masks?.first?.segmentation?.counts
                    == first.lines.first?.masks?.first?.segmentation?.counts)
            #expect(try await cluster.total("encode_started") == 1)
            // Lines that name their tenant, and a run that names it for all.
            let mixed = try cluster.write(
                ["c", "d"].map { picture.line("m", points: [(2, 2)], ",\"tenant\":\"\($0)\"") }, to: "mixed.jsonl")
            let run = try await cluster.kirie("submit", "--jobs", mixed, "--wait")
            #expect(run.exit == .status(0) && run.lines.count == 2, "\(run.json) \(run.complaint)")
            for tenant in ["c", "d"] {
                #expect(try await cluster.kirie("status", "m", "--tenant", tenant).lines.first?.state == "done")
            }
            try await cluster.expectNothingLeft()
        }
    }

    @Test(.timeLimit(.minutes(30)))
    func theCommandLineSetsQuotasAndIsHeldByThem() async throws {
        try await LiveCluster.run { cluster in
            #expect(
                try await cluster.kirie("tenants", "set", "visitors", "--jobs", "3", "--weight", "2").exit == .status(0)
            )
            let pictures = try TestPicture.draw(5, in: cluster.folder)
            let jobs = try cluster.write(
                pictures.enumerated().map { $1.line("\($0)", points: [(1, 1)]) }, to: "jobs.jsonl")
            // Nobody works, so the model has to be named by what a worker once announced.
            try cluster.start(.encoder, "encoder")
            try await cluster.ready("encoder")
            let run = try await cluster.kirie("submit", "--jobs", jobs, "--tenant", "visitors")
            #expect(run.exit == .status(75), "\(run.complaint)")
            let refused = run.lines.filter { $0.state == "refused" }
            #expect(refused.count == 2 && refused.allSatisfy { $0.error?.contains("visitors") ?? false })
            #expect(refused.allSatisfy { $0.retry_after_ms ?? 0 > 0 })
            let again = try await cluster.kirie(
                "submit", pictures[0].path, "--point", "1,1", "--tenant", "visitors")
            #expect(again.exit == .status(75))
            #expect(
                again.lines.first?.error?.contains("tenant visitors has 3 unfinished jobs of 3") ?? false,
                "\(again.json)")
            let list = try await cluster.kirie("tenants", "list", "--json")
            #expect(list.json.contains("\"tenant\":\"visitors\",\"weight\":2,\"quotas\":{\"jobs\":3,"), "\(list.json)")
            let queues = try await cluster.kirie("queues", "--json")
            #expect(queues.json.contains("{\"tenant\":\"visitors\",\"jobs\":3,"), "\(queues.json)")
            let table = try await cluster.kirie("queues")
            #expect(table.complaint.contains("TENANT") && table.complaint.contains("visitors"))

            try cluster.start(.decoder, "decoder")
            #expect(
                try await cluster.kirie(
                    "submit", "--jobs", jobs, "--tenant", "visitors", "--wait", "--when-full", "wait"
                )
                .exit == .status(0))
            #expect(try await cluster.kirie("tenants", "drop", "visitors").exit == .status(0))
            #expect(try await cluster.kirie("tenants", "drop", "visitors").exit == .status(1))
            try await cluster.expectNothingLeft()
        }
    }

    @Test(
        .timeLimit(.minutes(5)),
        arguments: [
            ["submit", "x.png", "--point", "1,1", "--tenant", "A b"], ["status", "x", "--tenant", ""],
            ["tenants", "set", "a"], ["tenants", "set", "a", "--jobs", "0"], ["tenants", "set", "a", "--jobs", "-5"],
            ["tenants", "set", "a", "--bytes", "0"], ["tenants", "set", "a", "--rate", "0"],
            ["tenants", "set", "a", "--rate", "1e99"], ["tenants", "set", "a", "--weight", "0"],
            ["tenants", "set", "a", "--weight", "101"], ["tenants", "set", "a~b", "--weight", "1"],
            ["tenants", "set", "default", "--jobs", "5"], ["segment", "x.png", "--point", "1,1", "--tenant", "a"],
            ["gateway", "key", "k", "--tenant", "lab", "--scope", "operate"], ["gateway", "key", "k", "--weight", "0"],
            ["gateway", "key", "k", "--tenant", "No"],
        ])
    func whatMakesNoSenseIsUsage(_ arguments: [String]) throws {
        let run = try KirieProcess(arguments)
        #expect(run.status == 2, "\(run.complaint)")
        #expect(!run.complaint.isEmpty && run.output.isEmpty)
    }

    // MARK: HTTP

    /// A gateway with keys of two tenants, of nobody in particular, and of an operator.
    private struct Gateway {
        let address: String
        private var keys: [String: String] = [:]

        init(_ cluster: LiveCluster) async throws {
            var lines: [String] = []
            for (name, options) in [
                ("a", ["--tenant", "a", "--weight", "3"]), ("b", ["--tenant", "b"]), ("nobody", []),
                ("operator", ["--scope", "read", "--scope", "submit", "--scope", "operate"]),
            ] {
                let run = try KirieProcess(["gateway", "key", name] + options)
                lines.append(run.output.trimmingCharacters(in: .whitespacesAndNewlines))
                keys[name] = String(try #require(run.complaint.firstMatch(of: #/kirie_[0-9a-f]{64}/#)).0)
            }
            let file = try cluster.write(lines, to: "keys.jsonl")
            _ = try cluster.start(["gateway", "--listen", "127.0.0.1:0", "--keys", file], log: "gateway.log")
            var found = ""
            try await eventually("it serves") {
                let log = try String(contentsOfFile: "\(cluster.folder)/gateway.log", encoding: .utf8)
                found = log.firstMatch(of: #/KIRIE_GATEWAY=(http:\S*)\//#).map { String($0.1) } ?? ""
                return !found.isEmpty
            }
            address = found
        }

        func ask(
            _ name: String, _ method: String, _ path: String, _ body: [UInt8]? = nil, type: String = "application/json"
        ) async throws -> (status: Int, text: String, headers: HTTPURLResponse) {
            var request = URLRequest(url: try #require(URL(string: address + path)))
            request.httpMethod = method
            request.httpBody = body.map { Data($0) }
            request.timeoutInterval = 600
            request.setValue("Bearer \(keys[name] ?? "")", forHTTPHeaderField: "Authorization")
            if body != nil { request.setValue(type, forHTTPHeaderField: "Content-Type") }
            let (data, response) = try await URLSession.shared.data(for: request)
            let http = try #require(response as? HTTPURLResponse)
            return (http.statusCode, String(decoding: data, as: UTF8.self), http)
        }
    }

    @Test(.timeLimit(.minutes(30)))
    func aGatewayKeepsTenantsApart() async throws {
        try await LiveCluster.run { cluster in
            try cluster.start(.encoder, "encoder")
            try cluster.start(.decoder, "decoder")
            try await cluster.ready("encoder", "decoder")
            let gateway = try await Gateway(cluster)
            let picture = try TestPicture(5, width: 48, height: 40, in: cluster.folder)
            let (sha, nobodys) = ("\(picture.digest)", String(repeating: "0", count: 64))
            #expect(try await gateway.ask("a", "POST", "/v1/images", picture.bytes, type: "image/png").status == 201)
            let line = { (sha: String) in
                Array(
                    "{\"id\":\"mine\",\"image\":{\"sha256\":\"\(sha)\"},\"refine\":true,\"prompts\":[{\"points\":[[3,3]]}]}"
                        .utf8)
            }
            let done = try await gateway.ask("a", "POST", "/v1/segment", line(sha))
            #expect(done.status == 200 && done.text.contains("\"id\":\"mine\""), "\(done.text)")
            #expect(try await gateway.ask("a", "GET", "/v1/jobs/mine").status == 200)
            #expect(try await gateway.ask("a", "GET", "/v1/jobs/mine/masks/0").status == 200)
            #expect(try await gateway.ask("a", "GET", "/v1/images/\(sha)").status == 200)
            #expect(try await gateway.ask("a", "GET", "/v1/images/\(sha)/content").status == 200)

            // Another's picture is a picture of nobody, in each route; another's job is no job.
            func text(_ answer: (status: Int, text: String, headers: HTTPURLResponse)) -> String {
                answer.text.replacing(sha, with: "?").replacing(nobodys, with: "?")
                    .replacing(#/"(request_id|instance)":"[^"]*"/#, with: "")
            }
            for other in ["b", "nobody", "operator"] {
                for (method, path) in [("GET", ""), ("GET", "/content"), ("PUT", "/warm")] {
                    let body: [UInt8]? = method == "PUT" ? [] : nil
                    let theirs = try await gateway.ask(other, method, "/v1/images/\(sha)\(path)", body)
                    let none = try await gateway.ask(other, method, "/v1/images/\(nobodys)\(path)", body)
                    #expect(
                        theirs.status == 404 && text(theirs) == text(none), "\(other) \(method) \(path): \(theirs.text)"
                    )
                }
                let asked = try await gateway.ask(other, "POST", "/v1/segment", line(sha))
                #expect(asked.status == 404 || asked.status == 422, "\(asked.text)")
                #expect(text(asked) == text(try await gateway.ask(other, "POST", "/v1/segment", line(nobodys))))
                // Not even its size is told: a prompt outside of it is not checked against it.
                let outside = "{\"image\":{\"sha256\":\"\(sha)\"},\"prompts\":[{\"points\":[[4000,4000]]}]}"
                #expect(text(try await gateway.ask(other, "POST", "/v1/segment", Array(outside.utf8))) == text(asked))
                for (method, path) in [
                    ("GET", "/v1/jobs/mine"), ("DELETE", "/v1/jobs/mine"), ("GET", "/v1/jobs/mine/masks/0"),
                    ("GET", "/v1/jobs/mine/events"), ("GET", "/v1/jobs/a~mine"), ("GET", "/v1/events?job=mine"),
                ] {
                    #expect(try await gateway.ask(other, method, path).status == 404, "\(other) \(method) \(path)")
                }
            }
            // A mask of another's answer is no prompt.
            #expect(try await gateway.ask("b", "POST", "/v1/images", picture.bytes, type: "image/png").status == 201)
            let refined =
                "{\"image\":{\"sha256\":\"\(sha)\"},\"prompts\":[{\"points\":[[3,3]],\"mask\":{\"job\":\"mine\"}}]}"
            #expect(try await gateway.ask("b", "POST", "/v1/segment", Array(refined.utf8)).status == 422)
            #expect(try await gateway.ask("a", "POST", "/v1/segment", Array(refined.utf8)).status == 200)
            // Who has sent it has it, by the same id too; whose a job is stands in no body.
            #expect(try await gateway.ask("b", "POST", "/v1/segment", line(sha)).status == 200)
            #expect(try await cluster.total("encode_started") == 1)
            let claimed = "{\"tenant\":\"a\",\"image\":{\"sha256\":\"\(sha)\"},\"prompts\":[{\"points\":[[3,3]]}]}"
            #expect(try await gateway.ask("b", "POST", "/v1/segment", Array(claimed.utf8)).status == 400)
            let batch = try await gateway.ask(
                "b", "POST", "/v1/jobs", Array("\(claimed)\n".utf8), type: "application/x-ndjson")
            #expect(batch.text.contains("the API key says"), "\(batch.text)")
            // Figures of tenants are an operator's to see.
            #expect(try await gateway.ask("operator", "GET", "/v1/queues").text.contains("\"name\":\"a\""))
            #expect(!(try await gateway.ask("b", "GET", "/v1/queues").text.contains("tenants")))
            let metrics = try await gateway.ask("nobody", "GET", "/metrics").text
            #expect(
                metrics.contains("kirie_tenant_jobs{tenant=\"a\"} 0")
                    && metrics.contains("kirie_tenant_bytes{tenant=\"default\"}"), "\(metrics.suffix(3000))")
            #expect(!(try await gateway.ask("b", "GET", "/metrics").text.contains("kirie_tenant")))
            #expect(try await cluster.broker.terms().map { ($0.key.name, $0.value.weight) }.contains { $0 == ("a", 3) })

            // Beyond a quota it is 429, with the tenant's name and a time.
            #expect(try await cluster.kirie("tenants", "set", "b", "--rate", "0.001").exit == .status(0))
            var last = try await gateway.ask(
                "b", "POST", "/v1/segment", Array(claimed.replacing("\"tenant\":\"a\",", with: "").utf8))
            if last.status == 200 {
                last = try await gateway.ask(
                    "b", "POST", "/v1/segment", Array(claimed.replacing("\"tenant\":\"a\",", with: "").utf8))
            }
            #expect(last.status == 429 && last.text.contains("tenant b has its 0.001 jobs a second"), "\(last.text)")
            #expect(Int(last.headers.value(forHTTPHeaderField: "Retry-After") ?? "") ?? 0 > 0)
            try await cluster.expectNothingLeft()
        }
    }

    // MARK: Kills

    /// Decoders die with the jobs of several tenants in hand; every job ends once, as its tenant's.
    @Test(.timeLimit(.minutes(30)))
    func killedDecodersLoseNobodysJobs() async throws {
        let seed = UInt64.random(in: 1...999_999)
        print("tenants and kills, seed \(seed)")
        var random = SeededGenerator(seed)
        try await LiveCluster.run { cluster in
            try cluster.start(.encoder, "encoder")
            try await cluster.ready("encoder")
            var decoder = try cluster.start(.decoder, "decoder-0", lease: 2)
            let pictures = try TestPicture.draw(6, seed: seed, in: cluster.folder)
            let tenants = [nil, "lab", "visitors"]
            try await withThrowingTaskGroup(of: KirieRun.self) { group in
                for tenant in tenants {
                    let lines = (0..<120).map { number in
                        pictures[number % pictures.count].line("\(number)", points: [(number % 20, number % 17)])
                    }
                    let file = try cluster.write(lines, to: "\(tenant ?? "none").jsonl")
                    let name = tenant.map { ["--tenant", $0] } ?? []
                    group.addTask { try await cluster.kirie(["submit", "--jobs", file, "--wait"] + name) }
                }
                for kill in 1...6 {
                    let before = try await cluster.totalOfLanes("done")
                    let more = Int.random(in: 1...25, using: &random)
                    try await eventually("\(more) more are done") {
                        try await cluster.totalOfLanes("done") >= min(before + more, 330)
                    }
                    decoder.signal(SIGKILL)
                    await decoder.waitForExit()
                    decoder = try cluster.start(.decoder, "decoder-\(kill)", lease: 2)
                }
                for try await run in group {
                    #expect(run.exit == .status(0), "\(run.complaint)")
                    #expect(run.lines.count == 120 && run.lines.allSatisfy { $0.state == "done" })
                }
            }
            let audit = try await cluster.expectNothingLeft()
            #expect(audit.states.count == 360)
            for tenant in [Tenant.standard] + tenants.compactMap({ $0 }).compactMap({ Tenant($0) }) {
                #expect(audit.states.keys.count { $0.tenant == tenant } == 120)
            }
        }
    }
}

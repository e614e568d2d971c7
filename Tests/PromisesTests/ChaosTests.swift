import Cluster
import ClusterTesting
import Foundation
import KirieTesting
import Platform
import Redis
import RedisTesting
import Segmentation
import Synchronization
import Testing

/// Thousands of jobs while workers, submitters and Redis itself are killed with SIGKILL, and while Redis is full, read-only
/// and without room on its disk.
///
/// `deploy/chaos` runs it in full; what stands here by default is a shorter one of the same kind. The seed is printed;
/// `KIRIE_CHAOS_SEED` draws the same pictures, jobs and kills again (not the same interleaving of processes).
@Suite struct ChaosTests {
    @Test(.timeLimit(.minutes(30)))
    func everyAcceptedJobEndsOnceWithTheRightMasks() async throws {
        let size = ChaosPlan.Size(environment: ProcessInfo.processInfo.environment)
        print("chaos: KIRIE_CHAOS_SEED=\(size.seed), \(size.jobs) jobs on \(size.pictures) pictures")
        // Attempts are not what is tested here: with so many kills some job would be hit five times by chance.
        let settings = ["attempts": 1000, "backoff_ms": 20, "backoff_max_ms": 200]
        let disk = try await SmallDisk(megabytes: 512)
        defer { disk.remove() }
        let server = try await LiveCluster.server(disk.options(appendFsync: .always))
        try await LiveCluster.run(on: server, settings: settings) { cluster in
            try await Chaos(cluster, size, disk).run()
        }
    }
}

/// One run.
private final class Chaos: Sendable {
    private let cluster: LiveCluster
    private let disk: SmallDisk
    private let pictures: [TestPicture]
    private let plan: ChaosPlan
    private let encoders: [WorkerSlot]
    private let decoders: [WorkerSlot]
    private let submitters = Mutex<[ChildProcess]>([])
    private let submitterRuns = Atomic(0)
    private let kills = Mutex<[ChaosPlan.Victim: Int]>([:])
    /// What the last, complete runs of the submitter told of each job.
    private let told = Mutex<[String: KirieRun.Line]>([:])

    init(_ cluster: LiveCluster, _ size: ChaosPlan.Size, _ disk: SmallDisk) throws {
        self.cluster = cluster
        self.disk = disk
        let pictures = try TestPicture.draw(size.pictures, seed: size.seed, large: 5, in: cluster.folder)
        self.pictures = pictures
        plan = ChaosPlan(size, pictures: pictures)
        func slots(_ role: WorkerHeartbeat.Role) -> [WorkerSlot] {
            (0..<2).map { number in
                // One of the decoders remembers nothing, so that evicted embeddings are missed.
                let forgets = role == .decoder && number == 1
                return WorkerSlot("\(role.rawValue)-\(number)") {
                    try cluster.start(role, $0, lease: 1, forgets ? ["--cache-bytes", "0"] : [])
                }
            }
        }
        encoders = slots(.encoder)
        decoders = slots(.decoder)
    }

    func run() async throws {
        let clock = ContinuousClock()
        let start = clock.now
        let slots = encoders + decoders
        try await withThrowingTaskGroup(of: Void.self) { group in
            for slot in slots { group.addTask { try await slot.keepRunning() } }
            group.addTask {
                // What is named by its digest must be there; and a submitter must find a model.
                for job in self.plan.jobs where job.kind == .outside {
                    let picture = self.pictures[job.picture]
                    try await self.cluster.broker.putImage(picture.digest, .array(picture.bytes))
                }
                try await eventually("a worker") {
                    try await WorkerRegistry(self.cluster.broker).defaultModel() != nil
                }
                try await withThrowingTaskGroup(of: Void.self) { work in
                    work.addTask { try await self.submitAll(0) }
                    work.addTask { try await self.submitAll(1) }
                    work.addTask { try await self.cancelSome() }
                    work.addTask { try await self.killAll() }
                    try await work.waitForAll()
                }
                let ended = clock.now
                let audit = try await self.cluster.expectNothingLeft()
                try await self.check(audit, time: ended - start)
                for slot in slots { slot.close() }
            }
            defer { for slot in slots { slot.close() } }
            // Whatever fails is told at once: `waitForAll` would wait for the places, which nobody closes then.
            while try await group.next() != nil {}
        }
    }

    // MARK: Submitting

    /// Every other stretch of the jobs, each by a submitter that is started again with the same file when it was killed.
    private func submitAll(_ turn: Int) async throws {
        let stretch = max(1, plan.jobs.count / 16)
        let starts = Array(stride(from: 0, to: plan.jobs.count, by: stretch))
        for (number, first) in starts.enumerated() where number % 2 == turn {
            let jobs = Array(plan.jobs[first..<min(first + stretch, plan.jobs.count)])
            let file = try cluster.write(jobs.map { $0.line(pictures[$0.picture]) }, to: "jobs-\(number).jsonl")
            try await submit(jobs, file: file)
        }
    }

    private func submit(_ jobs: [ChaosPlan.Job], file: String) async throws {
        for attempt in 1...200 {
            let log = "submit-\(submitterRuns.add(1, ordering: .relaxed).newValue).log"
            let process = try cluster.start(["submit", "--jobs", file, "--wait"], log: log)
            submitters.withLock { $0.append(process) }
            let exit = try await within(.hang, "the end of a submitter") { await process.waitForExit() }
            submitters.withLock { $0.removeAll { $0 === process } }
            let run = try KirieRun(exit: exit, file: "\(cluster.folder)/\(log)")
            let lines = run.byIdentifier
            #expect(lines.values.allSatisfy { $0.count == 1 }, "one run told of a job twice: \(log)")
            if case .signal = exit { continue }
            let states = jobs.map { lines[$0.id]?[0].state.flatMap(JobState.init(rawValue:)) }
            guard states.allSatisfy({ $0?.isTerminal == true }) else {
                // It was started, or waited, while Redis was not there, and it said so.
                print("chaos: a submitter ended with \(exit), attempt \(attempt): \(run.complaint.suffix(200))")
                // A picture that no job needs may have gone: who names one by its digest puts it there again.
                for job in jobs where job.kind == .outside {
                    let picture = pictures[job.picture]
                    _ = try? await cluster.broker.putImage(picture.digest, .array(picture.bytes))
                }
                continue
            }
            told.withLock { told in for (id, lines) in lines { told[id] = lines[0] } }
            return
        }
        throw UnexpectedAnswer(description: "200 submitters did not bring \(file) to its end")
    }

    private func cancelSome() async throws {
        let unwanted = plan.jobs.filter { $0.kind == .unwanted }.map { reference($0) }
        for reference in unwanted {
            try await eventually("\(reference.id) was submitted") {
                try await cluster.status(reference) != nil
            }
            // Who is told to come back later does so: Redis may be full, or read-only, just then.
            try await eventually("\(reference.id) was to be cancelled") {
                do {
                    _ = try await cluster.broker.cancel([reference])
                    return true
                } catch  where ErrorReport(of: error).errorClass == .comeBackLater { return false }
            }
        }
    }

    // MARK: Killing

    private func killAll() async throws {
        for kill in plan.kills {
            try await eventually("\(kill.after) jobs ended") {
                try await cluster.totalOfLanes("out") >= kill.after
            }
            try await evict(kill.evicted)
            // The moment itself is what is random here.
            try await Task.sleep(for: kill.moment)
            try await self.kill(kill.victim)
        }
    }

    /// As Redis does when memory is short, so that there are encodes to be killed in to the end.
    ///
    /// Only what has a time to live goes: an embedding whose picture is gone has none while jobs need it.
    private func evict(_ numbers: [Int]) async throws {
        guard let model = try? await WorkerRegistry(cluster.broker).defaultModel() else { return }
        for picture in numbers.map({ pictures[$0] }) {
            let key = EmbeddingKey(image: picture.digest, model: model)
            let name = cluster.broker.keys.embedding(key, in: cluster.broker.partition(of: picture.digest))
            let script = "if redis.call('PTTL', KEYS[1]) > 0 then return redis.call('UNLINK', KEYS[1]) end return 0"
            // Where Redis is away, or just back and loading, nothing is evicted.
            _ = try? await cluster.broker.redis.send(RedisCommand("EVAL", .string(script), "1", .string(name)))
        }
    }

    private func kill(_ victim: ChaosPlan.Victim) async throws {
        if victim == .server {
            await cluster.server.kill()
            try await cluster.server.restart()
            kills.withLock { $0[victim, default: 0] += 1 }
            return
        }
        if case .trouble(let trouble) = victim {
            try await bring(trouble)
            kills.withLock { $0[victim, default: 0] += 1 }
            return
        }
        // A place may be empty for a moment, after the last kill; and at the end there is no submitter any more.
        try await eventually("somebody to kill") {
            let (kind, process) = self.running(victim)
            guard let process else { return false }
            process.signal(SIGKILL)
            guard await process.waitForExit() == .signal(SIGKILL) else { return false }
            kills.withLock { $0[kind, default: 0] += 1 }
            return true
        }
    }

    /// Redis goes through it until so many commands were refused for it, or there is nobody left to be refused.
    private func bring(_ trouble: ChaosPlan.Trouble) async throws {
        let redis = cluster.broker.redis
        switch trouble {
        case .memory:
            let before = try await cluster.refusals("OOM")
            _ = try await redis.send(RedisCommand("CONFIG", "SET", "maxmemory", "1mb"))
            try await refused("OOM", since: before)
            _ = try await redis.send(RedisCommand("CONFIG", "SET", "maxmemory", "0"))
        case .readOnly:
            let before = try await cluster.refusals("READONLY")
            _ = try await redis.send(RedisCommand("REPLICAOF", "127.0.0.1", "1"))
            try await refused("READONLY", since: before)
            _ = try await redis.send(RedisCommand("REPLICAOF", "NO", "ONE"))
        case .disk:
            try disk.fill()
            // With `appendfsync always` it gives up with the first write that cannot be kept.
            try await eventually("redis-server gave up") { !cluster.server.isRunning }
            try disk.free()
            try await cluster.server.restart()
        }
    }

    private func refused(_ code: String, since before: Int) async throws {
        try await eventually("commands were refused with \(code)") {
            let isOver = try await cluster.totalOfLanes("out") >= plan.jobs.count
            if isOver { return true }
            return try await cluster.refusals(code) >= before + 20
        }
    }

    private func running(_ victim: ChaosPlan.Victim) -> (ChaosPlan.Victim, ChildProcess?) {
        switch victim {
        case .encoder: return (.encoder, encoders.compactMap(\.current).randomElement()?.process)
        case .submitter:
            if let submitter = submitters.withLock({ $0.filter(\.isRunning).randomElement() }) {
                return (.submitter, submitter)
            }
            return (.decoder, decoders.compactMap(\.current).randomElement()?.process)
        default: return (.decoder, decoders.compactMap(\.current).randomElement()?.process)
        }
    }

    // MARK: Checking

    private func reference(_ job: ChaosPlan.Job) -> JobReference {
        cluster.reference(job.id, pictures[job.picture].digest)
    }

    private func check(_ audit: ClusterAudit, time: Duration) async throws {
        let jobs = plan.jobs
        #expect(audit.states.count == jobs.count, "\(audit.states.count) jobs are known of \(jobs.count)")
        var ended: [JobState: Int] = [:]
        var masks = 0
        let reference = try InProcessMasks()
        let prepared = try pictures.map { try reference.prepare($0) }
        let results = try await cluster.broker.results(jobs.map { self.reference($0) })
        let told = told.withLock { $0 }
        for (job, result) in zip(jobs, results) {
            guard let state = audit.states[self.reference(job)] else {
                Issue.record("\(job.id) is not known")
                continue
            }
            ended[state, default: 0] += 1
            let isRight = job.kind.endings.contains(state)
            let why = isRight ? nil : try await cluster.broker.status([self.reference(job)])[0]?.error
            #expect(isRight, "\(job.id), \(job.kind), is \(state): \(why ?? "no reason is kept")")
            #expect(told[job.id]?.state == state.rawValue, "the submitter said \(told[job.id]?.state ?? "nothing")")
            guard state == .done, job.kind != .embedding else { continue }
            let text = try #require(result, "\(job.id) has no result").string
            let wanted = try reference.masks(job.prompts, multimask: job.multimask, on: prepared[job.picture])
            let found = try InProcessMasks.text(ofResult: text)
            let heard = try InProcessMasks.text(told[job.id]?.masks ?? [])
            #expect(found == wanted, "\(job.id): the masks in Redis are others than those of this process")
            #expect(heard == wanted, "\(job.id): the submitter printed other masks")
            masks += job.prompts.count * (job.multimask ? 3 : 1)
        }
        let sum = kills.withLock { $0 }
        let processes: [ChaosPlan.Victim] = [.encoder, .decoder, .submitter]
        #expect(processes.reduce(0) { $0 + sum[$1, default: 0] } == plan.size.kills)
        for trouble in ChaosPlan.Trouble.allCases {
            #expect(sum[.trouble(trouble), default: 0] == plan.size.troubles, "\(trouble)")
        }
        #expect(sum[.server, default: 0] == plan.size.serverKills)
        let statistics = try await cluster.broker.statistics()
        func total(_ name: String) -> Int { statistics.total(name) }
        let seconds = (time / .seconds(1) * 10).rounded() / 10
        let states = ended.sorted { $0.key.rawValue < $1.key.rawValue }.map { "\($0.value) \($0.key.rawValue)" }
        print(
            """
            chaos: seed \(plan.size.seed): \(jobs.count) jobs on \(pictures.count) pictures in \(seconds) s
            chaos: SIGKILL: \(sum[.encoder, default: 0]) encoders, \(sum[.decoder, default: 0]) decoders, \
            \(sum[.submitter, default: 0]) submitters, \(sum[.server, default: 0]) times redis-server; \
            \((encoders + decoders).reduce(0) { $0 + $1.starts }) starts of workers, \
            \(submitterRuns.load(ordering: .relaxed)) of submitters
            chaos: Redis was full, read-only and without room on its disk \(plan.size.troubles) times each; \
            \(total("forgiven")) attempts were no fault of their jobs
            chaos: ended: \(states.joined(separator: ", ")); \(masks) masks equal those of this process bit for bit
            chaos: \(total("evictions")) evicted embeddings missed; \(total("encode_started")) encodes started, \(total("encode_finished")) finished, \
            \(total("encode_reclaimed")) reclaimed, \(total("encode_late")) late; jobs: \(total("reclaimed")) reclaimed, \
            \(total("retries")) retried, \(total("lost")) leases found lost, \
            \(total("duplicate_completions")) completed again in vain, \(total("duplicates")) submitted again in vain
            chaos: audit: \(audit.findings.isEmpty ? "nothing left in any line, lease, gauge or list" : "\(audit.findings)")
            """)
    }
}

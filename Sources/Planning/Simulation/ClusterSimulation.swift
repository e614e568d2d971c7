import Platform

/// A cluster of Kirie in simulated time: arrivals, Redis's one thread, workers with their slots, leases and memories, and
/// the cores that they share.
///
/// It is a discrete-event simulation: time goes from one event to the next. Which work is taken when, by whom and with
/// what is decided by ``PartitionQueues`` and ``LookSchedule``, the rules of the functions in Redis and of the workers.
/// Times are drawn from measured distributions, all from one seed, so that a run can be repeated.
package struct ClusterSimulation {
    enum Event {
        case arrival(Int)
        /// Slots of a worker wait until then at the latest.
        case alarm(Int)
        case wakes(PartitionQueues.Stage, Int)
        case processor(Int, version: Int)
        case call(Int, Call)
        case reply(Token)
        case janitor(Int)
        case kill(Int)
        case restart(Int)
        case share
        case leaseEnded(jobs: [Int32], picture: Int32)
        case answered(Int32)
    }

    /// What a process computes on, or a slot waits for.
    enum Token {
        /// Redis is through with the call at its head.
        case redis(Int)
        case slot(Int, Int, Phase, life: Int)
        case prepared(Int, Int32, life: Int)
        case sent(Int)
        /// An answer is at its gateway, and then with who asked.
        case gatewayOut(Int32)
        case sentBack(Int32)
    }

    /// Where a slot is with its work: what has just come to its end.
    enum Phase {
        case woken, looked, fetched, read, encoded, published, got, began, decoded, finished, completed
        case taken(Bool, isLast: Bool)
    }

    /// A call of Redis.
    enum Call {
        case submit(Int)
        case take(Int, Int, life: Int)
        /// A read of so many bytes, after which the slot goes on.
        case get(Int, Int, Int, life: Int)
        case record(Int, Int32, life: Int)
        case ready(Int, Int, life: Int)
        case complete(Int, Int, life: Int)
        case janitor(partitions: Int)
    }

    struct Slot {
        var partition = 0
        var age = 0.0
        var jobs: [Int32] = []
        var picture: Int32 = -1
        var isLast = false
    }

    struct Worker {
        let stage: PartitionQueues.Stage
        let model: Int
        let name: String
        let processor: Int
        var schedule: LookSchedule
        var slots: [Slot]
        /// Slots without work, that which came last at the end: it is woken first.
        var idle: [Int] = []
        var alarm = Double.infinity
        var lanesFree: Int
        var laneWaiters = Fifo<Int>()
        var cache: PreparedPictures
        /// Pictures on their way, and the slots that wait for them.
        var loading: [Int32: [Int]] = [:]
        var preparing = 0
        var isAlive = true
        var life = 0
        var othersLooked: [Double]
        var rounds = 0
    }

    struct Shard {
        let processor: Int
        var queue = Fifo<Call>()
        var current: Call?
        var used = 0.0
        var calls = 0
        var wakes: [(PartitionQueues.Stage, Int)] = []
        var ended: [Int32] = []
    }

    struct JobRecord {
        let arrival: Double
        let index: Int32
        let kind: JobKind
        let prompts: Int
        var isParked = false
        var isCounted: Bool
        var parent: Int32 = -1
        /// Parts that are not done; nil where it was not divided.
        var partsLeft: Int?
        var candidatesKnown = false
        /// When Redis took it in.
        var submitted = 0.0
    }

    let model: ClusterModel
    let workload: Workload
    var random: SplitMix64
    var now = 0.0
    var events = EventQueue<Event>()
    var queues: PartitionQueues
    var processors: [SharedProcessor<Token>] = []
    var workers: [Worker] = []
    /// By stage.
    var members: [[Int]] = [[], []]
    var shards: [Shard] = []
    var gatewayProcessors: [Int] = []
    var clientProcessor: Int?
    var records: [JobRecord] = []
    var candidates: Set<Int32> = []
    var outcome: SimulationOutcome
    var open = 0
    var countedOpen = 0
    var isCounting = false
    /// The machine whose threads go from one step to the next just now.
    private var handingOver: Int?
    var backlog: [Int?] = [nil, nil]
    /// Identifiers beside the usual one that a worker also asks for, and how often at most: `ServedIdentifiers`.
    static let others = [1, 3]
    static let pauseOfOthers = 50.0

    /// A simulation that has not begun.
    package init(_ model: ClusterModel, _ workload: Workload, seed: UInt64) {
        self.model = model
        self.workload = workload
        random = SplitMix64(seed: seed)
        queues = PartitionQueues(
            partitions: model.partitions, models: model.served.count, streak: model.streak)
        outcome = SimulationOutcome(begin: workload.begin, end: workload.end, models: model.served.count)
        for picture in workload.pictures {
            queues.add(
                PartitionQueues.Picture(
                    model: picture.model, partition: picture.partition, hasEmbedding: picture.hasEmbedding))
        }
        build()
    }

    // MARK: Who is there

    private mutating func build() {
        if let cores = model.sharedCores {
            processors = [SharedProcessor(cores: cores)]
            clientProcessor = 0
        }
        for _ in 0..<model.shards {
            let place = model.sharedCores == nil ? processors.count : 0
            if place == processors.count { processors.append(SharedProcessor(cores: 1)) }
            shards.append(Shard(processor: place))
        }
        var first = processors.count
        for place in 0..<model.gateways {
            let processor = machine(place, model.gatewayPlacement, first)
            gatewayProcessors.append(processor)
        }
        for (number, served) in model.served.enumerated() {
            first = processors.count
            for place in 0..<served.encoders {
                let processor = machine(place, model.encoderPlacement, first)
                add(.encode, number, "encoder-\(number)-\(place)", processor)
            }
            first = processors.count
            for place in 0..<served.decoders {
                let processor = machine(place, model.decoderPlacement, first)
                add(.decode, number, "decoder-\(number)-\(place)", processor)
            }
        }
        share()
        for (number, picture) in workload.pictures.enumerated() where picture.isPrepared {
            let decoders = members[1].filter { workers[$0].model == picture.model }
            if let owner = decoders.first(where: { workers[$0].schedule.owns(picture.partition) }) {
                workers[owner].cache.insert(Int32(number))
            }
        }
    }

    /// The machine of the process of a role at some place, the first of whose machines is `first`.
    private mutating func machine(_ place: Int, _ placement: ClusterModel.Placement, _ first: Int) -> Int {
        if model.sharedCores != nil { return 0 }
        let number = first + place / max(1, placement.each)
        while processors.count <= number { processors.append(SharedProcessor(cores: placement.cores)) }
        return number
    }

    private mutating func add(_ stage: PartitionQueues.Stage, _ model: Int, _ name: String, _ processor: Int) {
        let served = self.model.served[model]
        let concurrency = stage == .encode ? served.encode.concurrency : served.decode.concurrency
        // A decoder takes one batch more while others are decoded.
        let slots = stage == .encode ? concurrency : concurrency + 1
        members[stage.rawValue].append(workers.count)
        workers.append(
            Worker(
                stage: stage, model: model, name: name, processor: processor,
                schedule: LookSchedule(
                    partitions: self.model.partitions, poll: self.model.poll, patience: self.model.patience, now: 0),
                slots: Array(repeating: Slot(), count: slots), lanesFree: concurrency,
                cache: PreparedPictures(limit: self.model.cacheBytes, bytesEach: served.preparedBytes),
                othersLooked: Array(repeating: -.infinity, count: self.model.partitions)))
    }

    /// Shares the partitions among the workers that are alive.
    mutating func share() {
        for stage in members {
            for number in model.served.indices {
                let alive = stage.filter { workers[$0].model == number && workers[$0].isAlive }
                guard !alive.isEmpty else { continue }
                let owners = Rendezvous.owners(among: alive.map { workers[$0].name }, partitions: model.partitions)
                for (place, worker) in alive.enumerated() {
                    let own = Set(owners.indices.filter { owners[$0] == place })
                    workers[worker].schedule.own(own, now: now)
                    settle(worker)
                }
            }
        }
    }

    // MARK: Time

    /// Runs until the last counted job is done, or nothing comes any more; a cluster that falls behind is left at `limit`
    /// unfinished jobs.
    package mutating func run(limit: Int = 400_000) -> SimulationOutcome {
        for worker in workers.indices {
            for slot in workers[worker].slots.indices { seek(worker, slot) }
            events.add(.janitor(worker), at: random.part() * 500)
            if let lifetime = model.lifetime {
                events.add(.kill(worker), at: random.exponential(mean: lifetime))
            }
        }
        if !workload.arrivals.isEmpty { events.add(.arrival(0), at: workload.arrivals[0].time) }
        let last = workload.arrivals.last?.time ?? 0
        while let (time, event) = events.removeFirst() {
            if time > workload.end, countedOpen == 0 { break }
            if open > limit || time > last + 4 * (last - workload.begin) + 120_000 { break }
            if !isCounting, time >= workload.begin { beginCounting() }
            noteBacklog(until: time)
            now = time
            handle(event)
        }
        finish()
        return outcome
    }

    /// Notes how many jobs are open in the middle and at the end of the counted time.
    private mutating func noteBacklog(until time: Double) {
        for place in backlog.indices where backlog[place] == nil {
            let part = Double(place + 1) / 2
            if time >= workload.begin + (workload.end - workload.begin) * part { backlog[place] = open }
        }
    }

    /// Whether the cluster falls behind: many more jobs are open at the end than in the middle, more than by chance.
    private var fallsBehind: Bool {
        guard countedOpen == 0, let middle = backlog[0], let end = backlog[1] else { return countedOpen > 0 }
        let counted = outcome.waits.reduce(0) { $0 + $1.seen.count + $1.new.count }
        // What came in the second half and was not done is as much as in the first, however much was open when it began.
        let growth = Double(end - middle)
        // Jobs come in bursts of a picture's: the number that is open spreads by some times its root.
        let chance = 30 + 6 * Double(middle).squareRoot()
        return growth > chance && growth > 0.025 * Double(counted)
    }

    private mutating func beginCounting() {
        isCounting = true
        outcome.beginCounting()
        outcome.usedBefore = shards.map(\.used) + processors.map(\.used)
    }

    private mutating func handle(_ event: Event) {
        switch event {
        case .arrival(let index):
            if index + 1 < workload.arrivals.count {
                events.add(.arrival(index + 1), at: workload.arrivals[index + 1].time)
            }
            arrive(index)
        case .alarm(let worker):
            if workers[worker].alarm <= now { workers[worker].alarm = .infinity }
            settle(worker)
        case .wakes(let stage, let partition):
            for worker in members[stage.rawValue] where workers[worker].isAlive {
                workers[worker].schedule.wake(partition, now: now)
                settle(worker)
            }
        case .processor(let number, let version):
            guard processors[number].version == version else { return }
            handingOver = number
            for token in processors[number].takeDone(now: now) { went(token) }
            handingOver = nil
            announce(number)
        case .call(let shard, let call):
            shards[shard].queue.append(call)
            serve(shard)
        case .reply(let token): went(token)
        case .janitor(let worker): keepHouse(worker)
        case .kill(let worker): kill(worker)
        case .restart(let worker): restart(worker)
        case .share: share()
        case .leaseEnded(let jobs, let picture):
            for job in jobs { queues.retry(job, now: now) }
            if picture >= 0 { queues.retryEncode(picture, now: now) }
            publishWakes()
        case .answered(let job): answered(job)
        }
    }

    /// Has a process compute; `continues` where it is the next step of a thread that has just ended one.
    mutating func compute(
        _ processor: Int, _ time: Double, threads: Int = 1, continues: Bool = false, _ token: Token
    ) {
        guard time > 0 else { return went(token) }
        processors[processor].add(time, threads: threads, token: token, continues: continues, now: now)
        // What else ends at this moment has its cores until all of it has gone on.
        if handingOver != processor { announce(processor) }
    }

    mutating func announce(_ processor: Int) {
        processors[processor].dispatch(now: now)
        guard let end = processors[processor].end else { return }
        events.add(.processor(processor, version: processors[processor].version), at: end)
    }

    mutating func call(_ partition: Int, _ call: Call, bytes: Int = 0) {
        let shard = partition % shards.count
        outcome.network(bytes, toRedis: true)
        events.add(.call(shard, call), at: now + model.hop + Double(bytes) / model.bandwidth)
    }

    private mutating func publishWakes() {
        for (stage, partition) in queues.takeWakes() {
            events.add(.wakes(stage, partition), at: now + model.hop)
        }
    }

    // MARK: Arrivals and ends

    private mutating func arrive(_ index: Int) {
        let arrival = workload.arrivals[index]
        if gatewayProcessors.isEmpty {
            if let clientProcessor, model.client > 0 {
                compute(clientProcessor, model.client, .sent(index))
            } else {
                went(.sent(index))
            }
        } else {
            let own = model.gateway.draw(&random)
            compute(gatewayProcessors[index % gatewayProcessors.count], own / 2, .sent(index))
        }
        if !arrival.isWarm {
            open += 1
            if arrival.time >= workload.begin, arrival.time < workload.end { countedOpen += 1 }
        }
    }

    private mutating func answered(_ job: Int32) {
        let record = records[Int(job)]
        let arrival = workload.arrivals[Int(record.index)]
        guard !arrival.isWarm else { return }
        open -= 1
        // Little's law over the counted time: the time that each job spent within it.
        outcome.stay(from: arrival.time, to: now)
        outcome.ended(at: now)
        if record.isCounted {
            countedOpen -= 1
            outcome.add(
                wait: now - arrival.time, lane: arrival.lane, isNew: record.isParked, prompts: record.prompts)
        }
    }

    private mutating func finish() {
        outcome.lasted = max(0, now - workload.begin)
        outcome.unfinished = countedOpen
        outcome.isOverloaded = fallsBehind
        let used = shards.map(\.used) + processors.map(\.used)
        let before = outcome.usedBefore.isEmpty ? Array(repeating: 0, count: used.count) : outcome.usedBefore
        let time = max(1e-9, now - workload.begin)
        outcome.redisUse = (0..<shards.count).map { (used[$0] - before[$0]) / time }
        let cores = processors.indices.map { number in
            (used[shards.count + number] - before[shards.count + number]) / time / processors[number].cores
        }
        if model.sharedCores != nil { outcome.sharedUse = cores[0] }
        func use(_ numbers: Set<Int>) -> Double {
            numbers.isEmpty ? 0 : numbers.reduce(0) { $0 + cores[$1] } / Double(numbers.count)
        }
        outcome.gatewayUse = use(Set(gatewayProcessors))
        for number in model.served.indices {
            let mine = { [workers] (stage: PartitionQueues.Stage) in
                workers.filter { $0.model == number && $0.stage == stage }
            }
            let (encoders, decoders) = (mine(.encode), mine(.decode))
            outcome.machineUse.append((use(Set(encoders.map(\.processor))), use(Set(decoders.map(\.processor)))))
            let slots = encoders.reduce(0) { $0 + $1.slots.count }
            let lanes = decoders.count * model.served[number].decode.concurrency
            outcome.busy[number].encode /= Double(max(1, slots)) * time
            outcome.busy[number].decode /= Double(max(1, lanes)) * time
            outcome.cached.append(decoders.map(\.cache.bytes).max() ?? 0)
        }
    }
}

/// How many there are of each.
package struct Counts: Sendable, Hashable {
    /// By model.
    package var encoders: [Int]
    package var decoders: [Int]
    package var shards: Int
    package var gateways: Int

    package init(encoders: [Int], decoders: [Int], shards: Int = 1, gateways: Int = 0) {
        self.encoders = encoders
        self.decoders = decoders
        self.shards = shards
        self.gateways = gateways
    }
}

extension ClusterModel {
    /// What the broker of `kirie bench cluster` does in a second on the machine on which Redis's calls were timed one by
    /// one: another machine's figure says how fast its Redis is.
    static let referenceBrokerJobs = 5000.0
    /// Milliseconds of a worker for a take.
    static let look = 0.04
    /// Milliseconds until a slot that is woken begins, and of a decoder around a decode, where no `bench cluster` says it.
    static let usualWake = 0.2
    static let usualHandling = 0.4
    /// What an encoder does around an encode: its reads and writes, and a processor that has done others' work meanwhile.
    static let aroundEncode = 4.0
    /// How much longer an encode takes in a cluster than one after the other: `deploy/plan` measures it.
    static let encodeInCluster = 1.1
    /// Milliseconds to read a megapixel, and to make a picture ready, where no bench says it.
    static let usualRead = 12.0
    static let usualPrepare = 3.0
    /// What a picture takes in a decoder beside a number of its embedding, in bytes.
    static let usualPreparedBytes = 12

    /// The cluster of a plan, with so many of each.
    package init(_ plan: Plan, _ counts: Counts) {
        let megapixels = plan.meanMegapixels
        // The slowest of those that were measured: they are of one machine.
        let broker = plan.models.compactMap(\.figures.brokerJobs).min()
        let redis = RedisCosts().scaled(by: broker.map { Self.referenceBrokerJobs / $0 } ?? 1)
        self.init(
            served: plan.models.enumerated().map { index, model in
                let figures = model.figures
                return Served(
                    name: model.name, encoders: counts.encoders[index], decoders: counts.decoders[index],
                    encode: Self.encode(figures, plan), decode: Self.decode(model, plan, megapixels, besides: redis),
                    recordBytes: model.recordBytes(plan),
                    preparedBytes: model.preparedBytes ?? Self.usualPreparedBytes * model.embeddingValues)
            })
        shards = counts.shards
        gateways = counts.gateways
        partitions = plan.partitions
        cacheBytes = plan.cacheBytes
        hop = plan.hop
        bandwidth = plan.gigabits * 1e9 / 8 / 1000
        client = plan.client
        resultBytes = plan.resultBytes
        self.redis = redis.scaled(by: plan.redisFactor)
        gateway = plan.models.lazy.compactMap(\.figures.gateway).first ?? .constant(0)
        if plan.failuresPerDay > 0 { lifetime = 86_400_000 / plan.failuresPerDay }
        restart = plan.restart
        switch plan.machines {
        case .shared(let machine): sharedCores = machine.cores
        case .own(let encoder, let decoder, _, let gateway):
            encoderPlacement = Placement(cores: encoder.cores, each: plan.each(.encoder))
            decoderPlacement = Placement(cores: decoder.cores, each: plan.each(.decoder))
            if let gateway { gatewayPlacement = Placement(cores: gateway.cores, each: plan.each(.gateway)) }
        }
    }

    private static func encode(_ figures: BenchFigures, _ plan: Plan) -> EncodeCosts {
        let speed = plan.speed(.encoder)
        guard let part = figures.encode else { return EncodeCosts(encode: .constant(0), threads: 1) }
        // What a picture takes beside the encode: reading it, by its size, and making the record.
        var read = usualRead
        if let picture = figures.picture, let size = picture.megapixels, size > 0 {
            read = max(0, picture.median - part.median) / size
        }
        return EncodeCosts(
            encode: part.times.scaled(by: encodeInCluster / speed), threads: part.threads,
            concurrency: plan.encoderConcurrency,
            read: aroundEncode / speed, readOfMegapixel: read / speed, look: look / speed, wake: usualWake)
    }

    /// What a decoder takes, of whose clicks `redis` was a part where they were measured.
    private static func decode(
        _ model: Plan.Model, _ plan: Plan, _ megapixels: Double, besides redis: RedisCosts
    ) -> DecodeCosts {
        let (figures, speed) = (model.figures, plan.speed(.decoder))
        guard let one = figures.decode[1] else { return DecodeCosts(click: .constant(0)) }
        let threads = one.threads
        // In a cluster a decode includes what comes after the logits, and is measured where it runs.
        let isOfOne = threads == figures.processors || threads == 1 && figures.isSmall
        let measured = isOfOne ? figures.clickOfOne : threads == 1 ? figures.clickOfTwo : nil
        let scale =
            figures.scale.map { part in part.median * megapixels / max(0.001, part.megapixels ?? megapixels) } ?? 0
        var (click, beside) = (one.times.shifted(by: scale), scale)
        if let measured {
            // Two decoders take each other's time: of theirs counts what a quick one takes more than alone.
            let part = !isOfOne && measured.tellsQuick ? 0.25 : 0.5
            beside = max(0, measured.decode.value(part) - one.times.value(part))
            click = part < 0.5 ? one.times.shifted(by: beside) : measured.decode
        }
        var costs = DecodeCosts(click: click.scaled(by: 1 / speed), threads: threads)
        costs.concurrency = model.concurrency
        costs.threadsOfOne = max(1, threads / model.concurrency)
        costs.batch = plan.batch
        // What follows the logits is done for each prompt, by a thread each.
        costs.times = figures.decode.sorted { $0.key < $1.key }.map { prompts, part in
            let after = beside * (Double(prompts) / Double(threads)).rounded(.up)
            return (Double(prompts), (part.median + after) / (one.median + beside))
        }
        costs.prepare = (figures.prepare?.median ?? usualPrepare) / speed
        costs.look = look / speed
        costs.wake = usualWake
        costs.before = usualHandling / 2 / speed
        costs.after = usualHandling / 2 / speed
        // What goes around a decode is that of one decoder: two take each other's time.
        if let measured = figures.clickOfOne {
            costs.wake = max(0, measured.wait - redis.submit - look - 2 * loopbackHop)
            let handling = measured.handling - redis.take - 2 * loopbackHop
            costs.before = max(0.02, handling / 2) / speed
            costs.after = costs.before
        }
        if let seconds = figures.everythingSeconds {
            costs.parts = max(1, (figures.everythingPoints + 15) / 16)
            let onOne = seconds * 1000 / Double(costs.parts) * Double(figures.everythingThreads)
            costs.part = onOne / Double(threads) / speed
        }
        costs.text = (figures.textMilliseconds ?? 0) / speed
        return costs
    }

    /// From one process to another of the same machine: what is within the waits of `bench cluster`.
    private static let loopbackHop = 0.03
}

extension Plan.Model {
    /// A record in Redis: its numbers, and a head.
    package func recordBytes(_ plan: Plan) -> Int { Int(Double(embeddingValues) * plan.bytesOfValue) + 512 }

    /// The threads of its workers.
    package var encoderThreads: Int { figures.encode?.threads ?? 1 }
    package var decoderThreads: Int { figures.decode[1]?.threads ?? 1 }
}

extension Plan {
    /// A kind of process.
    package enum Role: String, Sendable, CaseIterable { case encoder, decoder, redis, gateway }

    package var meanMegapixels: Double { mean(\.megapixels) }
    package var meanBytes: Double { mean { Double($0.bytes) } }

    private func mean(_ value: (PictureKind) -> Double) -> Double {
        let sum = pictures.reduce(0) { $0 + $1.share }
        return pictures.reduce(0) { $0 + $1.share * value($1) } / max(1e-12, sum)
    }

    package func machine(_ role: Role) -> Machine? {
        switch machines {
        case .shared(let machine): return machine
        case .own(let encoder, let decoder, let redis, let gateway):
            return switch role {
            case .encoder: encoder
            case .decoder: decoder
            case .redis: redis
            case .gateway: gateway
            }
        }
    }

    func speed(_ role: Role) -> Double { machine(role)?.speed ?? 1 }

    /// Processes of a role on one machine: as many as its cores and its memory hold.
    package func each(_ role: Role) -> Int {
        guard let machine = machine(role) else { return 1 }
        if let workers = machine.workers { return workers }
        let memory = machine.memory * 1_073_741_824
        func fit(_ threads: Int, _ bytes: Double) -> Int {
            max(1, min(machine.cores / max(1, threads), Int(memory / max(1, bytes))))
        }
        switch role {
        case .encoder:
            let bytes = models.map { Double($0.figures.encode?.peakBytes ?? 0) }.max() ?? 0
            return fit(models.map(\.encoderThreads).max() ?? 1, bytes + meanMegapixels * 3.5e6)
        case .decoder:
            let bytes = models.map { Double($0.figures.decode[1]?.peakBytes ?? 0) }.max() ?? 0
            return fit(models.map(\.decoderThreads).max() ?? 1, bytes + Double(cacheBytes))
        case .redis, .gateway: return 1
        }
    }
}

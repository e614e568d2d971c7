/// What a simulation is told of the cluster: who is there, on which machines, and how long each step takes.
///
/// Times are milliseconds, sizes bytes.
package struct ClusterModel: Sendable {
    /// One of the models that are served: its own workers, and what they take for a picture and a prompt.
    package struct Served: Sendable {
        package var name: String
        package var encoders: Int
        package var decoders: Int
        package var encode: EncodeCosts
        package var decode: DecodeCosts
        /// A record in Redis.
        package var recordBytes: Int
        /// A picture that a decoder has ready in its memory.
        package var preparedBytes: Int

        package init(
            name: String, encoders: Int, decoders: Int, encode: EncodeCosts, decode: DecodeCosts, recordBytes: Int,
            preparedBytes: Int
        ) {
            self.name = name
            self.encoders = encoders
            self.decoders = decoders
            self.encode = encode
            self.decode = decode
            self.recordBytes = recordBytes
            self.preparedBytes = preparedBytes
        }
    }

    package struct EncodeCosts: Sendable {
        /// The image encoder, with its threads.
        package var encode: Quantiles
        package var threads: Int
        /// Pictures at a time.
        package var concurrency: Int
        /// To read a picture and bring it to the model's size, with one thread: a picture, and for each megapixel.
        package var read: Double
        package var readOfMegapixel: Double
        /// The worker's part of a take; and how long a slot takes to begin when it is woken.
        package var look: Double
        package var wake: Double

        package init(
            encode: Quantiles, threads: Int, concurrency: Int = 1, read: Double = 0, readOfMegapixel: Double = 0,
            look: Double = 0, wake: Double = 0
        ) {
            self.encode = encode
            self.threads = threads
            self.concurrency = concurrency
            self.read = read
            self.readOfMegapixel = readOfMegapixel
            self.look = look
            self.wake = wake
        }
    }

    package struct DecodeCosts: Sendable {
        /// One prompt to its masks at the picture's size.
        package var click: Quantiles
        /// The threads of a worker, and how many of them share one prompt alone.
        package var threads: Int
        package var threadsOfOne: Int
        /// Batches that are decoded at a time; one more is on its way from and to Redis.
        package var concurrency: Int
        /// Jobs on one picture that are taken together.
        package var batch: Int
        /// How often the time of one prompt several take together, rising, from one on.
        package var times: [(prompts: Double, factor: Double)]
        /// To make a picture ready from its record, with all threads.
        package var prepare: Double
        /// The worker's part of a take, and how long a slot takes to begin when it is woken; what it does between the take
        /// and the decode, and after that.
        package var look: Double
        package var wake: Double
        package var before: Double
        package var after: Double
        /// A sixteen points' part of everything mode, and the weighing of all masks; a text on masks that are known.
        package var part: Double
        package var parts: Int
        package var text: Double

        package init(
            click: Quantiles, threads: Int = 1, threadsOfOne: Int = 1, concurrency: Int = 1, batch: Int = 16,
            times: [(prompts: Double, factor: Double)] = [], prepare: Double = 0, look: Double = 0, wake: Double = 0,
            before: Double = 0, after: Double = 0, part: Double = 0, parts: Int = 64, text: Double = 0
        ) {
            self.click = click
            self.threads = threads
            self.threadsOfOne = threadsOfOne
            self.concurrency = concurrency
            self.batch = batch
            self.times = times
            self.prepare = prepare
            self.look = look
            self.wake = wake
            self.before = before
            self.after = after
            self.part = part
            self.parts = parts
            self.text = text
        }

        /// How often the time of one prompt so many take together: a straight line between what was measured.
        func factor(_ prompts: Int) -> Double {
            let prompts = Double(prompts)
            guard prompts > 1 else { return 1 }
            // Where it was not measured, each thread does its share one after the other.
            let shares = (prompts / Double(threads)).rounded(.up)
            guard let last = times.last, last.prompts > 1 else { return shares }
            var before = (prompts: 1.0, factor: 1.0)
            for point in times where point.prompts > 1 {
                if prompts <= point.prompts {
                    let part = (prompts - before.prompts) / (point.prompts - before.prompts)
                    return before.factor + (point.factor - before.factor) * part
                }
                before = point
            }
            return last.factor * prompts / last.prompts
        }
    }

    /// What Redis's one thread takes for each call that comes alone, the system's share of it included.
    ///
    /// Measured under the load of a few workers; where many calls come together each takes less, which is left out.
    package struct RedisCosts: Sendable {
        package var submit = 0.15
        package var take = 0.15
        /// A job of a batch, beside the first.
        package var takeMore = 0.04
        package var idleTake = 0.05
        package var complete = 0.14
        package var completeMore = 0.06
        package var ready = 0.12
        /// A job that an embedding releases.
        package var release = 0.04
        /// A small read or write.
        package var small = 0.03
        package var mebibyte = 0.7
        /// To tell one worker of new work.
        package var publish = 0.008
        /// A worker's look at one of its partitions, twice a second.
        package var janitor = 0.03

        package init() {}

        /// The same, each times a factor.
        package func scaled(by factor: Double) -> RedisCosts {
            var costs = self
            for path in Self.all { costs[keyPath: path] *= factor }
            return costs
        }

        private static let all: [any WritableKeyPath<RedisCosts, Double> & Sendable] = [
            \.submit, \.take, \.takeMore, \.idleTake, \.complete, \.completeMore, \.ready, \.release, \.small,
            \.mebibyte, \.publish, \.janitor,
        ]
    }

    /// Where something runs.
    package struct Placement: Sendable {
        /// The cores of one machine.
        package var cores: Int
        /// Processes of one role on one machine.
        package var each: Int

        package init(cores: Int, each: Int) {
            self.cores = cores
            self.each = each
        }
    }

    package var served: [Served]
    package var shards = 1
    package var gateways = 0
    package var partitions = 16
    package var redis = RedisCosts()
    /// All on one machine of so many cores; nil where each role has machines of its own.
    package var sharedCores: Int?
    package var encoderPlacement = Placement(cores: 1, each: 1)
    package var decoderPlacement = Placement(cores: 1, each: 1)
    package var gatewayPlacement = Placement(cores: 1, each: 1)
    /// Memory of a decoder for pictures.
    package var cacheBytes = 1 << 30
    /// From one machine to another, one way.
    package var hop = 0.05
    /// Bytes a millisecond.
    package var bandwidth = 1.25e6
    /// What who submits takes of the shared machine's cores for a job.
    package var client = 0.0
    /// A gateway's part of a job.
    package var gateway = Quantiles.constant(0)
    package var poll = 1000.0
    package var patience = 20.0
    package var lease = 15_000.0
    package var streak = 8
    /// Between two ends of a worker that is killed; nil for never.
    package var lifetime: Double?
    /// Until it is there again.
    package var restart = 10_000.0
    package var resultBytes = 1500

    package init(served: [Served]) { self.served = served }
}

/// A lane of the queues.
package enum PlanLane: Int, Sendable, CaseIterable {
    case interactive, bulk

    package var name: String { self == .interactive ? "interactive" : "bulk" }
}

/// What a job asks for, as far as it takes another time.
package enum JobKind: Int, Sendable, CaseIterable {
    case points, boxes, everything, text

    package var name: String {
        switch self {
        case .points: "points"
        case .boxes: "boxes"
        case .everything: "everything"
        case .text: "text"
        }
    }
}

/// A job that comes.
package struct Arrival: Sendable {
    package var time: Double
    package var picture: Int32
    package var lane: PlanLane
    package var kind: JobKind
    package var prompts: Int
    /// Whether the picture is sent before it.
    package var sendsPicture: Bool
    /// Whether it asks for the embedding alone, before anybody clicks.
    package var isWarm: Bool

    package init(
        time: Double, picture: Int32, lane: PlanLane, kind: JobKind = .points, prompts: Int = 1,
        sendsPicture: Bool = false, isWarm: Bool = false
    ) {
        self.time = time
        self.picture = picture
        self.lane = lane
        self.kind = kind
        self.prompts = prompts
        self.sendsPicture = sendsPicture
        self.isWarm = isWarm
    }
}

/// A picture of a simulation.
package struct Picture: Sendable {
    package var model: Int
    package var partition: Int
    package var bytes: Int
    package var megapixels: Double
    /// Whether Redis has its embedding when the simulation begins.
    package var hasEmbedding: Bool
    /// Whether a decoder has it in memory then.
    package var isPrepared: Bool

    package init(
        model: Int, partition: Int, bytes: Int, megapixels: Double, hasEmbedding: Bool = false, isPrepared: Bool = false
    ) {
        self.model = model
        self.partition = partition
        self.bytes = bytes
        self.megapixels = megapixels
        self.hasEmbedding = hasEmbedding
        self.isPrepared = isPrepared
    }
}

/// All that comes in a simulated time.
package struct Workload: Sendable {
    package var pictures: [Picture]
    /// In the order of time.
    package var arrivals: [Arrival]
    /// Waits are counted of jobs that come from `begin` on and before `end`; more may come, so that the last of these do
    /// not find an emptier cluster.
    package var begin: Double
    package var end: Double

    package init(pictures: [Picture], arrivals: [Arrival], begin: Double, end: Double) {
        self.pictures = pictures
        self.arrivals = arrivals
        self.begin = begin
        self.end = end
    }
}

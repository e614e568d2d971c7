/// What is asked of a cluster and what it may cost: a plan's file, read.
package struct Plan: Sendable {
    /// A model, its figures, and its share of the pictures.
    package struct Model: Sendable {
        package var name: String
        package var figures: BenchFigures
        package var share: Double
        /// Numbers in an embedding: 256 × 64 × 64 of the published models.
        package var embeddingValues: Int
        package var preparedBytes: Int?
        /// Batches that a decoder decodes at a time: as many as threads for a small model, else one.
        package var concurrency: Int
    }

    /// What comes into a lane.
    package struct Lane: Sendable {
        package var picturesPerDay: Double
        /// Of each hour its share of the day, 24 of them, all together 1.
        package var hours: [Double]
        /// The share of pictures that were never seen; the others are among the last that were.
        package var new: Double
        package var seenAmong: Double
        package var jobs: JobCount
        package var promptsOfJob: Int
        /// Between two jobs on one picture; 0 sends all at once.
        package var pause: Double
        /// Whether the embedding is asked for when the picture comes, a pause before the first job.
        package var warms: Bool
        /// Shares, by ``JobKind``.
        package var kinds: [Double]

        /// Pictures a second in an hour of the day.
        package func rate(hour: Int) -> Double { picturesPerDay * hours[hour] / 3600 }
    }

    /// How many jobs come on a picture.
    package enum JobCount: Sendable, Equatable {
        case exactly(Int)
        /// Each job is followed by another with the same chance: a geometric distribution, by its mean.
        case around(Double)

        package var mean: Double {
            switch self {
            case .exactly(let count): Double(count)
            case .around(let mean): mean
            }
        }
    }

    /// A kind of picture file.
    package struct PictureKind: Sendable {
        package var bytes: Int
        package var megapixels: Double
        package var share: Double
    }

    /// A kind of machine that can be had.
    package struct Machine: Sendable {
        package var cores: Int
        package var memory: Double
        package var pricePerHour: Double
        /// How fast a core is beside the one that was measured.
        package var speed: Double
        /// Processes on each; nil for as many as cores and memory hold.
        package var workers: Int?
    }

    /// Where roles run.
    package enum Machines: Sendable {
        case shared(Machine)
        case own(encoder: Machine, decoder: Machine, redis: Machine, gateway: Machine?)
    }

    /// How long people may wait.
    package struct Target: Sendable {
        package enum Jobs: String, Sendable, CaseIterable { case all, seen, new }

        package var lane: PlanLane
        package var percentile: Double
        package var milliseconds: Double
        package var jobs: Jobs

        package init(lane: PlanLane, percentile: Double, milliseconds: Double, jobs: Jobs = .all) {
            self.lane = lane
            self.percentile = percentile
            self.milliseconds = milliseconds
            self.jobs = jobs
        }

        /// As it is written and shown.
        package var text: String {
            let rest = jobs == .all ? "" : " of \(jobs == .new ? "new" : "seen") pictures"
            return "\(lane.name) p\(PlanFields.shown(percentile)) ≤ \(PlanFields.shown(milliseconds)) ms\(rest)"
        }
    }

    package var models: [Model]
    package var lanes: [Lane?]
    package var pictures: [PictureKind]
    package var bytesOfValue: Double
    package var embeddingName: String
    package var timeToLive: Double
    package var embeddingBytes: Int?
    package var cacheBytes: Int
    package var batch: Int
    package var encoderConcurrency: Int
    package var partitions: Int
    package var machines: Machines
    package var targets: [Target]
    package var currency: String
    package var pricePerGibibyte: Double
    package var gigabits: Double
    package var hop: Double
    package var client: Double
    package var resultBytes: Int
    package var redisFactor: Double
    package var failuresPerDay: Double
    package var restart: Double

    /// The same plan with all lanes' arrivals times a factor.
    package func loaded(by factor: Double) -> Plan {
        var plan = self
        for lane in plan.lanes.indices { plan.lanes[lane]?.picturesPerDay *= factor }
        return plan
    }
}

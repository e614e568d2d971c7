/// What a cluster of some size needs, and what it costs.
package struct Needs: Sendable {
    /// Bytes in Redis, of all shards together.
    package var embeddings: Double
    package var pictures: Double
    package var results: Double
    package var queues: Double
    /// Resident bytes of one worker, by model.
    package var encoder: [Double]
    package var decoder: [Double]
    /// Machines of each role: encoders and decoders of all models.
    package var machines: [Plan.Role: Int]
    /// Money an hour, of each role; and of the network.
    package var prices: [Plan.Role: Double]
    package var network: Double

    /// Bytes in Redis.
    package var redis: Double { embeddings + pictures + results + queues }

    /// Money an hour.
    package var pricePerHour: Double { prices.values.reduce(0, +) + network }
    /// Money in a month of 730 hours.
    package var pricePerMonth: Double { 730 * pricePerHour }
}

extension Plan {
    /// Bytes of a waiting job, of an ended one beside its result, and how long the latter and a picture stay: what
    /// `Promises.md` measured, and the settings of the functions.
    private static let waitingJob = 708.0
    private static let endedJob = 512.0
    private static let retention = 3600.0
    private static let pictureStays = 600.0

    /// What so many of each need, by what a forecast saw.
    package func needs(_ forecast: Forecast) -> Needs {
        let counts = forecast.counts
        let hours = 0..<24
        let jobs = hours.map { rates(hour: $0).jobs }.max() ?? 0
        let pictures = hours.map { rates(hour: $0).new }.max() ?? 0
        let embeddings = models.indices.reduce(0.0) {
            $0 + Double(keeps($1)) * Double(models[$1].recordBytes(self))
        }
        var needs = Needs(
            embeddings: embeddings, pictures: pictures * Self.pictureStays * meanBytes,
            results: jobs * Self.retention * (Self.endedJob + Double(resultBytes)),
            queues: forecast.inSystem * Self.waitingJob,
            encoder: models.map {
                Double($0.figures.encode?.peakBytes ?? 0) + meanMegapixels * 3.5e6 * Double(encoderConcurrency)
            },
            decoder: models.indices.map { index in
                Double(models[index].figures.decode[1]?.peakBytes ?? 0) + Double(forecast.cached[index])
            }, machines: [:], prices: [:], network: 0)
        // The network's price is of the mean over the day: the busiest hour's, by what comes in it.
        let share = (hours.reduce(0.0) { $0 + rates(hour: $1).jobs } / 24) / max(1e-9, rates(hour: forecast.hour).jobs)
        needs.network = (forecast.bytesIn + forecast.bytesOut) * 3600 / 1_073_741_824 * share * pricePerGibibyte
        switch machines {
        case .shared(let machine):
            needs.machines = [.encoder: 1]
            needs.prices = [.encoder: machine.pricePerHour]
        case .own:
            for (role, count) in [(Role.encoder, counts.encoders), (.decoder, counts.decoders)] {
                needs.machines[role] = count.reduce(0) { $0 + ($1 + each(role) - 1) / each(role) }
            }
            needs.machines[.redis] = counts.shards
            if counts.gateways > 0 { needs.machines[.gateway] = counts.gateways }
            for (role, count) in needs.machines {
                needs.prices[role] = Double(count) * (machine(role)?.pricePerHour ?? 0)
            }
        }
        return needs
    }

    /// Shards that hold what Redis has to hold, a fifth of their memory free.
    func shardsForMemory(_ needs: Needs) -> Int {
        guard case .own(_, _, let redis, _) = machines else { return 1 }
        return max(1, Int((needs.redis / (0.8 * redis.memory * 1_073_741_824)).rounded(.up)))
    }
}

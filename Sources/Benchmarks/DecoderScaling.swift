import Cluster
package import JSON
import Platform
import Redis
import Segmentation

/// What a second decoder brings.
package struct DecoderScaling {
    private let bed: BenchBed
    private let seed: UInt64
    private let jobs = 160
    private let prompts = 24

    package init(_ bed: BenchBed, seed: UInt64) {
        self.bed = bed
        self.seed = seed
    }

    package func measure() async throws -> JSONValue {
        let encoders = try await bed.start("encoder", count: 1, threads: nil)
        let (images, model) = try await bed.encodePictures(32, seed: seed)
        await bed.stop(encoders)
        var rates: [Int: [Double]] = [1: [], 2: []]
        // In turn, so that a machine that slows down slows both.
        for _ in 0..<3 {
            for count in [1, 2] {
                let decoders = try await bed.start("decoder", count: count, threads: 1, more: ["--batch", "1"])
                // The first round brings the images into the decoders' memories.
                _ = try await rate(images, model)
                rates[count]?.append(try await rate(images, model))
                await bed.stop(decoders)
            }
        }
        let one = Times(rates[1] ?? []).quantile(0.5)
        let two = Times(rates[2] ?? []).quantile(0.5)
        return .object([
            ("prompts_a_job", .integer(prompts)), ("one_prompts_per_second", .integer(Int(one))),
            ("two_prompts_per_second", .integer(Int(two))),
            ("ratio", .number((two / max(one, 1e-9) * 100).rounded() / 100)),
        ])
    }

    /// Prompts a second, from the first submit to the last result.
    private func rate(_ images: [ImageDigest], _ model: ModelIdentifier) async throws -> Double {
        var random = SplitMix64(seed: seed)
        let work = (0..<jobs).map { index in
            let image = images[index % images.count]
            let cuts = (0..<prompts).map { _ in
                Prompt(points: [
                    LabeledPoint(
                        x: Double.random(in: 0..<Double(BenchPicture.width), using: &random),
                        y: Double.random(in: 0..<Double(BenchPicture.height), using: &random))
                ])
            }
            let line = JobLine(image: .digest(image), prompts: cuts)
            return Job(
                id: Job.makeIdentifier(), lane: .bulk, image: image, model: model,
                line: RedisBytes(line.encoded(for: image)))
        }
        let clock = ContinuousClock()
        let start = clock.now
        try await bed.finish(work)
        return Double(jobs * prompts) / ((clock.now - start) / .seconds(1))
    }
}

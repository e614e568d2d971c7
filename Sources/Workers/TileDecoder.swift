import Cluster
import JSON
import Redis
import SegmentAnything
import Segmentation
import Tensors

/// Prompts on tiles in a cluster: a job is divided into a part for each prompt, whose picture is the tile, until no mask is
/// cut off by its tile.
///
/// What is computed is what ``TiledPrediction`` computes, so the masks are the same to the bit.
struct TileDecoder: Sendable {
    /// What became of a job.
    enum Outcome: Sendable {
        /// By prompt that can be used, its masks.
        case masks([[MaskCandidate]])
        case divided([JobPart])
    }

    /// A prompt on a tile.
    struct Part: Sendable {
        /// Which prompt of its job.
        var index: Int
        var tile: PromptTile
        /// The whole picture's size.
        var width: Int
        var height: Int
        /// In pixels of the whole picture.
        var prompt: Prompt
        var multimask: Bool
    }

    let broker: Broker
    let modelSize: Int
    let pool: ThreadPool

    /// Does a job as far as it can be done now.
    func answer(
        _ job: PromptedJob, _ reference: JobReference, on image: any PreparedImage, of picture: ImageDigest
    ) async throws -> Outcome {
        let (width, height) = (image.width, image.height)
        var found: [Int: [PixelBox: [MaskCandidate]]] = [:]
        for result in try await broker.partResults(of: reference) {
            let (part, masks) = try PartResult.read(result, width: width, height: height, Self.part)
            found[part.index, default: [:]][part.tile.box] = masks.map(\.mask)
        }
        var masks: [[MaskCandidate]?] = []
        var parts: [JobPart] = []
        for place in job.prompts.usable {
            var tile = PromptTile(around: place.prompt, width: width, height: height, modelSize: modelSize)
            var answer: [MaskCandidate]?
            while let current = tile {
                guard let here = found[place.index]?[current.box] else {
                    parts.append(
                        part(
                            Part(
                                index: place.index, tile: current, width: width, height: height, prompt: place.prompt,
                                multimask: job.multimask), of: picture))
                    break
                }
                guard let best = here.first, current.cutsOff(best, width: width, height: height) else {
                    answer = here
                    break
                }
                tile = current.larger(width: width, height: height)
            }
            masks.append(answer)
        }
        if !parts.isEmpty { return .divided(parts) }
        return .masks(
            try zip(job.prompts.usable, masks).map { place, masks in
                try masks ?? image.wholeMasks(of: place.prompt, multimask: job.multimask, pool: pool)
            })
    }

    private func part(_ part: Part, of picture: ImageDigest) -> JobPart {
        let crop = PictureCrop(of: picture, part.tile.box)
        let image = crop.digest(partitions: broker.partitionCount)
        return JobPart(image: image, stored: crop.stored, line: RedisBytes(Self.line(part, for: image)))
    }

    /// Answers a part.
    ///
    /// - Throws: ``PromptRefusal`` or ``PromptError`` where the part is none of this picture.
    func result(_ line: RedisBytes, _ part: Part, on image: any PreparedImage) throws -> RedisBytes {
        guard part.tile.box.width == image.width, part.tile.box.height == image.height else {
            throw PromptRefusal(reason: "the part is none of this picture")
        }
        let masks = try part.tile.masks(
            of: part.prompt, on: image, multimask: part.multimask, width: part.width, height: part.height, pool: pool)
        return PartResult.write(line, masks.map { (number: part.index, mask: $0) })
    }

    private static func line(_ part: Part, for image: ImageDigest) -> [UInt8] {
        let box = part.tile.box
        var writer = JSONWriter()
        writer.object { line in
            line.member("part") {
                $0.object { line in
                    line.member("prompt") { $0.integer(part.index) }
                    line.member("tile") { $0.array([box.x0, box.y0, box.x1, box.y1]) { $1.integer($0) } }
                    line.member("width") { $0.integer(part.width) }
                    line.member("height") { $0.integer(part.height) }
                }
            }
            let job = JobLine(image: .digest(image), prompts: [part.prompt], multimask: part.multimask)
            line.member("job") { $0.written(job.encoded(for: image)) }
        }
        return writer.bytes
    }

    /// Reads the line of a part; nil for any other line.
    static func part(_ line: [UInt8]) -> Part? {
        guard line.starts(with: #"{"part":{"prompt":"#.utf8), let value = try? JSONValue(parsing: line),
            let part = value["part"], let index = part["prompt"]?.integer,
            let edges = part["tile"]?.elements?.compactMap(\.integer), edges.count == 4,
            let width = part["width"]?.integer, let height = part["height"]?.integer,
            edges[0] >= 0, edges[1] >= 0, edges[0] < edges[2], edges[1] < edges[3], edges[2] <= width,
            edges[3] <= height,
            let text = value["job"], let job = try? JobLine(parsing: text.bytes), job.prompts.count == 1
        else { return nil }
        return Part(
            index: index, tile: PromptTile(box: PixelBox(x0: edges[0], y0: edges[1], x1: edges[2], y1: edges[3])),
            width: width, height: height, prompt: job.prompts[0], multimask: job.multimask)
    }
}

import Cluster
import FoundationEssentials
import HTTPTypes
import Imaging
import Platform
import Redis
import Segmentation

/// The masks of an answer as pictures: outside the cooperative pool, a few at a time.
struct AnswerPictures: Sendable {
    /// What is drawn.
    enum View: String, Sendable, CaseIterable {
        /// 255 on the object, 0 elsewhere.
        case mask
        /// The picture where the object is, transparent elsewhere.
        case cutout
        /// The picture with all masks of the answer tinted, or with the one that was asked for.
        case overlay
    }

    private let broker: Broker
    private let decoder: ImageDecoder
    private let threads = ComputeThreads(count: 2)

    init(broker: Broker, decoder: ImageDecoder) {
        self.broker = broker
        self.decoder = decoder
    }

    /// A PNG file.
    ///
    /// - Parameters:
    ///   - result: a job's result.
    ///   - image: its picture, where the result does not name it; of it ``View/cutout`` and ``View/overlay`` need the file.
    ///   - view: what is drawn.
    ///   - index: which of the answer's masks, from 0; nil for the one with the highest score.
    ///   - isCropped: whether a cut-out is as large as the object alone.
    /// - Returns: the file's bytes.
    /// - Throws: ``Problem`` where there is no such mask or no such picture.
    func png(
        of result: RedisBytes, image: ImageDigest?, view: View, index: Int?, isCropped: Bool
    ) async throws -> [UInt8] {
        let (answer, chosen) = try Self.chosen(of: result, index)
        var file: RedisBytes?
        if view != .mask { file = try await self.file(image ?? answer.image.sha256.flatMap { ImageDigest($0) }) }
        let shown = view == .overlay && index == nil ? Self.bestOfEach(answer.masks) : [answer.masks[chosen]]
        let painting = Painting(view: view, masks: shown, file: file, decoder: decoder, isCropped: isCropped)
        guard let result = await threads.run({ Result { try painting.png() } }) else {
            throw Problem(
                .serviceUnavailable, "shutting-down", "this gateway is shutting down", retryAfter: .seconds(1))
        }
        return try result.get()
    }

    /// The answer, and which of its masks is meant.
    private static func chosen(of result: RedisBytes, _ index: Int?) throws -> (answer: Answer, mask: Int) {
        let answer: Answer
        do { answer = try JSONDecoder().decode(Answer.self, from: Data(result.array)) } catch {
            throw Problem(.unprocessableContent, "no-masks", "this job has no masks: it asked for the embedding alone")
        }
        let best = answer.masks.indices.max { answer.masks[$0].score < answer.masks[$1].score }
        guard let chosen = index ?? best, answer.masks.indices.contains(chosen) else {
            throw Problem(.notFound, "no-such-mask", "the answer has \(answer.masks.count) masks, counted from 0")
        }
        return (answer, chosen)
    }

    private func file(_ image: ImageDigest?) async throws -> RedisBytes {
        guard let image else { throw Problem.unknownImage("") }
        let file = try await broker.image(image)
        guard let file else { throw Problem.unknownImage(image.hexadecimal) }
        return file
    }

    /// The mask with the highest score of each prompt.
    private static func bestOfEach(_ masks: [Answer.Cutout]) -> [Answer.Cutout] {
        var seen: Set<Int> = []
        return masks.sorted { $0.score > $1.score }.filter { seen.insert($0.prompt).inserted }.sorted {
            $0.prompt < $1.prompt
        }
    }
}

/// What is drawn, on a thread that may take its time.
private struct Painting: Sendable {
    let view: AnswerPictures.View
    let masks: [Answer.Cutout]
    let file: RedisBytes?
    let decoder: ImageDecoder
    let isCropped: Bool

    func png() throws -> [UInt8] {
        guard let first = masks.first else { throw Self.mismatch }
        switch (view, file) {
        case (.cutout, let file?): return try cutout(first, of: file)
        case (.overlay, let file?): return try overlay(on: file)
        default: return try PNGWriter.encode(mask: first.levels())
        }
    }

    private func cutout(_ cutout: Answer.Cutout, of file: RedisBytes) throws -> [UInt8] {
        let mask = try cutout.levels()
        let image = try Self.image(file, decoder)
        guard image.width == mask.width, image.height == mask.height else { throw Self.mismatch }
        let box = cutout.bbox
        let frame =
            isCropped && box.count == 4 && box[2] > 0 && box[3] > 0
            ? (x: box[0], y: box[1], width: box[2], height: box[3])
            : (x: 0, y: 0, width: image.width, height: image.height)
        guard frame.x >= 0, frame.y >= 0, frame.x + frame.width <= image.width,
            frame.y + frame.height <= image.height
        else { throw Self.mismatch }
        let pixels = [UInt8](unsafeUninitializedCapacity: frame.width * frame.height * 4) { buffer, count in
            var at = 0
            for row in frame.y..<frame.y + frame.height {
                for column in frame.x..<frame.x + frame.width {
                    let place = row * image.width + column
                    let isObject = mask.pixels[place] != 0
                    for channel in 0..<3 { buffer[at + channel] = isObject ? image.pixels[place * 3 + channel] : 0 }
                    buffer[at + 3] = isObject ? 255 : 0
                    at += 4
                }
            }
            count = at
        }
        return try PNGWriter.encode(rgba: pixels, width: frame.width, height: frame.height, named: "the cut-out")
    }

    private func overlay(on file: RedisBytes) throws -> [UInt8] {
        let image = try Self.image(file, decoder)
        let levels = try masks.map { try $0.levels() }
        guard levels.allSatisfy({ $0.width == image.width && $0.height == image.height }) else { throw Self.mismatch }
        return try PNGWriter.encode(MaskOverlay(masks: levels).drawn(on: image))
    }

    private static func image(_ file: RedisBytes, _ decoder: ImageDecoder) throws -> Image {
        try file.withUnsafeBytes { try decoder.decode($0, named: "the picture") }
    }

    fileprivate static var mismatch: Problem {
        Problem(.unprocessableContent, "wrong-size", "the mask and the picture differ in size")
    }
}

extension Mask {
    /// The mask as the picture room takes it.
    fileprivate var gray: GrayImage { GrayImage(width: width, height: height, pixels: pixels) }
}

extension Answer.Cutout {
    /// The mask: 1 on the object.
    ///
    /// - Throws: ``Problem`` where the answer has no run lengths, or what is there is no mask.
    func levels() throws -> GrayImage {
        guard let run = segmentation, run.size.count == 2 else {
            throw Problem(
                .unprocessableContent, "no-runs", "pictures are made of answers with \"output\": \"rle\" alone")
        }
        guard run.size.allSatisfy({ (1...1_000_000).contains($0) }),
            run.size[0] * run.size[1] <= PixelLimit.standard.pixels
        else { throw Painting.mismatch }
        return try RunLengthEncoding(compressed: run.counts, height: run.size[0], width: run.size[1]).mask.gray
    }
}

import Glibc
import Imaging
package import JSON
import NeuralNetworks
import Segmentation
package import Tensors
package import TextMatching

/// How long a CLIP model takes: pictures, texts, and what a second text on a picture costs whose candidates are known.
package struct TextTiming {
    private let model: CLIPModel
    private let precision: Precision
    private let pool: ThreadPool

    /// Measures a model.
    package init(_ model: CLIPModel, precision: Precision, pool: ThreadPool) {
        self.model = model
        self.precision = precision
        self.pool = pool
    }

    /// Times each part.
    ///
    /// - Parameters:
    ///   - crops: pictures in one call of the image encoder.
    ///   - candidates: rows that a text is compared with.
    ///   - runs: calls that count, after two that do not.
    /// - Returns: one object with the median of each part in milliseconds.
    /// - Throws: where the model's weights cannot be read, or a text cannot be asked.
    package func measure(crops: Int, candidates: Int, runs: Int) throws -> JSONValue {
        let side = model.geometry.imageSize
        let pool = pool
        func median(_ runs: Int, _ body: @escaping @Sendable () -> Void) -> JSONValue {
            let times = CallTimes(runs: runs, streams: nil, body).each.sorted()
            return .number((times[times.count / 2] * 1000).rounded() / 1000)
        }
        var members: [JSONValue.Member] = [
            ("part", "text"), ("precision", .string(precision.rawValue)), ("threads", .integer(pool.threadCount)),
            ("crops", .integer(crops)),
        ]
        do {
            let encoder = try model.imageEncoder(precision: precision)
            let input = RandomWeights(seed: 1).tensor("input.image", shape: [crops, 3, side, side])
            members.append(("images_ms", median(runs) { _ = encoder.encode(input: input, pool: pool) }))
        }
        let encoder = try model.textEncoder(precision: precision)
        let tokens = [model.tokenizer.encode("a photo of a dog.", length: model.geometry.contextLength)]
        let full = [model.tokenizer.encode(String(repeating: "dog ", count: 200), length: model.geometry.contextLength)]
        members.append(("text_tokens", .integer(tokens[0].count)))
        members.append(("text_ms", median(8 * runs) { _ = encoder.encode(tokens, pool: pool) }))
        members.append(("longest_text_ms", median(2 * runs) { _ = encoder.encode(full, pool: pool) }))
        let matcher = try model.matcher(precision: precision, pool: pool)
        let rows = RandomWeights(seed: 2).tensor("rows.value", shape: [candidates, matcher.width])
        // Texts of many lengths, each met anew: what a first call of its size sets up is part of what people wait for.
        let words = [
            "dog", "red car", "person on a bicycle", "leftmost window of the house", "犬", "bottle",
            "green traffic light",
            "small wooden chair in front of the table", "cat", "tree", "the shadow under the second bench",
            "street sign",
        ]
        func texts(_ pool: ThreadPool, runs: Int) throws -> JSONValue {
            let clock = ContinuousClock()
            var times: [Double] = []
            for run in 0..<runs {
                let text = "\(words[run % words.count]) \(run)"
                let start = clock.now
                _ = matcher.scores(try matcher.queries([text], pool: pool), of: rows)
                times.append((clock.now - start) / .milliseconds(1))
            }
            times.sort()
            return .number((times[times.count / 2] * 1000).rounded() / 1000)
        }
        members.append(("first_text_ms", try texts(pool, runs: 1)))
        members.append(("second_text_ms", try texts(pool, runs: 4 * words.count)))
        members.append(("second_text_one_thread_ms", try texts(.inline, runs: 4 * words.count)))
        // What a processor works on it, whatever else it does meanwhile.
        var (start, end) = (timespec(), timespec())
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &start)
        _ = try texts(.inline, runs: 4 * words.count)
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &end)
        let work = Double(end.tv_sec - start.tv_sec) * 1e3 + Double(end.tv_nsec - start.tv_nsec) / 1e6
        members.append(("second_text_processor_ms", .number((work / Double(4 * words.count) * 1000).rounded() / 1000)))
        let query = try matcher.query("dog")
        members.append(("scores_ms", median(8 * runs) { _ = matcher.scores([query], of: rows) }))
        members.append(("candidates", .integer(candidates)))
        return .object(members)
    }
}

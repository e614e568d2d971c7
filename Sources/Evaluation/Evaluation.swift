package import Imaging
package import SegmentAnything
import Segmentation
import Synchronization
package import Tensors

/// Measures a model on data sets; `weights/README.md` defines every figure.
package struct Evaluation: Sendable {
    /// The figures of one set, or the mean over sets.
    package struct Row: Sendable, Encodable {
        package var click = 0.0
        package var best = 0.0
        package var box = 0.0
        package var clicks3: Double?
        package var clicks5: Double?
        package var noc90: Double?
        package var instances = 0

        /// The mean over instances; `clicks` is how many each was given.
        init(_ scores: [InstanceScores], clicks: Int) {
            let count = Double(max(1, scores.count))
            func mean(_ value: (InstanceScores) -> Double) -> Double { scores.reduce(0) { $0 + value($1) } / count }
            click = mean(\.click)
            best = mean(\.best)
            box = mean(\.box)
            if clicks >= 3 { clicks3 = mean { $0.history[2] } }
            if clicks >= 5 { clicks5 = mean { $0.history[4] } }
            if clicks >= 20 { noc90 = mean { Double($0.clicksTo90) } }
            instances = scores.count
        }

        /// The mean over sets; instances are summed.
        package init(meanOf rows: [Row]) {
            let count = Double(max(1, rows.count))
            func mean(_ value: (Row) -> Double) -> Double { rows.reduce(0) { $0 + value($1) } / count }
            func mean(_ value: (Row) -> Double?) -> Double? {
                let values = rows.compactMap(value)
                return values.count == rows.count ? values.reduce(0, +) / count : nil
            }
            click = mean(\.click)
            best = mean(\.best)
            box = mean(\.box)
            clicks3 = mean(\.clicks3)
            clicks5 = mean(\.clicks5)
            noc90 = mean(\.noc90)
            instances = rows.reduce(0) { $0 + $1.instances }
        }
    }

    private let encoder: any ImageEncoding
    private let decoder: any PromptDecoding
    private let clicks: Int
    private let pictures: ImageDecoder
    private let pool: ThreadPool

    /// An evaluation with so many clicks for each object, 20 for the number of clicks to 90 %; `pictures` reads the
    /// pictures.
    package init(
        encoder: any ImageEncoding, decoder: any PromptDecoding, clicks: Int, pictures: ImageDecoder = ImageDecoder(),
        pool: ThreadPool
    ) {
        self.encoder = encoder
        self.decoder = decoder
        self.clicks = clicks
        self.pictures = pictures
        self.pool = pool
    }

    /// Measures one set.
    ///
    /// - Parameters:
    ///   - set: pictures, each with its label map.
    ///   - notes: called with what is to be said of a picture, and its file.
    ///   - progress: called after each picture with how many are done.
    /// - Returns: the means over all objects of the set.
    /// - Throws: ``DataSetError`` where a label map is not of its picture's size; where a picture or a label map cannot
    ///   be read.
    package func measure(
        _ set: DataSet, notes: ([ImageNote], String) -> Void = { _, _ in }, progress: (Int) -> Void
    ) throws -> Row {
        var scores: [InstanceScores] = []
        for (index, picture) in set.pictures.enumerated() {
            let labels = try LabelMap(file: picture.labels, limit: pictures.limit)
            let read = try pictures.read(pictures.contents(ofFile: picture.image), named: picture.image)
            notes(read.notes, picture.image)
            let image = read.image
            guard image.width == labels.width, image.height == labels.height else {
                throw DataSetError(
                    path: picture.labels,
                    reason: "is \(labels.width) x \(labels.height), its picture \(image.width) x \(image.height)")
            }
            let instances = Instance.all(in: labels)
            if !instances.isEmpty {
                let prepared = try decoder.prepare(encoder.encode(image, pool: pool), pool: pool)
                let session = ClickSession(image: prepared)
                let found = Mutex<[Int: Result<InstanceScores, any Error>]>([:])
                pool.parallel(instances.count) { index in
                    let result = Result { try session.play(instances[index], clicks: clicks) }
                    found.withLock { $0[index] = result }
                }
                for (_, result) in found.withLock({ $0 }).sorted(by: { $0.key < $1.key }) {
                    scores.append(try result.get())
                }
            }
            progress(index + 1)
        }
        return Row(scores, clicks: clicks)
    }
}

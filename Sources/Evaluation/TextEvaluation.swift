import Glibc
package import Imaging
import JSON
import Platform
package import SegmentAnything
import Segmentation
package import Tensors
package import TextMatching

/// Measures texts on pictures whose objects have categories: everything mode's candidates, a text for each category in a
/// picture, and the mask that it picks.
///
/// A pair is a picture and a category of things in it that the matcher knows. Objects of fewer than
/// ``Instance/smallestArea`` pixels do not count.
package struct TextEvaluation: Sendable {
    /// The figures of a set.
    package struct Row: Sendable, Encodable {
        /// Pictures and categories.
        package var pairs = 0
        /// The share of pairs whose mask has an IoU of at least 0.5 with an object of the category.
        package var found = 0.0
        /// The share of pairs for which any candidate has.
        package var reachable = 0.0
        /// The mask's IoU with the object that it has most of, against that of the best candidate for the object: the mean
        /// over all pairs.
        package var ofBest = 0.0
        /// The same, over the pairs that are found.
        package var ofBestWhereFound = 0.0
        /// Candidates of all pictures.
        package var candidates = 0
        /// Categories in the pictures that the matcher does not know.
        package var unknown: [String] = []
    }

    private let generator: AutomaticMaskGenerator
    private let matcher: any TextMatcher
    private let selection: TextSelection
    private let pictures: ImageDecoder
    private let pool: ThreadPool

    /// An evaluation of a matcher over the candidates of a generator; `pictures` reads the pictures.
    package init(
        generator: AutomaticMaskGenerator, matcher: any TextMatcher,
        selection: TextSelection = TextSelection(minimumScore: 0, relativeScore: 0),
        pictures: ImageDecoder = ImageDecoder(),
        pool: ThreadPool
    ) {
        self.generator = generator
        self.matcher = matcher
        self.selection = selection
        self.pictures = pictures
        self.pool = pool
    }

    /// Measures one set, whose `segments.json` tells the categories by picture and label.
    ///
    /// - Parameters:
    ///   - set: pictures with their label maps.
    ///   - categories: of their labels.
    ///   - progress: called after each picture with how many are done.
    /// - Returns: the figures over all pairs.
    /// - Throws: ``DataSetError`` where a label map is not of its picture's size; where a picture cannot be read.
    package func measure(
        _ set: DataSet, categories: SegmentCategories, progress: (Int) -> Void = { _ in }
    ) throws -> Row {
        var row = Row()
        var (found, reachable, ofBest, ofBestWhereFound) = (0, 0, 0.0, 0.0)
        var unknown: Set<String> = []
        for (index, picture) in set.pictures.enumerated() {
            defer { progress(index + 1) }
            let image = try pictures.read(pictures.contents(ofFile: picture.image), named: picture.image).image
            let labels = try LabelMap(file: picture.labels, limit: pictures.limit)
            guard image.width == labels.width, image.height == labels.height else {
                throw DataSetError(
                    path: picture.labels,
                    reason: "is \(labels.width) x \(labels.height), its picture \(image.width) x \(image.height)")
            }
            let objects = objects(in: labels, categories.things(ofPicture: picture.image))
            var queries: [(category: String, query: TextQuery)] = []
            for category in objects.keys.sorted() {
                do throws(TextError) {
                    queries.append((category, try matcher.query(category)))
                } catch {
                    unknown.insert(category)
                }
            }
            guard !queries.isEmpty else { continue }
            let candidates = try generator.generate(image, pool: pool)
            let masks = candidates.map(\.encoding)
            row.candidates += masks.count
            let scores = matcher.scores(queries.map(\.query), of: matcher.rows(of: masks, in: image, pool: pool))
            for (text, (category, _)) in queries.enumerated() {
                row.pairs += 1
                let ious = (objects[category] ?? []).map { object in masks.map { $0.intersectionOverUnion(object) } }
                if ious.contains(where: { ($0.max() ?? 0) >= 0.5 }) { reachable += 1 }
                let choice = selection.choices(
                    [scores[text]], among: masks, predictedIoU: candidates.map(\.predictedIoU))
                guard let chosen = choice.first?.candidate,
                    let object = ious.max(by: { $0[chosen] < $1[chosen] }), let best = object.max(), best > 0
                else { continue }
                ofBest += object[chosen] / best
                if object[chosen] >= 0.5 {
                    found += 1
                    ofBestWhereFound += object[chosen] / best
                }
            }
        }
        let pairs = Double(max(1, row.pairs))
        row.found = Double(found) / pairs
        row.reachable = Double(reachable) / pairs
        row.ofBest = ofBest / pairs
        row.ofBestWhereFound = ofBestWhereFound / Double(max(1, found))
        row.unknown = unknown.sorted()
        return row
    }

    /// The masks of each category's objects.
    private func objects(in map: LabelMap, _ things: [UInt16: String]) -> [String: [RunLengthEncoding]] {
        var areas: [UInt16: Int] = [:]
        for label in map.labels where label != 0 { areas[label, default: 0] += 1 }
        var objects: [String: [RunLengthEncoding]] = [:]
        for (label, category) in things.sorted(by: { $0.key < $1.key })
        where areas[label, default: 0] >= Instance.smallestArea {
            let pixels: [UInt8] = map.labels.map { $0 == label ? 1 : 0 }
            objects[category, default: []].append(
                RunLengthEncoding(Mask(width: map.width, height: map.height, pixels: pixels)))
        }
        return objects
    }
}

/// What `segments.json` beside a set, or in the folder above it, says of labels: by picture, a list of
/// `{"label": 1, "category": "dog", "isthing": 1}`.
package struct SegmentCategories: Sendable {
    private let things: [String: [UInt16: String]]

    /// Reads the file of a set in `directory`; nil where there is none.
    ///
    /// - Throws: ``DataSetError`` where it is not as above.
    package init?(ofSetIn directory: String) throws(DataSetError) {
        for path in ["\(directory)/segments.json", "\(directory)/../segments.json"] {
            guard access(path, F_OK) == 0 else { continue }
            guard let bytes = try? ImageDecoder().contents(ofFile: path),
                let members = try? JSONValue(parsing: bytes).members
            else {
                throw DataSetError(path: path, reason: "is no JSON object of pictures")
            }
            var things: [String: [UInt16: String]] = [:]
            for (picture, segments) in members {
                for segment in segments.elements ?? [] {
                    guard let label = segment["label"]?.integer.flatMap(UInt16.init(exactly:)),
                        let category = segment["category"]?.string
                    else {
                        throw DataSetError(path: path, reason: "has a segment of \(picture) without label or category")
                    }
                    if segment["isthing"]?.integer != 0 { things[picture, default: [:]][label] = category }
                }
            }
            self.things = things
            return
        }
        return nil
    }

    /// The categories of the things in a picture, by label.
    func things(ofPicture path: String) -> [UInt16: String] {
        let file = path.split(separator: "/").last.map(String.init) ?? path
        return things[String(file.prefix { $0 != "." })] ?? [:]
    }
}

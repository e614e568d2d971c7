import Checkpoints
import JSON
import NeuralNetworks
import Tensors

/// What `weights/kirie-words.safetensors` holds: a classifier of crops, and the nouns that its classes go by.
///
/// ```text
/// trunk.stem.{weight,bias}, trunk.blocks.N.{expand,depthwise,project}.{weight,bias}
///                                an EfficientNet-Lite's, batch normalisations folded in
/// head.convolution.{weight,bias} (features, channels, 1, 1), then ReLU6 and the mean over the map
/// head.classes.{weight,bias}     (classes, features): the last class is that of crops that show no whole thing
/// vocabulary                     U8, see WordsVocabulary
/// ```
///
/// What tensors cannot say stands in the metadata: `kirie.kind` (words), `kirie.image_size`, `kirie.block_strides` (a JSON
/// list), and `kirie.crops`, a JSON list of `[margin, surroundings]` for each way a candidate is looked at.
struct WordsFile {
    /// What `kirie.kind` says.
    static let kind = "words"
    /// Bounds on what a file may ask for; the shipped one has 16 blocks, 1,280 features and a thousand classes.
    private enum Bounds {
        static let imageSize = 64...512
        static let width = 1...4096
        static let blocks = 1...64
        /// Numbers of the largest map, of which each thread keeps some.
        static let features = 1 << 24
        static let classes = 2...65_536
        static let crops = 1...8
        static let vocabularyBytes = 16 << 20
    }

    let checkpoint: Checkpoint
    let trunk: EfficientNetTrunk.Configuration
    /// Numbers of a crop's pooled features.
    let featureCount: Int
    /// Classes, the one of nothing among them.
    let classCount: Int
    let crops: [CandidateCrop]
    let vocabulary: WordsVocabulary

    /// Reads sizes and words; the weights stay in the file.
    init(_ checkpoint: Checkpoint) throws(CheckpointError) {
        self.checkpoint = checkpoint
        let reader = Reader(checkpoint: checkpoint)
        guard checkpoint.metadata["kirie.kind"] == Self.kind else {
            throw CheckpointError(
                .unknownLayout, file: checkpoint.path, at: "metadata ‘kirie.kind’",
                "is not ‘\(Self.kind)’: this is no model of words",
                remedy: "Give weights/kirie-words.safetensors, or a file made as it is")
        }
        let size = try reader.integer("kirie.image_size")
        guard Bounds.imageSize.contains(size), size.isMultiple(of: 32) else {
            throw reader.wrong(metadata: "kirie.image_size", "is \(size), no multiple of 32 in \(Bounds.imageSize)")
        }
        trunk = try reader.trunk(imageSize: size, widths: Bounds.width, blocks: Bounds.blocks)
        let largest = trunk.largestMap
        guard largest <= Bounds.features else {
            throw reader.wrong(
                metadata: "kirie.image_size",
                "leads to a map of \(largest) numbers; at most \(Bounds.features) are allowed")
        }
        let convolution = try reader.shape("head.convolution.weight", rank: 4)
        featureCount = try reader.bounded(convolution[0], Bounds.width, "head.convolution.weight")
        let classes = try reader.shape("head.classes.weight", rank: 2)
        classCount = try reader.bounded(classes[0], Bounds.classes, "head.classes.weight")
        crops = try reader.crops(counts: Bounds.crops)
        let text = try checkpoint.stored("vocabulary")
        guard text.storedType == .uint8, text.shape.count == 1, text.count <= Bounds.vocabularyBytes else {
            throw reader.wrong(tensor: "vocabulary", "is no text of at most \(Bounds.vocabularyBytes) bytes")
        }
        do throws(WordsVocabulary.Malformed) {
            vocabulary = try WordsVocabulary(text.file.bytes[text.range], classCount: classCount - 1)
        } catch {
            throw reader.wrong(tensor: "vocabulary", "is malformed in line \(error.line)")
        }
    }
}

/// Reads sizes with errors that name the place.
private struct Reader {
    let checkpoint: Checkpoint

    private static let remedy = "Take weights/kirie-words.safetensors as it is shipped"

    func wrong(tensor name: String, _ reason: String) -> CheckpointError {
        CheckpointError(
            .misshapenTensor, file: checkpoint.path, at: "tensor \(CheckpointError.quoted(name))", reason,
            remedy: Self.remedy)
    }

    func wrong(metadata key: String, _ reason: String) -> CheckpointError {
        CheckpointError(
            .corrupt, file: checkpoint.path, at: "metadata \(CheckpointError.quoted(key))", reason, remedy: Self.remedy)
    }

    func shape(_ name: String, rank: Int) throws(CheckpointError) -> [Int] {
        let shape = try checkpoint.stored(name).shape
        guard shape.count == rank else {
            throw wrong(tensor: name, "has the shape \(shape) where \(rank) axes are expected")
        }
        return shape
    }

    func bounded(_ value: Int, _ bounds: ClosedRange<Int>, _ name: String) throws(CheckpointError) -> Int {
        guard bounds.contains(value) else {
            throw wrong(tensor: name, "has \(value) outputs; \(bounds.lowerBound) to \(bounds.upperBound) are allowed")
        }
        return value
    }

    func integer(_ key: String) throws(CheckpointError) -> Int {
        guard let value = checkpoint.metadata[key].flatMap({ Int($0) }) else {
            throw wrong(metadata: key, "is missing, or no number")
        }
        return value
    }

    private func list(_ key: String) throws(CheckpointError) -> [JSONValue] {
        guard let text = checkpoint.metadata[key], let value = try? JSONValue(parsing: Array(text.utf8)),
            let elements = value.elements
        else { throw wrong(metadata: key, "is missing, or no JSON list") }
        return elements
    }

    func trunk(
        imageSize: Int, widths: ClosedRange<Int>, blocks: ClosedRange<Int>
    ) throws(CheckpointError) -> EfficientNetTrunk.Configuration {
        let key = "kirie.block_strides"
        let listed = try list(key)
        let strides = listed.compactMap(\.integer)
        guard strides.count == listed.count, blocks.contains(strides.count), strides.allSatisfy((1...2).contains),
            strides.reduce(2, { min($0 * $1, 64) }) == 32
        else { throw wrong(metadata: key, "does not lead in strides of 1 and 2 from 2 to 32") }
        let names = EfficientNetTrunk.Names.self
        let stemName = "\(names.stem(of: WordsClassifier.trunkName)).weight"
        let stem = try bounded(try shape(stemName, rank: 4)[0], widths, stemName)
        var (channels, found) = (stem, [EfficientNetTrunk.Block]())
        for (index, stride) in strides.enumerated() {
            let block = "\(names.blocks(of: WordsClassifier.trunkName)).\(index)"
            let depthwise = "\(names.depthwise(block)).weight"
            let kernel = try shape(depthwise, rank: 4)
            guard DepthwiseReLU6.sizes.contains(kernel[2]) else {
                throw wrong(tensor: depthwise, "has a kernel of \(kernel[2]), where 3 or 5 is expected")
            }
            let isWidened = checkpoint.contains("\(names.expansion(block)).weight")
            let hidden = isWidened ? try bounded(kernel[0], widths, depthwise) : channels
            let projection = "\(names.projection(block)).weight"
            channels = try bounded(try shape(projection, rank: 4)[0], widths, projection)
            found.append(
                EfficientNetTrunk.Block(
                    hidden: hidden, isWidened: isWidened, size: kernel[2], stride: stride, outputs: channels))
        }
        return EfficientNetTrunk.Configuration(imageSize: imageSize, stem: stem, blocks: found)
    }

    func crops(counts: ClosedRange<Int>) throws(CheckpointError) -> [CandidateCrop] {
        let key = "kirie.crops"
        let pairs = try list(key).map { pair in
            (pair.elements ?? []).map { value -> Double in
                switch value {
                case .integer(let number): Double(number)
                case .number(let number): number
                default: -1
                }
            }
        }
        guard counts.contains(pairs.count),
            pairs.allSatisfy({ $0.count == 2 && (0...4).contains($0[0]) && (0...1).contains($0[1]) })
        else { throw wrong(metadata: key, "is no list of [margin, surroundings] with 0 to 4 and 0 to 1") }
        return pairs.map {
            CandidateCrop(margin: $0[0], surroundings: $0[1], background: WordsClassifier.background)
        }
    }
}

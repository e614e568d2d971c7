import Checkpoints
import JSON

/// What `config.json` and `preprocessor_config.json` say of a model beside its weights; each member nil where they do not.
struct CLIPConfiguration {
    /// One of the two transformers.
    struct Tower {
        var width: Int?
        var depth: Int?
        var headCount: Int?
        var mlpWidth: Int?
        var activation: String?
        var epsilon: Double?
    }

    var text = Tower()
    var image = Tower()
    var contextLength: Int?
    var vocabularySize: Int?
    var endToken: Int?
    var patchSize: Int?
    var imageSize: Int?
    var width: Int?
    var mean: SIMD3<Double>?
    var deviation: SIMD3<Double>?

    /// Nothing is said.
    init() {}

    /// Reads the files of a folder that are there.
    ///
    /// - Throws: ``CheckpointError`` where one is malformed or of another kind of model.
    init(folder: String) throws(CheckpointError) {
        let (model, preprocessor) = ("\(folder)/config.json", "\(folder)/preprocessor_config.json")
        if CLIPTokenizer.isFile(model) { try read(model) }
        if CLIPTokenizer.isFile(preprocessor) { try readPreprocessor(preprocessor) }
    }

    private mutating func read(_ path: String) throws(CheckpointError) {
        let document = try CLIPTokenizer.json(path)
        guard document.members != nil else { throw Self.corrupt(path, nil, "is no object") }
        if let kind = document["model_type"]?.string, kind != "clip" {
            throw CheckpointError(
                .unsupportedModel, file: path, at: "model_type",
                "is \(CheckpointError.quoted(kind)), and \"clip\" is read",
                remedy: "Give a folder with a CLIP model, its weights, config.json and tokenizer")
        }
        let parts = (text: document["text_config"], image: document["vision_config"])
        text = try Self.tower(parts.text, file: path, at: "text_config")
        image = try Self.tower(parts.image, file: path, at: "vision_config")
        func size(_ part: JSONValue?, _ name: String, _ place: String) throws(CheckpointError) -> Int? {
            try Self.size(part, name, file: path, at: place)
        }
        contextLength = try size(parts.text, "max_position_embeddings", "text_config")
        vocabularySize = try size(parts.text, "vocab_size", "text_config")
        patchSize = try size(parts.image, "patch_size", "vision_config")
        imageSize = try size(parts.image, "image_size", "vision_config")
        width = try size(document, "projection_dim", "projection_dim")
        if let end = parts.text?["eos_token_id"], case .integer(let token) = end {
            guard (0...Int(Int32.max)).contains(token) else {
                throw Self.corrupt(path, "text_config.eos_token_id", "is \(token), which is no token")
            }
            endToken = token
        }
    }

    private mutating func readPreprocessor(_ path: String) throws(CheckpointError) {
        let document = try CLIPTokenizer.json(path)
        func colours(_ name: String) throws(CheckpointError) -> SIMD3<Double>? {
            guard let value = document[name] else { return nil }
            let numbers = (value.elements ?? []).compactMap(\.number)
            guard numbers.count == 3, numbers.allSatisfy(\.isFinite) else {
                throw Self.corrupt(path, name, "is no list of three numbers")
            }
            return SIMD3(numbers)
        }
        mean = try colours("image_mean")
        deviation = try colours("image_std")
        guard let deviation else { return }
        guard (0..<3).allSatisfy({ deviation[$0] > 0 }) else {
            throw Self.corrupt(path, "image_std", "has a number that is not above 0")
        }
    }

    private static func tower(
        _ part: JSONValue?, file: String, at place: String
    ) throws(CheckpointError) -> Tower {
        var tower = Tower()
        tower.width = try size(part, "hidden_size", file: file, at: place)
        tower.depth = try size(part, "num_hidden_layers", file: file, at: place)
        tower.headCount = try size(part, "num_attention_heads", file: file, at: place)
        tower.mlpWidth = try size(part, "intermediate_size", file: file, at: place)
        tower.activation = part?["hidden_act"]?.string
        if let epsilon = part?["layer_norm_eps"] {
            guard let number = epsilon.number, number > 0, number < 1 else {
                throw corrupt(file, "\(place).layer_norm_eps", "is no number between 0 and 1")
            }
            tower.epsilon = number
        }
        return tower
    }

    private static func size(
        _ part: JSONValue?, _ name: String, file: String, at place: String
    ) throws(CheckpointError) -> Int? {
        guard let value = part?[name] else { return nil }
        guard let size = value.integer, (1...1 << 24).contains(size) else {
            throw corrupt(file, place == name ? name : "\(place).\(name)", "is no whole number above 0")
        }
        return size
    }

    private static func corrupt(_ file: String, _ place: String?, _ reason: String) -> CheckpointError {
        CheckpointError(
            .corrupt, file: file, at: place, reason, remedy: "Fetch the model's files again, as they are published")
    }
}

extension JSONValue {
    /// The number, whole or not; nil for anything else.
    fileprivate var number: Double? {
        switch self {
        case .integer(let number): Double(number)
        case .number(let number): number
        default: nil
        }
    }
}

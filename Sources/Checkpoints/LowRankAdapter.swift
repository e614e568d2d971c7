import JSON
import Tensors

/// What a fine-tuning with low-rank adaptation learned of some layers, as Hugging Face's PEFT saves it:
/// `adapter_model.safetensors` (or `.bin`) and `adapter_config.json` beside it.
///
/// Of a layer W (outputs, inputs) there are two narrow matrices, A (r, inputs) and B (outputs, r), and the layer that was
/// fine-tuned is W + s · B A, with s = lora_alpha / r, or lora_alpha / √r where `use_rslora` says so. Layers that were
/// trained whole (`modules_to_save`, biases) are there as they are.
///
/// Hu et al., "LoRA", 2021, <https://arxiv.org/abs/2106.09685>; Kalajdzievski, "Rank-Stabilized LoRA", 2023,
/// <https://arxiv.org/abs/2312.03732>.
package struct LowRankAdapter: Sendable {
    /// What becomes of one tensor of the model.
    package enum Change: Sendable {
        /// To (outputs, inputs) `scale` · B A is added; of an embedding its transpose.
        case update(a: StoredTensor, b: StoredTensor, scale: Double, isTransposed: Bool)
        /// It is another one.
        case replacement(StoredTensor)
    }

    /// The file.
    package let path: String
    /// By the names of the tensors in the model that was fine-tuned, such as
    /// `vision_encoder.layers.0.attn.qkv.weight`.
    package let changes: [(name: String, change: Change)]

    private static let configurationName = "adapter_config.json"

    /// Reads an adapter; no numbers are read yet.
    ///
    /// - Parameter path: the file, or the folder that holds it and its `adapter_config.json`.
    /// - Throws: an error that names the file and what of it cannot be folded into weights.
    package init(path: String) throws(CheckpointError) {
        let checkpoint = try Checkpoint(path: path)
        guard let configuration = try checkpoint.configuration(named: Self.configurationName) else {
            throw CheckpointError(
                .unsupportedFormat, file: checkpoint.path,
                "has no \(Self.configurationName) beside it, which says by how much its matrices count (lora_alpha)",
                remedy: "Give the folder that PEFT's save_pretrained wrote, with both files in it")
        }
        let settings = try Settings(configuration)
        var halves: [String: (a: StoredTensor?, b: StoredTensor?, isEmbedding: Bool)] = [:]
        var replacements: [(String, Change)] = []
        for tensor in checkpoint.tensors {
            guard let part = try Part(tensor.name, file: checkpoint.path) else {
                replacements.append((Self.withoutWrappers(tensor.name), .replacement(tensor)))
                continue
            }
            var both = halves[part.layer] ?? (nil, nil, part.isEmbedding)
            if part.isFirst { both.a = tensor } else { both.b = tensor }
            halves[part.layer] = both
        }
        var updates: [(String, Change)] = []
        for (layer, halves) in halves.sorted(by: { $0.key < $1.key }) {
            updates.append(
                (
                    "\(layer).weight",
                    try Self.update(
                        of: layer, a: halves.a, b: halves.b, isEmbedding: halves.isEmbedding, settings,
                        file: checkpoint.path)
                ))
        }
        self.path = checkpoint.path
        changes = updates + replacements
        guard !changes.isEmpty else {
            throw CheckpointError(
                .unsupportedFormat, file: checkpoint.path, "holds no tensors", remedy: "Save the adapter again")
        }
    }

    /// The change that two matrices are, after their shapes were checked.
    private static func update(
        of layer: String, a: StoredTensor?, b: StoredTensor?, isEmbedding: Bool, _ settings: Settings, file: String
    ) throws(CheckpointError) -> Change {
        func error(_ code: CheckpointError.Code, _ reason: String) -> CheckpointError {
            CheckpointError(
                code, file: file, at: "layer \(CheckpointError.quoted(layer))", reason, remedy: "Save the adapter again"
            )
        }
        guard let a, let b else { throw error(.missingTensor, "has only one of its two matrices") }
        // Of convolutions A has the kernel's size and B is 1 × 1.
        let rank = a.shape.first ?? 0
        guard rank > 0, a.count > 0, b.shape.count >= 2, b.shape[1] == rank, b.count == b.shape[0] * rank, b.count > 0
        else {
            throw error(
                .misshapenTensor,
                "has the matrices \(a.shape) and \(b.shape), where (r, inputs) and (outputs, r) are expected")
        }
        return .update(a: a, b: b, scale: try settings.scale(of: layer, rank: rank), isTransposed: isEmbedding)
    }

    /// Without the modules that PEFT puts around a model and its layers.
    fileprivate static func withoutWrappers(_ name: String) -> String {
        let prefix = "base_model.model."
        return (name.hasPrefix(prefix) ? String(name.dropFirst(prefix.count)) : name)
            .replacing(".base_layer.", with: ".")
    }

    fileprivate static func unfoldable(_ file: String, _ place: String, _ reason: String) -> CheckpointError {
        CheckpointError(
            .unsupportedModel, file: file, at: CheckpointError.quoted(place),
            "\(reason), which cannot be folded in here",
            remedy: "Fold it in with PEFT, model.merge_and_unload(), save that model, and give its file")
    }
}

extension LowRankAdapter {
    /// One of the two matrices of a layer, by its name.
    fileprivate struct Part {
        let layer: String
        let isFirst: Bool
        let isEmbedding: Bool

        /// Nil for a tensor that was trained whole.
        init?(_ name: String, file: String) throws(CheckpointError) {
            let parts = withoutWrappers(name).split(separator: ".", omittingEmptySubsequences: false)
            guard let place = parts.firstIndex(where: { $0.hasPrefix("lora_") }) else { return nil }
            let rest = parts.dropFirst(place + 1)
            // The name of the adapter is left out when it is saved, and there in a state_dict.
            guard place > 0, rest.count <= 2, rest.last != "bias" else {
                throw unfoldable(file, name, "is no matrix, but a bias of one (lora_bias)")
            }
            switch parts[place] {
            case "lora_A": (isFirst, isEmbedding) = (true, false)
            case "lora_B": (isFirst, isEmbedding) = (false, false)
            case "lora_embedding_A": (isFirst, isEmbedding) = (true, true)
            case "lora_embedding_B": (isFirst, isEmbedding) = (false, true)
            case "lora_magnitude_vector": throw unfoldable(file, name, "is DoRA's (use_dora)")
            default: throw unfoldable(file, name, "is of a kind of adapter that is not known")
            }
            layer = parts[..<place].joined(separator: ".")
        }
    }

    /// What `adapter_config.json` says of the matrices.
    fileprivate struct Settings {
        private let file: String
        private let rank: Int?
        private let alpha: Double
        /// By the ends of layers' names.
        private let alphas: [(name: String, alpha: Double)]
        private let isRankStabilized: Bool

        /// Settings that change what the matrices mean, where they are true, or have something in them.
        private static let unknown = [
            "use_dora", "use_qalora", "use_bdlora", "fan_in_fan_out", "lora_bias", "layer_replication",
            "target_parameters", "trainable_token_indices", "arrow_config", "kasa_config", "monteclora_config",
            "velora_config", "alora_invocation_tokens",
        ]
        /// Ways to begin a training that change the weights of the model itself.
        private static let unknownBeginnings = ["pissa", "olora", "corda", "loftq", "lora_ga"]

        init(_ configuration: ModelConfiguration) throws(CheckpointError) {
            let (file, value) = (configuration.path, configuration.value)
            func corrupt(_ member: String, _ reason: String) -> CheckpointError {
                CheckpointError(
                    .corrupt, file: file, at: CheckpointError.quoted(member), reason,
                    remedy: "Take the adapter_config.json that was saved with the adapter")
            }
            guard let kind = value["peft_type"]?.string else { throw corrupt("peft_type", "is missing") }
            guard kind == "LORA" else {
                throw unfoldable(file, "peft_type", "is \(CheckpointError.quoted(kind)), not LORA")
            }
            for member in Self.unknown where Self.isSet(value[member]) { throw unfoldable(file, member, "is set") }
            if let beginning = value["init_lora_weights"]?.string?.lowercased(),
                Self.unknownBeginnings.contains(where: beginning.hasPrefix)
            {
                throw unfoldable(
                    file, "init_lora_weights",
                    "is \(CheckpointError.quoted(beginning)), which changed the model's own weights")
            }
            guard let alpha = value["lora_alpha"]?.double, alpha.isFinite else {
                throw corrupt("lora_alpha", "is missing or no number")
            }
            var alphas: [(String, Double)] = []
            for (name, value) in value["alpha_pattern"]?.members ?? [] {
                guard let alpha = value.double, alpha.isFinite else {
                    throw corrupt("alpha_pattern", "is of no numbers")
                }
                guard !name.contains(where: { "*+?[](){}|^$\\".contains($0) }) else {
                    throw unfoldable(file, "alpha_pattern", "has the expression \(CheckpointError.quoted(name))")
                }
                alphas.append((name, alpha))
            }
            self.file = file
            self.rank = Self.isSet(value["rank_pattern"]) ? nil : value["r"]?.integer
            self.alpha = alpha
            self.alphas = alphas
            self.isRankStabilized = Self.isSet(value["use_rslora"])
        }

        private static func isSet(_ value: JSONValue?) -> Bool {
            switch value {
            case nil, .null?, .bool(false)?: false
            case .array(let elements)?: !elements.isEmpty
            case .object(let members)?: !members.isEmpty
            default: true
            }
        }

        /// s of a layer.
        func scale(of layer: String, rank: Int) throws(CheckpointError) -> Double {
            guard self.rank == nil || self.rank == rank else {
                throw CheckpointError(
                    .corrupt, file: file, at: "‘r’",
                    "is \(self.rank ?? 0), where the matrices of \(CheckpointError.quoted(layer)) have \(rank)",
                    remedy: "Take the adapter_config.json that was saved with the adapter")
            }
            let alpha = alphas.first { layer == $0.name || layer.hasSuffix(".\($0.name)") }?.alpha ?? self.alpha
            return alpha / (isRankStabilized ? Double(rank).squareRoot() : Double(rank))
        }
    }
}

extension LowRankAdapter.Change {
    /// Numbers of what it changes.
    package var count: Int {
        switch self {
        case .update(let a, let b, _, _): b.shape[0] * (a.count / a.shape[0])
        case .replacement(let tensor): tensor.count
        }
    }

    /// Rows of what it changes: outputs of a layer, entries of an embedding.
    package var rows: Int {
        switch self {
        case .update(let a, let b, _, let isTransposed): isTransposed ? a.count / a.shape[0] : b.shape[0]
        case .replacement(let tensor): tensor.shape.first ?? 1
        }
    }

    /// Changes a run of whole rows of a tensor, ``count`` numbers; sums are of binary64.
    package func apply(to target: UnsafeMutableBufferPointer<Float>) throws(CheckpointError) {
        precondition(target.count == count, "another number of elements than the change has")
        switch self {
        case .replacement(let stored):
            try stored.tensor().withUnsafeBufferPointer { numbers in
                for index in target.indices { target[index] = numbers[index] }
            }
        case .update(let a, let b, let scale, let isTransposed):
            let (a, b, rank) = (try a.tensor(), try b.tensor(), a.shape[0])
            let (rows, columns) = (b.shape[0], a.count / rank)
            var sums = [Double](repeating: 0, count: columns)
            a.withUnsafeBufferPointer { a in
                b.withUnsafeBufferPointer { b in
                    for row in 0..<rows {
                        for column in 0..<columns { sums[column] = 0 }
                        for k in 0..<rank {
                            let factor = scale * Double(b[row * rank + k])
                            for column in 0..<columns { sums[column] += factor * Double(a[k * columns + column]) }
                        }
                        for column in 0..<columns {
                            let place = isTransposed ? column * rows + row : row * columns + column
                            target[place] = Float(Double(target[place]) + sums[column])
                        }
                    }
                }
            }
        }
    }
}

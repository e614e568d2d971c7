import Checkpoints

/// Reads a CLIP model's sizes off its tensors, and what these cannot say off its configuration.
struct CLIPGeometryReader {
    let checkpoint: Checkpoint
    let layout: CLIPLayout
    let configuration: CLIPConfiguration

    /// Tells the layout by the names of the tensors.
    init(_ checkpoint: Checkpoint, configuration: CLIPConfiguration) throws(CheckpointError) {
        self.checkpoint = checkpoint
        self.configuration = configuration
        func error(_ code: CheckpointError.Code, _ reason: String) -> CheckpointError {
            CheckpointError(
                code, file: checkpoint.path, reason,
                remedy: "Give a CLIP model with a vision transformer, in the layout of Hugging Face or OpenAI")
        }
        if checkpoint.contains("vision_model.embeddings.class_embedding") {
            layout = .huggingFace
        } else if checkpoint.contains("visual.class_embedding") {
            layout = .openAI
        } else if checkpoint.contains("visual.layer1.0.conv1.weight") {
            throw error(.unsupportedModel, "is a CLIP with a ResNet, which is not read")
        } else if checkpoint.contains("visual.trunk.patch_embed.proj.weight") {
            throw error(.unsupportedModel, "is an OpenCLIP model with an image encoder of timm, which is not read")
        } else if checkpoint.names.contains(where: { $0.hasPrefix("vision_model.") || $0.hasPrefix("visual.") }) {
            throw error(
                .unsupportedModel,
                "has an image encoder, and it is not CLIP's: the embedding of the whole picture, "
                    + "vision_model.embeddings.class_embedding, is missing")
        } else {
            let names = checkpoint.names.prefix(3).map(CheckpointError.quoted).joined(separator: ", ")
            throw error(
                .unknownLayout,
                "holds no CLIP model: \(checkpoint.tensors.count) tensors\(names.isEmpty ? "" : ", such as \(names)"), "
                    + "and neither vision_model.* nor visual.*")
        }
    }

    /// Reads all sizes.
    func geometry() throws(CheckpointError) -> CLIPGeometry {
        let words = try shape("text_model.embeddings.token_embedding.weight", axes: 2)
        let places = try shape("text_model.embeddings.position_embedding.weight", axes: 2)
        let patches = try shape("vision_model.embeddings.patch_embedding.weight", axes: 4)
        let positions = try shape("vision_model.embeddings.position_embedding.weight", axes: 2)
        let joint = try shape("text_projection.weight", axes: 2)
        let width = layout == .openAI ? joint[1] : joint[0]
        let patchSize = patches[2]
        let grid = Int(Double(max(positions[0] - 1, 0)).squareRoot().rounded())
        guard grid > 0, grid * grid + 1 == positions[0] else {
            throw misshapen(
                "vision_model.embeddings.position_embedding.weight",
                "has \(positions[0]) positions, which are no square and one")
        }
        guard patches[1] == 3, patches[3] == patchSize, patchSize > 0 else {
            throw misshapen("vision_model.embeddings.patch_embedding.weight", "has the shape \(patches)")
        }
        guard places[0] >= 2, words[0] > 0, width > 0 else {
            throw misshapen("text_model.embeddings.position_embedding.weight", "has the shape \(places)")
        }
        guard words[0] <= 1 << 24, places[0] <= 1 << 14, positions[0] <= 1 << 16 else {
            throw misshapen("text_model.embeddings.token_embedding.weight", "has a vocabulary beyond all bounds")
        }
        let text = try tower("text_model", width: words[1], configuration.text, place: "text_config")
        let image = try tower("vision_model", width: patches[0], configuration.image, place: "vision_config")
        let geometry = CLIPGeometry(
            text: text, vocabularySize: words[0], contextLength: places[0],
            endRule: configuration.endToken.flatMap { $0 == 2 ? nil : .token(Int32($0)) } ?? .largest, image: image,
            patchSize: patchSize, imageSize: grid * patchSize, width: width)
        try compare(configuration.vocabularySize, words[0], "text_config.vocab_size")
        try compare(configuration.contextLength, places[0], "text_config.max_position_embeddings")
        try compare(configuration.patchSize, patchSize, "vision_config.patch_size")
        // Positions stand for whole patches, so that sizes which these do not fill are the same model.
        try compare(configuration.imageSize.map { $0 / patchSize }, grid, "vision_config.image_size over patch_size")
        try compare(configuration.width, width, "projection_dim")
        return geometry
    }

    private func tower(
        _ name: String, width: Int, _ said: CLIPConfiguration.Tower, place: String
    ) throws(CheckpointError) -> CLIPGeometry.Tower {
        var depth = 0
        while contains("\(name).encoder.layers.\(depth).layer_norm1.weight") { depth += 1 }
        guard depth > 0 else {
            // Names what is missing.
            _ = try shape("\(name).encoder.layers.0.layer_norm1.weight", axes: 1)
            throw misshapen(name, "has no blocks")
        }
        let mlp = try shape("\(name).encoder.layers.0.mlp.fc1.weight", axes: 2)
        // OpenAI's heads have 64 numbers each, in every size.
        let heads = said.headCount ?? max(1, width / 64)
        guard width > 0, mlp[0] > 0, width % heads == 0 else {
            throw CheckpointError(
                .misshapenTensor, file: checkpoint.path, at: name,
                "has a width of \(width), which \(heads) heads do not share evenly",
                remedy: "Give the config.json that belongs to the weights")
        }
        var tower = CLIPGeometry.Tower(width: width, depth: depth, headCount: heads, mlpWidth: mlp[0])
        switch said.activation {
        case nil, "quick_gelu": break
        case "gelu": tower.usesQuickGELU = false
        case let activation?:
            throw CheckpointError(
                .unsupportedModel, file: checkpoint.path, at: "\(place).hidden_act of its config.json",
                "is \(CheckpointError.quoted(activation)), and quick_gelu and gelu are computed",
                remedy: "Give a CLIP model with one of these")
        }
        if let epsilon = said.epsilon { tower.epsilon = Float(epsilon) }
        try compare(said.width, width, "\(place).hidden_size")
        try compare(said.depth, depth, "\(place).num_hidden_layers")
        try compare(said.mlpWidth, mlp[0], "\(place).intermediate_size")
        return tower
    }

    private func compare(_ said: Int?, _ found: Int, _ what: String) throws(CheckpointError) {
        guard let said, said != found else { return }
        throw CheckpointError(
            .misshapenTensor, file: checkpoint.path,
            "is of another size than its config.json: \(what) is \(said) there, "
                + "and the tensors have \(found)", remedy: "Put weights and config.json of one model together")
    }

    /// Whether the file has a tensor, by its name in `transformers`.
    private func contains(_ name: String) -> Bool {
        checkpoint.contains(layout == .openAI ? CLIPWeights.openAIName(name) : name)
    }

    private func shape(_ name: String, axes: Int) throws(CheckpointError) -> [Int] {
        let stored = try checkpoint.stored(layout == .openAI ? CLIPWeights.openAIName(name) : name)
        guard stored.shape.count == axes else {
            throw misshapen(name, "has the shape \(stored.shape) where \(axes) axes are expected")
        }
        return stored.shape
    }

    private func misshapen(_ name: String, _ reason: String) -> CheckpointError {
        let name = layout == .openAI ? CLIPWeights.openAIName(name) : name
        return CheckpointError(
            .misshapenTensor, file: checkpoint.path, at: "tensor \(CheckpointError.quoted(name))", reason,
            remedy: "The checkpoint is of another kind or damaged: fetch or save it again")
    }
}

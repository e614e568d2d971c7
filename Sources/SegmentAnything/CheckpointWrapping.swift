import Checkpoints

/// What a training framework put around a model's names: `module.` of DataParallel, `_orig_mod.` of torch.compile, `model.`,
/// `sam.` or `net.` of the module that held the model, and any mix of these.
///
/// A model is where `image_encoder.…` (or Hugging Face's `vision_encoder.…`), `prompt_encoder.…` and `mask_decoder.…` stand
/// side by side. Whatever stands before them is taken off, and what does not begin with it, such as a loss's own weights
/// beside the model, is left out.
struct CheckpointWrapping {
    /// Modules that wrappers put in between, wherever they do it; no part of Segment Anything has such a name.
    private static let wrappers: Set<Substring> = [
        "module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module",
    ]
    private static let encoders: Set<Substring> = ["image_encoder", "vision_encoder"]
    /// SAM 2 gives the two light parts names of their own.
    private static let decoders: Set<Substring> = ["mask_decoder", "sam_mask_decoder"]
    private static let roots = encoders.union(decoders).union(["prompt_encoder", "sam_prompt_encoder"])
    /// Modules around a model.
    private static let depthLimit = 8

    /// What stands before the model's names, wrappers taken off; empty where nothing does.
    private let prefix: [Substring]

    /// Finds the one model among the names; without one nothing is taken off.
    ///
    /// - Throws: `.unknownLayout` where several models are there.
    init(_ checkpoint: Checkpoint) throws(CheckpointError) {
        var found: [[Substring]: Set<Substring>] = [:]
        for name in checkpoint.names {
            let parts = Self.unwrapped(name)
            guard let place = parts.prefix(Self.depthLimit).firstIndex(where: Self.roots.contains) else { continue }
            found[Array(parts[..<place]), default: []].insert(parts[place])
        }
        // A detector may have an image encoder of its own; a Segment Anything has a mask decoder beside it.
        let withEncoder = found.filter { !$0.value.isDisjoint(with: Self.encoders) }
        let complete = withEncoder.filter { !$0.value.isDisjoint(with: Self.decoders) }
        let models = (complete.isEmpty ? withEncoder : complete).keys.sorted { $0.lexicographicallyPrecedes($1) }
        guard models.count <= 1 else {
            let names = models.prefix(4)
                .map { CheckpointError.quoted(($0 + ["…"]).joined(separator: ".")) }.joined(separator: ", ")
            throw CheckpointError(
                .unknownLayout, file: checkpoint.path, "holds several models: \(names)",
                remedy: "Save the one that is meant alone: torch.save(model.state_dict(), path)")
        }
        prefix = models.first ?? []
    }

    /// The name inside the model; nil where it lies outside.
    func inner(_ name: String) -> String? {
        let parts = Self.unwrapped(name)
        guard parts.starts(with: prefix), parts.count > prefix.count else { return nil }
        return parts.dropFirst(prefix.count).joined(separator: ".")
    }

    /// The name without modules that wrappers put in between.
    static func withoutWrappers(_ name: String) -> String { unwrapped(name).joined(separator: ".") }

    private static func unwrapped(_ name: String) -> [Substring] {
        name.split(separator: ".", omittingEmptySubsequences: false).filter { !wrappers.contains($0) }
    }
}

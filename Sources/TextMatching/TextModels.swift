public import Checkpoints
public import Tensors

/// Models that texts are matched with, by their files.
public enum TextModels {
    /// Opens a model.
    ///
    /// - Parameters:
    ///   - path: a file of words as ``WordsMatcher`` reads it, or a CLIP model's file or folder.
    ///   - name: how people call it.
    ///   - cache: where fingerprints of files are kept between runs.
    ///   - pool: the threads that share the work of loading.
    /// - Returns: a matcher for any number of threads.
    /// - Throws: ``CheckpointError`` for a file that is neither.
    public static func open(
        path: String, name: String, cache: FingerprintCache? = nil, pool: ThreadPool
    ) throws -> any TextMatcher {
        if path.hasSuffix(".safetensors"), let checkpoint = try? Checkpoint(path: path),
            checkpoint.metadata["kirie.kind"] == "words"
        {
            return try WordsMatcher(checkpoint: checkpoint, cache: cache)
        }
        return try CLIPMatcher(try CLIPModel(path: path), name: name, cache: cache, pool: pool)
    }
}

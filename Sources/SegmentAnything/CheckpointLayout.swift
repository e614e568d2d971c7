package import Checkpoints

/// The layouts in which checkpoints of Segment Anything are published.
package enum CheckpointLayout {
    /// The same checkpoint with its tensors under the names of the published code.
    package static func published(_ checkpoint: Checkpoint) throws(CheckpointError) -> Checkpoint { checkpoint }
}

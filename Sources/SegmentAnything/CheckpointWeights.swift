package import Checkpoints
import NeuralNetworks
package import Tensors

/// A checkpoint as a source of weights under the published names.
package struct CheckpointWeights: WeightSource {
    private let checkpoint: Checkpoint

    package init(_ checkpoint: Checkpoint) { self.checkpoint = checkpoint }

    package func tensor(_ name: String, shape: [Int]) throws -> Tensor {
        try checkpoint.tensor(named: name, shape: shape)
    }

    package func release(_ name: String) { checkpoint[name]?.releasePages() }
}

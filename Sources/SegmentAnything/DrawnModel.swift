import Checkpoints
import NeuralNetworks
import Synchronization
import Tensors

/// A model of a published geometry with drawn weights, as a file: to measure a cluster of it without its checkpoint.
///
/// The work is the same, the masks mean nothing.
package enum DrawnModel {
    /// Notes what a model asks for.
    private final class NotedWeights: WeightSource {
        private let source = RandomWeights()
        /// Guards what was asked for.
        let noted = Mutex<[String: Tensor]>([:])

        func tensor(_ name: String, shape: [Int]) -> Tensor {
            let tensor = source.tensor(name, shape: shape)
            noted.withLock { $0[name] = tensor }
            return tensor
        }
    }

    /// Writes such a model under the published names.
    ///
    /// - Parameters:
    ///   - geometry: the model's.
    ///   - path: the file, which is replaced where there is one.
    /// - Throws: `CheckpointError` where it cannot be written.
    package static func write(_ geometry: SamGeometry, to path: String) throws {
        let weights = NotedWeights()
        _ = try SamModel.encoder(weights, geometry, .float32)
        _ = try SamModel.decoder(weights, geometry, .float32)
        let entries = weights.noted.withLock { noted in
            noted.map { name, tensor in SafetensorsWriter.Entry(name, tensor) }
        }
        try SafetensorsWriter.write(entries, metadata: geometry.metadata, to: path)
    }
}

import NeuralNetworks
import Tensors

/// The names and shapes of every tensor that the loaders read for a geometry, under the published names.
package struct SamTensors {
    package let shapes: [(name: String, shape: [Int])]

    /// Runs the loaders on weights that record what is asked of them.
    ///
    /// - Parameter geometry: within ``GeometryBounds``.
    package init(_ geometry: SamGeometry) {
        let weights = RecordingWeights()
        var geometry = geometry
        do {
            _ = try SamModel.encoder(weights, geometry, .float32)
            // No tensor of the decoder depends on the grid, but what is computed of the grid's positions does.
            geometry.decoder.grid = 1
            _ = try SamModel.decoder(weights, geometry, .float32)
        } catch {
            preconditionFailure("loaders fail by their source alone, and this one never does: \(error)")
        }
        shapes = weights.tensors
    }
}

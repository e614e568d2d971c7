import Synchronization
package import Tensors

/// Weights of zeros that remember what they were asked for.
///
/// A loader that is run against them tells the names and shapes of every tensor that it reads, so that these are stated where
/// they are read and nowhere else. The layers keep placeholders and pack nothing: a run costs what it takes to speak the
/// names.
package final class RecordingWeights: WeightSource {
    private struct Asked {
        var tensors: [(name: String, shape: [Int])] = []
        var names: Set<String> = []
    }

    /// Guards what was asked for.
    private let asked = Mutex(Asked())

    /// Asked for nothing yet.
    package init() {}

    /// What was asked for, each once, in the order of the first time.
    package var tensors: [(name: String, shape: [Int])] { asked.withLock { $0.tensors } }

    /// Zeros.
    package func tensor(_ name: String, shape: [Int]) -> Tensor {
        asked.withLock { asked in
            if asked.names.insert(name).inserted { asked.tensors.append((name, shape)) }
        }
        return .placeholder(shape: shape)
    }
}

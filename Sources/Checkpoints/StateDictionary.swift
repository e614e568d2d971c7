/// Finds the state_dict in what a training program saved.
///
/// A checkpoint may be the state_dict itself, or a dictionary that holds it under some name (`model`, `state_dict`,
/// `model_state_dict`, …) beside an optimizer's state, counters, losses and measures, some of which are tensors too. What is
/// looked for is the one dictionary that holds a network's weights:
///
/// 1. tensors of floating-point numbers with at least one axis: a loss or a counter is none;
/// 2. not in the state of an optimizer, a scheduler, or a callback;
/// 3. under dotted names, as modules inside modules have;
/// 4. the one with the most tensors, where no other has half as many.
///
/// Each of these only chooses among what the ones before it left, so that a lone dictionary is found whatever it holds.
enum StateDictionary {
    /// Dictionaries inside each other that are looked into.
    private static let depthLimit = 4

    private struct Candidate {
        /// The keys that lead to it.
        let path: [String]
        /// An index into ``PickleHeap/dictionaries``.
        let dictionary: Int
        var tensors = 0
        var hasWeights = false
        var hasDottedNames = false

        var name: String {
            path.isEmpty ? "the file's own top level" : CheckpointError.quoted(path.joined(separator: "."))
        }

        /// Whether it lies outside of what a training program keeps besides the network.
        var isNetwork: Bool {
            !path.contains { key in
                let key = key.lowercased()
                return ["optim", "opt_", "sched", "lr_sched", "scaler", "grad_scaler", "callback", "loop", "amp"]
                    .contains { key.hasPrefix($0) }
            }
        }
    }

    /// The names and tensors of the state_dict.
    ///
    /// - Returns: names in the order of the file, each once, with indices into ``PickleHeap/tensors``.
    static func find(
        in root: PickleValue, heap: PickleHeap, file: String
    ) throws(CheckpointError) -> [(name: String, tensor: Int)] {
        guard case .dictionary(let index) = root else {
            throw CheckpointError(
                .unsupportedFormat, file: file, "holds \(root.kind), not a state_dict",
                remedy: "Save the weights alone: torch.save(model.state_dict(), path)")
        }
        var candidates = candidates(below: index, heap: heap)
        for isGood in [\Candidate.hasWeights, \Candidate.isNetwork, \Candidate.hasDottedNames] {
            let good = candidates.filter { $0[keyPath: isGood] }
            if !good.isEmpty { candidates = good }
        }
        guard let largest = candidates.max(by: { $0.tensors < $1.tensors }) else {
            throw CheckpointError(
                .unsupportedFormat, file: file, "holds a dictionary without tensors",
                remedy: "Save the weights: torch.save(model.state_dict(), path)")
        }
        let rivals = candidates.filter { 2 * $0.tensors >= largest.tensors }
        guard rivals.count == 1 else {
            let names = rivals.prefix(4).map(\.name).joined(separator: ", ")
            throw CheckpointError(
                .unsupportedFormat, file: file, "holds several state_dicts: \(names)",
                remedy: "Save the one that is meant alone: torch.save(model.state_dict(), path)")
        }
        return namedTensors(of: largest.dictionary, heap: heap)
    }

    /// All dictionaries that hold tensors under names.
    private static func candidates(below root: Int, heap: PickleHeap) -> [Candidate] {
        var candidates: [Candidate] = []
        var level = [Candidate(path: [], dictionary: root)]
        var seen: Set<Int> = [root]
        for _ in 0..<depthLimit {
            var next: [Candidate] = []
            for var candidate in level {
                for (key, value) in heap.dictionaries[candidate.dictionary] {
                    guard case .string(let name) = key else { continue }
                    switch value {
                    case .tensor(let index):
                        let tensor = heap.tensors[index]
                        candidate.tensors += 1
                        candidate.hasDottedNames = candidate.hasDottedNames || name.contains(".")
                        candidate.hasWeights =
                            candidate.hasWeights
                            || !tensor.shape.isEmpty && heap.storages[tensor.storage].type.isFloatingPoint
                    case .dictionary(let inner):
                        if seen.insert(inner).inserted {
                            next.append(Candidate(path: candidate.path + [name], dictionary: inner))
                        }
                    default: continue
                    }
                }
                if candidate.tensors > 0 { candidates.append(candidate) }
            }
            level = next
        }
        return candidates
    }

    private static func namedTensors(of dictionary: Int, heap: PickleHeap) -> [(name: String, tensor: Int)] {
        var order: [(name: String, tensor: Int)] = []
        var places: [String: Int] = [:]
        for (key, value) in heap.dictionaries[dictionary] {
            guard case .string(let name) = key, case .tensor(let tensor) = value else { continue }
            if let place = places[name] {
                order[place].tensor = tensor
            } else {
                places[name] = order.count
                order.append((name, tensor))
            }
        }
        return order
    }
}

/// The weights of a TorchScript program: tensors that its modules hold, under the names that a state_dict has for them.
///
/// Modules are dictionaries of their members, modules inside modules. The code of the program is not read.
enum ProgramModules {
    /// Modules inside each other that are looked into, and bytes of a name.
    private static let (depthLimit, nameLimit) = (32, 1024)

    /// The names and tensors below the program's own module.
    ///
    /// - Returns: names in the order of the file, each once, with indices into ``PickleHeap/tensors``.
    static func tensors(
        below root: PickleValue, heap: PickleHeap, file: String
    ) throws(CheckpointError) -> [(name: String, tensor: Int)] {
        guard case .dictionary(let index) = root, heap.modules.contains(index) else {
            throw CheckpointError(
                .unsupportedFormat, file: file, "is a TorchScript archive that holds \(root.kind), not a module",
                remedy: "Save the weights alone: torch.save(model.state_dict(), path)")
        }
        var found: [(name: String, tensor: Int)] = []
        var names: Set<String> = []
        // A module that is there under two names is met under the first.
        var seen: Set<Int> = [index]
        var waiting: [(module: Int, prefix: String, depth: Int)] = [(index, "", 0)]
        while let (module, prefix, depth) = waiting.popLast() {
            var inner: [(module: Int, prefix: String, depth: Int)] = []
            for (key, value) in heap.dictionaries[module] {
                guard case .string(let member) = key else { continue }
                switch value {
                case .tensor(let tensor):
                    let name = prefix + member
                    guard name.utf8.count <= nameLimit else {
                        throw overLimit("has names of more than \(nameLimit) bytes", file)
                    }
                    if names.insert(name).inserted { found.append((name, tensor)) }
                case .dictionary(let next) where heap.modules.contains(next):
                    guard depth < depthLimit else { throw overLimit("has modules more than \(depthLimit) deep", file) }
                    guard prefix.utf8.count + member.utf8.count < nameLimit else {
                        throw overLimit("has names of more than \(nameLimit) bytes", file)
                    }
                    if seen.insert(next).inserted { inner.append((next, "\(prefix)\(member).", depth + 1)) }
                default: continue
                }
            }
            waiting += inner.reversed()
        }
        guard !found.isEmpty else {
            throw CheckpointError(
                .unsupportedFormat, file: file, "is a TorchScript program without weights",
                remedy: "Save the weights: torch.save(model.state_dict(), path)")
        }
        return found
    }

    private static func overLimit(_ reason: String, _ file: String) -> CheckpointError {
        CheckpointError(
            .overLimit, file: file, "the TorchScript program \(reason)",
            remedy: "Save the weights alone: torch.save(model.state_dict(), path)")
    }
}

package import Checkpoints
package import Tensors

/// Low-rank changes of a fine-tuning, each with the tensor of a model that it changes.
///
/// The model may have been fine-tuned under other names than those of the file that is at hand: Meta's or Hugging Face's,
/// behind what a training framework put before them, or as one of its parts alone. A layer of queries, keys or values that
/// stands for itself there and is a third of one matrix here changes that third.
package struct AdapterFolding: Sendable {
    /// A change of `count` rows of a tensor, from row `first` on.
    private struct Place: Sendable {
        let change: LowRankAdapter.Change
        let first: Int
        let count: Int
    }

    private let checkpoint: Checkpoint
    private let places: [String: [Place]]

    /// How many of the model's tensors are changed.
    package var count: Int { places.count }

    /// Finds the place of each change.
    ///
    /// - Parameters:
    ///   - adapter: all of it is used.
    ///   - model: whose tensors have their published names.
    /// - Throws: `.missingTensor` for a change of a layer that the model has not, or has several of; `.misshapenTensor`.
    package init(_ adapter: LowRankAdapter, into model: SamModel) throws(CheckpointError) {
        checkpoint = model.checkpoint
        let found = try AdapterNames(checkpoint.names).places(of: adapter.changes.map(\.name), file: adapter.path)
        var places: [String: [Place]] = [:]
        for ((name, change), found) in zip(adapter.changes, found) {
            let stored = try checkpoint.stored(found.name)
            let rows = stored.shape.first ?? 1
            let count = rows / found.thirds
            guard rows.isMultiple(of: found.thirds), change.rows == count, change.count * found.thirds == stored.count
            else {
                throw CheckpointError(
                    .misshapenTensor, file: adapter.path, at: "tensor \(CheckpointError.quoted(name))",
                    "changes \(change.count) numbers in \(change.rows) rows of \(CheckpointError.quoted(found.name)), whose "
                        + "shape is \(stored.shape)", remedy: "Give the model that was fine-tuned")
            }
            places[found.name, default: []].append(Place(change: change, first: found.third * count, count: count))
        }
        self.places = places
    }

    /// The tensor of that published name with what changes it; nil for one that nothing changes.
    package func entry(_ name: String, as type: ElementType) throws(CheckpointError) -> SafetensorsWriter.Entry? {
        guard let places = places[name] else { return nil }
        let stored = try checkpoint.stored(name)
        return SafetensorsWriter.Entry(name, shape: stored.shape, as: type) { () throws(CheckpointError) in
            try Self.changed(stored, by: places)
        }
    }

    private static func changed(_ stored: StoredTensor, by places: [Place]) throws(CheckpointError) -> Tensor {
        let original = try stored.tensor()
        let width = stored.count / max(1, stored.shape.first ?? 1)
        var failure: CheckpointError?
        let changed = Tensor(shape: stored.shape) { memory in
            original.withUnsafeBufferPointer { numbers in
                for index in memory.indices { memory.initializeElement(at: index, to: numbers[index]) }
            }
            for place in places {
                let rows = place.first * width..<(place.first + place.count) * width
                do throws(CheckpointError) {
                    try place.change.apply(to: UnsafeMutableBufferPointer(rebasing: memory[rows]))
                } catch {
                    failure = error
                }
            }
        }
        if let failure { throw failure }
        return changed
    }
}

/// Where tensors of a fine-tuned model stand in another file of it.
private struct AdapterNames {
    /// A published name, and which of how many equal parts of its rows.
    struct Place: Hashable {
        let name: String
        let third: Int
        let thirds: Int
    }

    private let names: Set<String>
    private let huggingFace: HuggingFaceNames

    private static let parts = ["image_encoder", "vision_encoder", "prompt_encoder", "mask_decoder"]
    private static let roots = Set(parts + ["sam_prompt_encoder", "sam_mask_decoder"])
    private static let layouts: [CheckpointLayout] = [
        .published, .huggingFace, .segmentAnything2, .huggingFaceSAM2,
    ]

    /// - Parameter names: the model's, as published.
    init(_ names: [String]) {
        self.names = Set(names)
        // Hugging Face gives the first and the last layer of a perceptron names, and counts those between.
        huggingFace = HuggingFaceNames(
            names.compactMap { name in
                let parts = name.split(separator: ".")
                guard parts.count > 3, parts[parts.count - 3] == "layers", let layer = Int(parts[parts.count - 2]),
                    layer >= 2
                else { return nil }
                return "\(parts.dropLast(2).joined(separator: ".")).\(layer - 2).\(parts[parts.count - 1])"
            })
    }

    /// The places of all names in the one layout in which they all have one: some names mean another layer in another layout.
    func places(of names: [String], file: String) throws(CheckpointError) -> [Place] {
        let found = Self.layouts.map { layout in names.map { places(of: $0, in: layout) } }
        let complete = Set(found.filter { $0.allSatisfy { $0.count == 1 } }.map { $0.compactMap(\.first) })
        if complete.count == 1, let places = complete.first { return places }
        let best = found.max { $0.count { $0.count == 1 } < $1.count { $0.count == 1 } } ?? []
        let unclear =
            best.firstIndex { $0.count != 1 } ?? zip(found[0], found[1]).enumerated().first { $1.0 != $1.1 }?.0
        throw CheckpointError(
            .missingTensor, file: file, at: "tensor \(CheckpointError.quoted(names[unclear ?? 0]))",
            complete.isEmpty && best[unclear ?? 0].isEmpty
                ? "changes a tensor that the model has not" : "may stand for several of the model's tensors",
            remedy: "Give the model that was fine-tuned")
    }

    private func places(of name: String, in layout: CheckpointLayout) -> Set<Place> {
        let inner = Self.inner(name)
        let whole = canonical(inner, in: layout).filter(names.contains)
        if !whole.isEmpty { return Set(whole.map { Place(name: $0, third: 0, thirds: 1) }) }
        let parts = inner.split(separator: ".")
        guard parts.count >= 3,
            let third = ["q", "k", "v"].firstIndex(where: { [$0, "\($0)_proj"].contains(parts[parts.count - 2]) })
        else { return [] }
        let joined = (parts.dropLast(2) + ["qkv", parts[parts.count - 1]]).joined(separator: ".")
        return Set(
            canonical(joined, in: layout).filter(names.contains).map { Place(name: $0, third: third, thirds: 3) })
    }

    /// Without what stands before the model's own parts; as it is where none of them is in it.
    private static func inner(_ name: String) -> String {
        let parts = CheckpointWrapping.withoutWrappers(name).split(separator: ".")
        let root = parts.firstIndex { roots.contains(String($0)) } ?? 0
        return parts[root...].joined(separator: ".")
    }

    /// The published names that a name of a layout may stand for, of the model or of one of its parts.
    private func canonical(_ name: String, in layout: CheckpointLayout) -> [String] {
        let isWhole = Self.roots.contains(String(name.prefix { $0 != "." }))
        return (isWhole ? [name] : [name] + Self.parts.map { "\($0).\(name)" }).compactMap { name in
            switch layout {
            case .published: name
            case .huggingFace: huggingFace.published(name)
            case .segmentAnything2: SegmentAnything2Names.canonical(name)
            case .huggingFaceSAM2: SegmentAnything2Names.fromHuggingFace(name).flatMap(huggingFace.published)
            }
        }
    }
}

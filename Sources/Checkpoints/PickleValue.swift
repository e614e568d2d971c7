/// What a pickle may speak of when it is the pickle of a state_dict.
///
/// Containers are numbers into the arrays of a ``PickleHeap``: a pickle may put a container into itself, and may nest
/// a million of them, and neither leaks memory or recurses when the heap goes away.
enum PickleValue {
    case none
    case bool(Bool)
    case integer(Int)
    case number
    case string(String)
    case bytes
    /// A tuple or a list: an index into ``PickleHeap/sequences``.
    case tuple(Int)
    case list(Int)
    /// An index into ``PickleHeap/dictionaries``.
    case dictionary(Int)
    case global(PickleGlobal)
    /// An index into ``PickleHeap/storages``.
    case storage(Int)
    /// An index into ``PickleHeap/tensors``.
    case tensor(Int)

    /// What the value is, for messages.
    var kind: String {
        switch self {
        case .none: "None"
        case .bool: "a bool"
        case .integer: "an integer"
        case .number: "a float"
        case .string: "a string"
        case .bytes: "bytes"
        case .tuple: "a tuple"
        case .list: "a list"
        case .dictionary: "a dictionary"
        case .global: "a global"
        case .storage: "a storage"
        case .tensor: "a tensor"
        }
    }
}

/// The globals that a pickled state_dict needs, and the only ones that are known here.
///
/// None of them is ever called: the machine does itself what each of them stands for.
enum PickleGlobal: Hashable {
    case orderedDictionary
    case rebuildTensor
    case rebuildParameter
    case storage(StoredElementType)

    init?(module: String, name: String) {
        switch (module, name) {
        case ("collections", "OrderedDict"): self = .orderedDictionary
        case ("torch._utils", "_rebuild_tensor_v2"), ("torch._utils", "_rebuild_tensor"): self = .rebuildTensor
        case ("torch._utils", "_rebuild_parameter"): self = .rebuildParameter
        case ("torch", _):
            guard let type = StoredElementType(torchStorage: name) else { return nil }
            self = .storage(type)
        default: return nil
        }
    }
}

/// A storage as a persistent identifier names it: a record of the archive, and how many elements it has.
struct PickledStorage {
    let type: StoredElementType
    let key: String
    let count: Int
}

/// A tensor as `torch._utils._rebuild_tensor_v2` describes it: a view of a storage.
///
/// Numbers are in elements and not yet checked.
struct PickledTensor {
    let storage: Int
    let offset: Int
    let shape: [Int]
    let strides: [Int]
}

/// The objects that a pickle made.
struct PickleHeap {
    var sequences: [[PickleValue]] = []
    var dictionaries: [[(key: PickleValue, value: PickleValue)]] = []
    var storages: [PickledStorage] = []
    var tensors: [PickledTensor] = []
}

/// What a pickle may take.
///
/// The defaults hold a state_dict of some hundred thousand tensors.
package struct PickleLimits: Sendable {
    /// Bytes of the pickle.
    package var bytes = 64 << 20
    /// Values that the stack, the memo and all containers hold together; each takes some 20 bytes.
    package var values = 8_000_000
    /// Open MARKs, which is how deep containers nest while they are being built.
    package var depth = 1000

    /// The defaults.
    package init() {}
}

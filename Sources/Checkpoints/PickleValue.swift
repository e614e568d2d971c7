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
    /// A harmless object that is no weight, and of which nothing is kept.
    case object

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
        case .object: "an object"
        }
    }
}

/// The globals that a pickled state_dict needs, and the few that training programs write beside it; others are refused.
///
/// None of them is ever called: the machine does itself what each of them stands for, and makes nothing of the rest.
enum PickleGlobal: Hashable {
    case orderedDictionary
    /// A dictionary of another name, which is made of arguments that do not matter and filled afterwards.
    case dictionary
    case rebuildTensor
    case rebuildParameter
    /// `torch._tensor._rebuild_from_type_v2(function, type, arguments, state)`: a tensor with attributes.
    case rebuildFromType
    /// `torch._utils._rebuild_device_tensor_from_cpu_tensor(tensor, …)`: a tensor that lived on a device.
    case rebuildFromProcessor
    case storage(StoredElementType)
    /// A type or a function that makes values that are no weights, such as the program's own arguments.
    case harmless
    /// A class of a TorchScript program: of its objects only the members are kept.
    case programModule

    /// The global of that name; classes of a program only where the archive is one.
    init?(module: String, name: String, isProgram: Bool = false) {
        if isProgram, module == "__torch__" || module.hasPrefix("__torch__.") {
            self = .programModule
            return
        }
        switch (module, name) {
        case ("collections", "OrderedDict"): self = .orderedDictionary
        case ("collections", "defaultdict"), ("collections", "Counter"): self = .dictionary
        case (_, "AttributeDict") where Self.lightning.contains(module): self = .dictionary
        case ("torch._utils", "_rebuild_tensor_v2"), ("torch._utils", "_rebuild_tensor"): self = .rebuildTensor
        case ("torch._utils", "_rebuild_parameter"), ("torch._utils", "_rebuild_parameter_with_state"):
            self = .rebuildParameter
        case ("torch._utils", "_rebuild_device_tensor_from_cpu_tensor"): self = .rebuildFromProcessor
        case ("torch._tensor", "_rebuild_from_type_v2"): self = .rebuildFromType
        default:
            if module == "torch", let type = StoredElementType(torchStorage: name) {
                self = .storage(type)
            } else if Self.harmlessNames[module]?.contains(name) == true {
                self = .harmless
            } else {
                return nil
            }
        }
    }

    /// Where Lightning keeps the dictionary of a module's own arguments.
    private static let lightning: Set = [
        "lightning.fabric.utilities.data", "lightning_fabric.utilities.data", "pytorch_lightning.utilities.parsing",
        "lightning.pytorch.utilities.parsing",
    ]

    /// By module, what makes values that hold no weights.
    private static let harmlessNames: [String: Set<String>] = [
        "argparse": ["Namespace"],
        "__builtin__": builtins, "builtins": builtins,
        "_codecs": ["encode"],
        "datetime": ["date", "datetime", "time", "timedelta", "timezone"],
        "numpy": ["dtype", "ndarray"],
        "numpy.core.multiarray": ["_reconstruct", "scalar"], "numpy._core.multiarray": ["_reconstruct", "scalar"],
        "pathlib": ["Path", "PosixPath", "PurePath", "PurePosixPath", "PureWindowsPath", "WindowsPath"],
        "pathlib._local": ["Path", "PosixPath", "PurePath", "PurePosixPath", "PureWindowsPath", "WindowsPath"],
        "torch": [
            "Size", "Tensor", "bfloat16", "bool", "device", "float16", "float32", "float64", "int16", "int32", "int64",
            "int8", "uint8",
        ],
        "torch.jit._pickle": [
            "build_boollist", "build_doublelist", "build_intlist", "build_tensorlist", "restore_type_tag",
        ],
        "torch.nn.parameter": ["Buffer", "Parameter"],
        "torch.serialization": ["_get_layout"],
    ]
    private static let builtins: Set = [
        "bool", "bytearray", "bytes", "complex", "float", "frozenset", "int", "list", "set", "slice", "str", "tuple",
    ]
}

extension PickleGlobal {
    /// What is known of a global that is refused: what the file holds, and what to do; nil for any other.
    static func explanation(module: String, name: String) -> (reason: String, remedy: String)? {
        switch (module, name) {
        case ("torch._utils", "_rebuild_qtensor"):
            return ("holds quantized tensors", "Save the weights as they were before: F32, F16 or BF16")
        case ("torch._utils", "_rebuild_sparse_tensor"), ("torch._utils", "_rebuild_sparse_csr_tensor"):
            return ("holds sparse tensors", "Make them dense with to_dense() and save them again")
        case ("torch._utils", "_rebuild_meta_tensor_no_storage"):
            return (
                "holds tensors of the meta device, which have no numbers",
                "Save the model after its weights are loaded"
            )
        case ("torch._utils", "_rebuild_device_tensor_from_numpy"), ("torch._utils", "_rebuild_xla_tensor"):
            return (
                "holds tensors of another device as arrays",
                "Move the model to the processor first: torch.save(model.cpu().state_dict(), path)"
            )
        case ("torch._utils", "_rebuild_tensor_v3"):
            return ("holds tensors of a type that is not read", "Save the weights as F32, F16 or BF16")
        case ("torch.distributed.tensor", _), ("torch.distributed._tensor.api", _),
            ("torch.distributed._shard.sharded_tensor.api", _):
            return (
                "holds one process's share of tensors that several processes keep together",
                "Gather the full state_dict before it is saved"
            )
        case ("torch._C", _), ("torch.jit", _):
            return ("holds a TorchScript program", "Save the weights alone: torch.save(model.state_dict(), path)")
        default:
            if module.hasPrefix("ultralytics.") {
                return (
                    "is a model of Ultralytics (YOLO, FastSAM), saved as a program",
                    "Kirie reads Segment Anything (ViT-B, ViT-L, ViT-H) and MobileSAM; kirie model list names them"
                )
            }
            if module.hasPrefix("segment_anything.") || module.hasPrefix("segment_anything_kd.")
                || module.hasPrefix("mobile_sam.")
            {
                return (
                    "is a whole model, saved as a program",
                    "If you trust the file, load it in PyTorch and save torch.save(model.state_dict(), path)"
                )
            }
            return nil
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
    /// The dictionaries that are members of a program's modules.
    var modules: Set<Int> = []
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

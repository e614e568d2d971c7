import Checkpoints
import Testing

/// What training programs save: weights under some name, beside an optimizer, counters, losses and settings.
@Suite struct TrainingCheckpointTests {
    private static let data = [UInt8](repeating: 0, count: 64)

    /// `{key: value, …}`.
    private static func dictionary(_ items: (String, [UInt8])...) -> [UInt8] {
        Pickle.emptyDictionary + items.flatMap { Pickle.text($0.0) + $0.1 + Pickle.setItem }
    }

    private static let weight = Pickle.tensor()
    private static let scalar = Pickle.tensor(count: 1, shape: [], strides: [])
    private static let weights = dictionary(
        ("encoder.weight", weight), ("encoder.bias", weight), ("decoder.weight", weight), ("steps", scalar))
    private static let none: [UInt8] = [0x4e]

    private static func names(in pickle: [UInt8]) throws -> [String] {
        let bytes = ZipBuilder.checkpoint(pickle: Pickle.program(pickle), storages: [data])
        return try Checkpoint(bytes: bytes, named: "training.pth").tensors.map(\.name)
    }

    private static let found = ["encoder.weight", "encoder.bias", "decoder.weight", "steps"]

    @Test(arguments: [
        "model", "state_dict", "model_state_dict", "model_state", "sam", "net", "module", "weights", "anything",
    ])
    func weightsAreFoundUnderAnyNameBesideTensorsThatAreNone(key: String) throws {
        #expect(try Self.names(in: Self.dictionary((key, Self.weights))) == Self.found)
        // A loss that is a tensor, a table of class weights, and the state of the random numbers.
        let pickle = Self.dictionary(
            ("epoch", Pickle.integer(7)), ("loss", Self.scalar), ("class_weights", Self.weight),
            ("rng_state", Pickle.tensor(type: "ByteStorage", count: 16, shape: [16])), (key, Self.weights))
        #expect(try Self.names(in: pickle) == Self.found)
    }

    @Test func whatCallbacksAndOptimizersKeepIsNoNetwork() throws {
        let lightning = Self.dictionary(
            ("state_dict", Self.weights),
            ("callbacks", Self.dictionary(("ModelCheckpoint", Self.dictionary(("best_model_score", Self.scalar))))),
            ("loops", Self.dictionary(("fit_loop", Self.dictionary(("state.dict", Self.weights))))))
        #expect(try Self.names(in: lightning) == Self.found)
        // An optimizer's state by parameters' names, as sharded training keeps it: as many tensors as the network has.
        let moments = Self.dictionary(
            ("encoder.weight", Self.weight), ("encoder.bias", Self.weight), ("decoder.weight", Self.weight),
            ("more.weight", Self.weight), ("most.weight", Self.weight))
        for key in ["optimizer", "optimizer_state_dict", "optim_state", "lr_scheduler", "scaler"] {
            let pickle = Self.dictionary((key, Self.dictionary(("exp_avg", moments))), ("model", Self.weights))
            #expect(try Self.names(in: pickle) == Self.found)
        }
    }

    @Test func aNetworkBesideItsMovingAverageIsAskedFor() throws {
        let error = #expect(throws: CheckpointError.self) {
            try Self.names(in: Self.dictionary(("model", Self.weights), ("model_ema", Self.weights)))
        }
        #expect(error?.code == .unsupportedFormat)
        #expect(error?.description.contains("several state_dicts: ‘model’, ‘model_ema’") == true, "\(error as Any)")
        // One at the top and one inside.
        let both = #expect(throws: CheckpointError.self) {
            try Self.names(
                in: Self.dictionary(("encoder.weight", Self.weight), ("a.b", Self.weight), ("ema", Self.weights)))
        }
        #expect(both?.description.contains("the file's own top level, ‘ema’") == true, "\(both as Any)")
    }

    @Test func aLoneDictionaryIsFoundWhateverItHolds() throws {
        #expect(try Self.names(in: Self.dictionary(("w", Self.weight))) == ["w"])
        #expect(try Self.names(in: Self.dictionary(("w", Self.scalar))) == ["w"])
        #expect(try Self.names(in: Self.dictionary(("optimizer", Self.dictionary(("w", Self.weight))))) == ["w"])
    }

    @Test func settingsBesideTheWeightsArePassedOver() throws {
        // argparse.Namespace(lr=…) as copyreg's protocol 2 writes it: a new object, then its attributes.
        let namespace =
            Pickle.global("argparse", "Namespace") + [0x29, 0x81] + Self.dictionary(("lr", Pickle.integer(1))) + [0x62]
        // numpy.float64(…): scalar(dtype('f8', …), b'…').
        let dtype = Pickle.global("numpy", "dtype") + Pickle.tuple(Pickle.text("f8"), [0x89], [0x88]) + Pickle.reduce
        let state = Pickle.tuple(Pickle.integer(3), Pickle.text("<"), Self.none, Self.none)
        let score =
            Pickle.global("numpy.core.multiarray", "scalar")
            + Pickle.tuple(dtype + state + [0x62], [0x43, 8] + [UInt8](repeating: 0, count: 8)) + Pickle.reduce
        let path =
            Pickle.global("pathlib", "PosixPath") + Pickle.tuple(Pickle.text("/"), Pickle.text("runs")) + Pickle.reduce
        let set = Pickle.global("__builtin__", "set") + Pickle.tuple([0x5d]) + Pickle.reduce
        let attributes =
            Pickle.global("pytorch_lightning.utilities.parsing", "AttributeDict") + [0x29, 0x52] + Pickle.text("lr")
            + Pickle.integer(1) + Pickle.setItem
        let counts =
            Pickle.global("collections", "defaultdict") + Pickle.tuple(Pickle.global("__builtin__", "int"))
            + Pickle.reduce
        let pickle = Self.dictionary(
            ("args", namespace), ("best_iou", score), ("folder", path), ("seen", set), ("hyper_parameters", attributes),
            ("counts", counts), ("type", Pickle.global("torch", "float32")), ("model", Self.weights))
        #expect(try Self.names(in: pickle) == Self.found)
    }

    @Test func tensorsOfOtherKindsAreRead() throws {
        let parameter =
            Pickle.global("torch._utils", "_rebuild_parameter")
            + Pickle.tuple(Self.weight, [0x88], Pickle.global("collections", "OrderedDict") + [0x29, 0x52])
            + Pickle.reduce
        // A tensor with attributes of its own: the function, the type, its arguments, the attributes.
        let call = Array(Self.weight.dropFirst(Pickle.global("torch._utils", "_rebuild_tensor_v2").count).dropLast())
        let attributed =
            Pickle.global("torch._tensor", "_rebuild_from_type_v2")
            + Pickle.tuple(
                Pickle.global("torch._utils", "_rebuild_tensor_v2"), Pickle.global("torch", "Tensor"), call,
                Self.dictionary(("tag", Pickle.integer(1))))
            + Pickle.reduce
        let fromDevice =
            Pickle.global("torch._utils", "_rebuild_device_tensor_from_cpu_tensor")
            + Pickle.tuple(Self.weight, Pickle.global("torch", "float32"), Pickle.text("xla:0"), [0x89])
            + Pickle.reduce
        let pickle = Self.dictionary(("a.b", parameter), ("c.d", attributed), ("e.f", fromDevice))
        #expect(try Self.names(in: pickle) == ["a.b", "c.d", "e.f"])
    }

    @Test func aTensorOfATypeThatMakesItselfEndsAtOnce() {
        let function = Pickle.global("torch._tensor", "_rebuild_from_type_v2")
        let pickle = Pickle.program(
            function + Pickle.tuple(function, Pickle.global("torch", "Tensor"), Pickle.tuple(function))
                + Pickle.reduce)
        let error = #expect(throws: CheckpointError.self) {
            try Checkpoint(bytes: ZipBuilder.checkpoint(pickle: pickle), named: "bad.pth")
        }
        #expect(error?.code == .corrupt)
    }

    @Test(arguments: [
        ("torch._utils", "_rebuild_qtensor", "quantized", "as they were before"),
        ("torch._utils", "_rebuild_sparse_tensor", "sparse", "to_dense()"),
        ("torch._utils", "_rebuild_meta_tensor_no_storage", "meta device", "after its weights are loaded"),
        ("torch._utils", "_rebuild_device_tensor_from_numpy", "another device", "model.cpu()"),
        ("torch.distributed.tensor", "DTensor", "share of tensors", "Gather"),
        ("ultralytics.nn.tasks", "SegmentationModel", "YOLO", "MobileSAM"),
        ("segment_anything.modeling.sam", "Sam", "whole model", "state_dict()"),
    ])
    func whatIsRefusedIsCalledWhatItIs(module: String, name: String, reason: String, remedy: String) {
        let pickle = Pickle.program(Self.dictionary(("model", Pickle.global(module, name))))
        let error = #expect(throws: CheckpointError.self) {
            try Checkpoint(bytes: ZipBuilder.checkpoint(pickle: pickle), named: "bad.pth")
        }
        #expect(error?.code == .refused)
        for text in [reason, remedy, "‘\(module).\(name)’", "nothing was run"] {
            #expect(error?.description.contains(text) == true, "\(error as Any)")
        }
    }
}

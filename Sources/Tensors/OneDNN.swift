import COneDNN
import Glibc
import Synchronization

/// A product with fixed weights by oneDNN: the weights are reordered once into the blocks that its kernels read, and
/// bias and activation are applied while a block of the answer is still in the first-level cache.
///
/// oneDNN's own threads stay out: every call runs on the calling thread, and the pool splits the rows.
/// Source: <https://oneapi-src.github.io/oneDNN/v2.6/dev_guide_matmul.html>.
///
/// `@unchecked Sendable`: `plans` is guarded by its mutex; everything else is written once, in init, and oneDNN
/// allows one primitive to be executed by several threads when each brings its own scratchpad.
final class OneDNNProduct: @unchecked Sendable {
    private struct Shape: Hashable {
        let rows: Int
        let xStride: Int
        let yStride: Int
        let accumulate: Bool
    }

    /// A plan for one shape, and arguments that no call uses now: making them anew takes longer than a small product.
    ///
    /// `@unchecked Sendable`: `idle` is touched only under the product's mutex; the rest is written once.
    private final class Primitive: @unchecked Sendable {
        let shape: Shape
        let handle: dnnl_primitive_t
        let x: dnnl_memory_desc_t
        let y: dnnl_memory_desc_t
        let scratchpad: dnnl_memory_desc_t
        let scratchpadBytes: Int
        var idle: [Arguments] = []

        init(
            shape: Shape, handle: dnnl_primitive_t, x: dnnl_memory_desc_t, y: dnnl_memory_desc_t,
            scratchpad: dnnl_memory_desc_t, scratchpadBytes: Int
        ) {
            self.shape = shape
            self.handle = handle
            self.x = x
            self.y = y
            self.scratchpad = scratchpad
            self.scratchpadBytes = scratchpadBytes
        }

        deinit { dnnl_primitive_destroy(handle) }
    }

    /// The plans made so far, and the one that was used last: nearly always the next one too.
    private struct Plans: Sendable {
        var known: [Shape: Primitive] = [:]
        var latest: Primitive?
    }

    /// The arguments of one call.
    ///
    /// `@unchecked Sendable`: one call owns them at a time.
    private final class Arguments: @unchecked Sendable {
        let x: dnnl_memory_t?
        let y: dnnl_memory_t?
        let scratchpad: dnnl_memory_t?
        private let fixed: [dnnl_memory_t?]
        let list: [dnnl_exec_arg_t]

        init(
            _ primitive: Primitive, weights: dnnl_memory_desc_t, packed: UnsafeMutableRawPointer?, bias: Tensor?,
            engine: dnnl_engine_t
        ) {
            func memory(_ description: dnnl_memory_desc_t, _ data: UnsafeMutableRawPointer?) -> dnnl_memory_t? {
                var memory: dnnl_memory_t?
                withUnsafePointer(to: description) { _ = dnnl_memory_create(&memory, $0, engine, data) }
                return memory
            }
            x = memory(primitive.x, nil)
            y = memory(primitive.y, nil)
            scratchpad = memory(primitive.scratchpad, nil)
            var list = [
                dnnl_exec_arg_t(arg: DNNL_ARG_SRC, memory: x), dnnl_exec_arg_t(arg: DNNL_ARG_DST, memory: y),
                dnnl_exec_arg_t(arg: DNNL_ARG_SCRATCHPAD, memory: scratchpad),
            ]
            var fixed = [memory(weights, packed)]
            list.append(dnnl_exec_arg_t(arg: DNNL_ARG_WEIGHTS, memory: fixed[0]))
            if let bias {
                // The product keeps the tensor, and a tensor's memory stays where it is.
                fixed.append(
                    bias.withUnsafeBufferPointer {
                        memory(
                            OneDNN.matrix(1, bias.count, stride: bias.count, .float32),
                            UnsafeMutableRawPointer(mutating: $0.baseAddress))
                    })
                list.append(dnnl_exec_arg_t(arg: DNNL_ARG_BIAS, memory: fixed[1]))
            }
            self.fixed = fixed
            self.list = list
        }

        deinit { for memory in [x, y, scratchpad] + fixed { dnnl_memory_destroy(memory) } }
    }

    /// Rows of the shape whose weight layout is used for all others as well.
    static let blockRows = 128

    private let columns: Int
    private let depth: Int
    private let activation: Activation
    private let input: OneDNN.Number
    private let output: OneDNN.Number
    private let bias: Tensor?
    private let packed: UnsafeMutableRawBufferPointer
    private let packedDescription: dnnl_memory_desc_t
    private let plans = Mutex(Plans())

    /// Packs `weight` (columns, depth); nil when oneDNN cannot run the product on this processor.
    init?(
        weight: Tensor, bias: Tensor?, activation: Activation, input: OneDNN.Number, output: OneDNN.Number
    ) {
        guard let engine = OneDNN.engine else { return nil }
        OneDNN.useOneThread()
        columns = weight.shape[0]
        depth = weight.shape[1]
        self.activation = activation
        self.input = input
        self.output = output
        self.bias = bias

        var any = dnnl_memory_desc_t()
        dnnl_memory_desc_init_by_tag(
            &any, 2, [dnnl_dim_t(depth), dnnl_dim_t(columns)], input.dataType, dnnl_format_tag_any)
        let shape = Shape(rows: Self.blockRows, xStride: depth, yStride: columns, accumulate: false)
        guard
            let description = Self.describe(
                shape, columns: columns, depth: depth, weights: any, hasBias: bias != nil, activation: activation,
                input: input, output: output, engine: engine)
        else { return nil }
        defer { dnnl_primitive_desc_destroy(description) }
        guard let chosen = dnnl_primitive_desc_query_md(description, dnnl_query_weights_md, 0)?.pointee else {
            return nil
        }
        packedDescription = chosen
        packed = withUnsafePointer(to: chosen) {
            .allocate(byteCount: max(64, dnnl_memory_desc_get_size($0)), alignment: 64)
        }
        guard reorder(weight, engine: engine) else {
            packed.deallocate()
            return nil
        }
    }

    deinit {
        packed.deallocate()
    }

    /// y (rows, columns) = activation(x (rows, depth) * weightᵀ + bias), or y += x * weightᵀ + bias.
    ///
    /// `x` and `y` hold elements of the input and output type.
    func callAsFunction(rows: Int, x: Features, y: Features, accumulate: Bool) {
        precondition(
            OneDNN.Number(x.type) == input && OneDNN.Number(y.type) == output,
            "rows of another type than the weights were packed for")
        let shape = Shape(rows: rows, xStride: x.stride, yStride: y.stride, accumulate: accumulate)
        multiply(shape, x: x.base, y: y.base)
    }

    /// y (rows, columns) = x (rows, depth) * weightᵀ, both without gaps between rows: int8 to int32.
    func callAsFunction(rows: Int, x: UnsafeMutablePointer<Int8>, y: UnsafeMutablePointer<Int32>) {
        precondition(input == .int8 && output == .int32, "int8 rows with weights of another type")
        multiply(Shape(rows: rows, xStride: depth, yStride: columns, accumulate: false), x: x, y: y)
    }

    private func multiply(_ shape: Shape, x: UnsafeMutableRawPointer, y: UnsafeMutableRawPointer) {
        guard let engine = OneDNN.engine else { return }
        OneDNN.useOneThread()
        let (primitive, idle) = plans.withLock { plans in
            let primitive = plan(shape, among: &plans, engine: engine)
            return (primitive, primitive.idle.popLast())
        }
        let arguments =
            idle
            ?? Arguments(
                primitive, weights: packedDescription, packed: packed.baseAddress, bias: bias, engine: engine)
        Scratch.withFloats(primitive.scratchpadBytes / 4 + 16) { scratchpad in
            dnnl_memory_set_data_handle(arguments.x, x)
            dnnl_memory_set_data_handle(arguments.y, y)
            dnnl_memory_set_data_handle(arguments.scratchpad, scratchpad)
            let status = dnnl_primitive_execute(
                primitive.handle, OneDNN.stream, Int32(arguments.list.count), arguments.list)
            precondition(status == dnnl_success, "oneDNN refused a product that it had planned: \(status)")
        }
        plans.withLock { _ in primitive.idle.append(arguments) }
    }

    private func plan(_ shape: Shape, among plans: inout Plans, engine: dnnl_engine_t) -> Primitive {
        if let latest = plans.latest, latest.shape == shape { return latest }
        let primitive = plans.known[shape] ?? makePrimitive(shape, engine: engine)
        plans.known[shape] = primitive
        plans.latest = primitive
        return primitive
    }

    private func makePrimitive(_ shape: Shape, engine: dnnl_engine_t) -> Primitive {
        var handle: dnnl_primitive_t?
        guard
            let description = Self.describe(
                shape, columns: columns, depth: depth, weights: packedDescription, hasBias: bias != nil,
                activation: activation, input: input, output: output, engine: engine),
            dnnl_primitive_create(&handle, description) == dnnl_success, let handle,
            let scratchpad = dnnl_primitive_desc_query_md(description, dnnl_query_scratchpad_md, 0)
        else { preconditionFailure("oneDNN has no kernel for \(shape) with the weights it packed itself") }
        defer { dnnl_primitive_desc_destroy(description) }
        return Primitive(
            shape: shape, handle: handle, x: OneDNN.matrix(shape.rows, depth, stride: shape.xStride, input),
            y: OneDNN.matrix(shape.rows, columns, stride: shape.yStride, output), scratchpad: scratchpad.pointee,
            scratchpadBytes: dnnl_memory_desc_get_size(scratchpad))
    }

    private static func describe(
        _ shape: Shape, columns: Int, depth: Int, weights: dnnl_memory_desc_t, hasBias: Bool, activation: Activation,
        input: OneDNN.Number, output: OneDNN.Number, engine: dnnl_engine_t
    ) -> dnnl_primitive_desc_t? {
        var x = OneDNN.matrix(shape.rows, depth, stride: shape.xStride, input)
        var y = OneDNN.matrix(shape.rows, columns, stride: shape.yStride, output)
        var weights = weights
        var bias = OneDNN.matrix(1, columns, stride: columns, .float32)
        var product = dnnl_matmul_desc_t()
        let status = withUnsafePointer(to: &bias) {
            dnnl_matmul_desc_init(&product, &x, &weights, hasBias ? $0 : nil, &y)
        }
        guard status == dnnl_success else { return nil }

        var attributes: dnnl_primitive_attr_t?
        var operations: dnnl_post_ops_t?
        dnnl_primitive_attr_create(&attributes)
        dnnl_post_ops_create(&operations)
        defer {
            dnnl_post_ops_destroy(operations)
            dnnl_primitive_attr_destroy(attributes)
        }
        dnnl_primitive_attr_set_scratchpad_mode(attributes, dnnl_scratchpad_mode_user)
        if shape.accumulate { dnnl_post_ops_append_sum(operations, 1) }
        switch activation {
        case .none: break
        case .gelu: dnnl_post_ops_append_eltwise(operations, 1, dnnl_eltwise_gelu_erf, 0, 0)
        case .quickGELU: dnnl_post_ops_append_eltwise(operations, 1, dnnl_eltwise_swish, 1.702, 0)
        case .relu: dnnl_post_ops_append_eltwise(operations, 1, dnnl_eltwise_relu, 0, 0)
        case .relu6: dnnl_post_ops_append_eltwise(operations, 1, dnnl_eltwise_clip, 0, 6)
        }
        dnnl_primitive_attr_set_post_ops(attributes, operations)
        var description: dnnl_primitive_desc_t?
        dnnl_primitive_desc_create(&description, &product, attributes, engine, nil)
        return description
    }

    /// Copies the weights into the layout that the kernels chose, converting them where they are narrower.
    private func reorder(_ weight: Tensor, engine: dnnl_engine_t) -> Bool {
        var plain = dnnl_memory_desc_t()
        dnnl_memory_desc_init_by_strides(
            &plain, 2, [dnnl_dim_t(depth), dnnl_dim_t(columns)], dnnl_f32, [1, dnnl_dim_t(depth)])
        var from: dnnl_memory_t?
        var to: dnnl_memory_t?
        var description: dnnl_primitive_desc_t?
        var primitive: dnnl_primitive_t?
        defer {
            dnnl_memory_destroy(from)
            dnnl_memory_destroy(to)
            dnnl_primitive_destroy(primitive)
            dnnl_primitive_desc_destroy(description)
        }
        return weight.withUnsafeBufferPointer { elements in
            withUnsafePointer(to: packedDescription) { target in
                dnnl_memory_create(&from, &plain, engine, UnsafeMutableRawPointer(mutating: elements.baseAddress))
                    == dnnl_success
                    && dnnl_memory_create(&to, target, engine, packed.baseAddress) == dnnl_success
                    && dnnl_reorder_primitive_desc_create(&description, &plain, engine, target, engine, nil)
                        == dnnl_success
                    && dnnl_primitive_create(&primitive, description) == dnnl_success
                    && dnnl_primitive_execute(
                        primitive, OneDNN.stream, 2,
                        [
                            dnnl_exec_arg_t(arg: DNNL_ARG_FROM, memory: from),
                            dnnl_exec_arg_t(arg: DNNL_ARG_TO, memory: to),
                        ]) == dnnl_success
            }
        }
    }
}

/// The engine, the stream and the descriptions of oneDNN.
enum OneDNN {
    /// The processor; nil where oneDNN does not start.
    nonisolated(unsafe) static let engine: dnnl_engine_t? = {
        let limit: dnnl_cpu_isa_t? =
            switch InstructionSet.limit {
            case .baseline: dnnl_cpu_isa_sse41
            case .avx2: dnnl_cpu_isa_avx2
            case .avx512: dnnl_cpu_isa_avx512_core
            case .bf16: dnnl_cpu_isa_avx512_core_bf16
            case .amx: nil
            }
        if let limit { dnnl_set_max_cpu_isa(limit) }
        var engine: dnnl_engine_t?
        return dnnl_engine_create(&engine, dnnl_cpu, 0) == dnnl_success ? engine : nil
    }()

    /// A stream of the processor executes on the calling thread and keeps no state, so all threads share it.
    nonisolated(unsafe) static let stream: dnnl_stream_t? = {
        guard let engine else { return nil }
        var stream: dnnl_stream_t?
        return dnnl_stream_create(&stream, engine, UInt32(dnnl_stream_default_flags.rawValue)) == dnnl_success
            ? stream : nil
    }()

    private static let setThreads: (@convention(c) (Int32) -> Void)? = {
        guard let symbol = dlsym(nil, "omp_set_num_threads") else { return nil }
        return unsafeBitCast(symbol, to: (@convention(c) (Int32) -> Void).self)
    }()

    /// Keeps oneDNN's OpenMP on the calling thread; the setting belongs to that thread.
    static func useOneThread() { setThreads?(1) }

    /// How a number of a product is written; its sums are fp32, or int32 over int8.
    enum Number: Sendable {
        case float32, bfloat16, int8, int32

        init(_ type: ElementType) {
            precondition(type != .float16, "float16 is how tensors are stored, not multiplied")
            self = type == .bfloat16 ? .bfloat16 : .float32
        }

        var dataType: dnnl_data_type_t {
            switch self {
            case .float32: dnnl_f32
            case .bfloat16: dnnl_bf16
            case .int8: dnnl_s8
            case .int32: dnnl_s32
            }
        }
    }

    /// A row-major matrix with the given stride.
    static func matrix(_ rows: Int, _ columns: Int, stride: Int, _ type: Number) -> dnnl_memory_desc_t {
        var description = dnnl_memory_desc_t()
        dnnl_memory_desc_init_by_strides(
            &description, 2, [dnnl_dim_t(rows), dnnl_dim_t(columns)], type.dataType, [dnnl_dim_t(stride), 1])
        return description
    }
}

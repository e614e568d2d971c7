/// Reads the pickle of a state_dict and runs nothing.
///
/// Python's pickle is a program for a stack machine whose REDUCE calls any function that the program names. This
/// machine knows the opcodes of ``PickleOpcode`` and the names of ``PickleGlobal`` and stops at every other, with the
/// name in the error. Stack, memo, containers and nesting are bounded by ``PickleLimits``; time is linear in the
/// pickle's length and those bounds.
struct PickleMachine {
    private let file: String
    private let limits: PickleLimits
    private let isProgram: Bool
    /// What the pickle is called in messages.
    private let record: String
    private var cursor: ByteCursor
    private var stack: [PickleValue] = []
    /// Heights of the stack at the open MARKs.
    private var marks: [Int] = []
    private var memo: [Int: PickleValue] = [:]
    private var spent = 0
    private var heap = PickleHeap()
    /// Where the opcode that is being executed lies.
    private var position = 0

    /// Runs a pickle of the file that errors are to name; `isProgram` where it is that of a TorchScript program.
    ///
    /// - Returns: the value that the pickle describes and the objects that it refers to.
    /// - Throws: ``CheckpointError`` for an opcode or a global that is not among those that are known, for a pickle
    ///   that is cut off or contradicts itself, and `.overLimit`.
    static func run(
        _ bytes: UnsafeRawBufferPointer, file: String, limits: PickleLimits = PickleLimits(), isProgram: Bool = false
    ) throws(CheckpointError) -> (root: PickleValue, heap: PickleHeap) {
        var machine = PickleMachine(
            file: file, limits: limits, isProgram: isProgram, record: "data.pkl", cursor: ByteCursor(bytes))
        guard bytes.count <= limits.bytes else {
            throw machine.overLimit("has \(bytes.count) bytes, the limit is \(limits.bytes)")
        }
        let root = try machine.run()
        return (root, machine.heap)
    }

    /// Runs the pickle that begins at `offset` of a file that holds several, and moves `offset` to its end.
    ///
    /// - Parameters:
    ///   - offset: where the pickle begins.
    ///   - bytes: the whole file.
    ///   - record: what it is called in messages.
    ///   - file: the file that errors are to name.
    ///   - limits: its length counts from its first byte.
    /// - Returns: the value that the pickle describes and the objects that it refers to.
    /// - Throws: as ``run(_:file:limits:isProgram:)``.
    static func run(
        next offset: inout Int, of bytes: UnsafeRawBufferPointer, record: String, file: String, limits: PickleLimits
    ) throws(CheckpointError) -> (root: PickleValue, heap: PickleHeap) {
        let window = UnsafeRawBufferPointer(rebasing: bytes[..<min(bytes.count, offset + limits.bytes)])
        var machine = PickleMachine(
            file: file, limits: limits, isProgram: false, record: record, cursor: ByteCursor(window, at: offset))
        let root = try machine.run()
        offset = machine.cursor.offset
        return (root, machine.heap)
    }

    private init(file: String, limits: PickleLimits, isProgram: Bool, record: String, cursor: ByteCursor) {
        self.file = file
        self.limits = limits
        self.isProgram = isProgram
        self.record = record
        self.cursor = cursor
    }

    private mutating func run() throws(CheckpointError) -> PickleValue {
        while true {
            position = cursor.offset
            guard let byte = cursor.next(UInt8.self) else { throw truncated() }
            guard let opcode = PickleOpcode(rawValue: byte) else { throw try unknown(opcode: byte) }
            if opcode == .stop {
                guard stack.count == 1, marks.isEmpty else {
                    throw corrupt("stops with \(stack.count) values on its stack")
                }
                return try pop()
            }
            try execute(opcode)
        }
    }

    private mutating func execute(_ opcode: PickleOpcode) throws(CheckpointError) {
        switch opcode {
        case .stop: break
        case .protocolVersion:
            let version = try number(UInt8.self)
            guard (2...5).contains(version) else {
                throw CheckpointError(
                    .unsupportedFormat, file: file, at: place, "is a pickle of protocol \(version); 2 to 5 are read",
                    remedy: "Save the checkpoint with a current torch.save")
            }
        case .frame:
            guard try number(UInt64.self) <= UInt64(cursor.remaining) else { throw truncated() }
        case .mark:
            guard marks.count < limits.depth else { throw overLimit("is nested more than \(limits.depth) deep") }
            marks.append(stack.count)
        case .pop: if marks.last == stack.count { marks.removeLast() } else { _ = try pop() }
        case .popMark: _ = try popToMark()
        case .duplicate: try push(try top())

        case .none: try push(.none)
        case .newTrue: try push(.bool(true))
        case .newFalse: try push(.bool(false))
        case .uint1: try push(.integer(Int(try number(UInt8.self))))
        case .uint2: try push(.integer(Int(try number(UInt16.self))))
        case .int4: try push(.integer(Int(try number(Int32.self))))
        case .long1: try push(.integer(try long()))
        case .float:
            _ = try number(UInt64.self)
            try push(.number)
        case .unicode1, .string1: try push(.string(try text(Int(try number(UInt8.self)))))
        case .unicode4, .string4: try push(.string(try text(Int(try number(UInt32.self)))))
        case .unicode8: try push(.string(try text(Int(clamping: try number(UInt64.self)))))
        case .bytes1: try skipBytes(Int(try number(UInt8.self)))
        case .bytes4: try skipBytes(Int(try number(UInt32.self)))
        case .bytes8: try skipBytes(Int(clamping: try number(UInt64.self)))

        case .emptyTuple: try push(.tuple(try sequence([])))
        case .tuple1: try makeTuple(1)
        case .tuple2: try makeTuple(2)
        case .tuple3: try makeTuple(3)
        case .tuple: try push(.tuple(try sequence(try popToMark())))
        case .emptyList: try push(.list(try sequence([])))
        case .list: try push(.list(try sequence(try popToMark())))
        case .append: try append([try pop()])
        case .appends: try append(try popToMark())
        case .emptyDictionary: try push(.dictionary(try makeDictionary()))
        case .dictionary:
            let items = try popToMark()
            try push(.dictionary(try makeDictionary()))
            try setItems(items)
        case .setItem:
            let value = try pop()
            try setItems([try pop(), value])
        case .setItems: try setItems(try popToMark())

        case .put1: try put(Int(try number(UInt8.self)))
        case .put4: try put(Int(try number(UInt32.self)))
        case .memoize: try put(memo.count)
        case .get1: try get(Int(try number(UInt8.self)))
        case .get4: try get(Int(try number(UInt32.self)))

        case .global:
            guard let module = cursor.line(limit: 256), let name = cursor.line(limit: 256) else { throw truncated() }
            try pushGlobal(String(decoding: module, as: UTF8.self), String(decoding: name, as: UTF8.self))
        case .stackGlobal:
            guard case .string(let name) = try pop(), case .string(let module) = try pop() else {
                throw corrupt("names a global with something that is not a string")
            }
            try pushGlobal(module, name)
        case .persistentID: try push(try storage(try pop()))
        case .reduce, .newObject:
            let arguments = try pop()
            try push(try reduce(try pop(), arguments))
        case .build:
            // The state of an OrderedDict is its attributes, such as a state_dict's _metadata: not weights. That of a
            // program's module is its members.
            let state = try pop()
            switch try top() {
            case .dictionary(let index) where heap.modules.contains(index):
                guard case .dictionary(let members) = state else { throw corrupt("gives a module \(state.kind)") }
                try spend(2 * heap.dictionaries[members].count)
                heap.dictionaries[index] += heap.dictionaries[members]
            case .dictionary, .object, .tensor: break
            default: throw corrupt("sets the state of \(try top().kind)")
            }
        }
    }
}

// MARK: - The stack, the memo, and their bounds

extension PickleMachine {
    private mutating func spend(_ values: Int) throws(CheckpointError) {
        spent += values
        guard spent <= limits.values else { throw overLimit("makes more than \(limits.values) values") }
    }

    private mutating func push(_ value: PickleValue) throws(CheckpointError) {
        try spend(1)
        stack.append(value)
    }

    private mutating func pop() throws(CheckpointError) -> PickleValue {
        guard stack.count > marks.last ?? 0, let value = stack.popLast() else {
            throw corrupt("takes from an empty stack")
        }
        return value
    }

    private func top() throws(CheckpointError) -> PickleValue {
        guard stack.count > marks.last ?? 0, let value = stack.last else { throw corrupt("reads an empty stack") }
        return value
    }

    private mutating func popToMark() throws(CheckpointError) -> [PickleValue] {
        guard let mark = marks.popLast() else { throw corrupt("closes a container that it did not open") }
        let values = Array(stack[mark...])
        stack.removeSubrange(mark...)
        return values
    }

    private mutating func put(_ index: Int) throws(CheckpointError) {
        try spend(1)
        memo[index] = try top()
    }

    private mutating func get(_ index: Int) throws(CheckpointError) {
        guard let value = memo[index] else { throw corrupt("refers to object \(index), which it did not make") }
        try push(value)
    }
}

// MARK: - Containers

extension PickleMachine {
    private mutating func sequence(_ values: [PickleValue]) throws(CheckpointError) -> Int {
        try spend(values.count + 1)
        heap.sequences.append(values)
        return heap.sequences.count - 1
    }

    private mutating func makeTuple(_ count: Int) throws(CheckpointError) {
        var values: [PickleValue] = []
        for _ in 0..<count { values.append(try pop()) }
        try push(.tuple(try sequence(values.reversed())))
    }

    private mutating func makeDictionary() throws(CheckpointError) -> Int {
        try spend(1)
        heap.dictionaries.append([])
        return heap.dictionaries.count - 1
    }

    private mutating func append(_ values: [PickleValue]) throws(CheckpointError) {
        guard case .list(let index) = try top() else { throw corrupt("appends to \(try top().kind)") }
        try spend(values.count)
        heap.sequences[index].append(contentsOf: values)
    }

    private mutating func setItems(_ items: [PickleValue]) throws(CheckpointError) {
        guard case .dictionary(let index) = try top() else { throw corrupt("sets an item of \(try top().kind)") }
        guard items.count.isMultiple(of: 2) else { throw corrupt("sets a key without a value") }
        try spend(items.count)
        for at in stride(from: 0, to: items.count, by: 2) {
            heap.dictionaries[index].append((items[at], items[at + 1]))
        }
    }
}

// MARK: - Numbers and text

extension PickleMachine {
    private mutating func number<Number: FixedWidthInteger & BitwiseCopyable>(
        _ type: Number.Type
    ) throws(CheckpointError) -> Number {
        guard let value = cursor.next(type) else { throw truncated() }
        return value
    }

    private mutating func text(_ count: Int) throws(CheckpointError) -> String {
        guard let bytes = cursor.take(count) else { throw truncated() }
        guard let text = String(validating: bytes, as: UTF8.self) else { throw corrupt("has text that is not UTF-8") }
        return text
    }

    private mutating func skipBytes(_ count: Int) throws(CheckpointError) {
        guard cursor.take(count) != nil else { throw truncated() }
        try push(.bytes)
    }

    /// A two's complement integer of up to 8 bytes.
    private mutating func long() throws(CheckpointError) -> Int {
        let count = Int(try number(UInt8.self))
        guard let bytes = cursor.take(count) else { throw truncated() }
        guard count <= 8 else { throw overLimit("has an integer of \(count) bytes") }
        let negative = bytes.last.map { $0 & 0x80 != 0 } ?? false
        return bytes.reversed().reduce(negative ? -1 : 0) { $0 << 8 | Int($1) }
    }
}

// MARK: - Globals and what they stand for

extension PickleMachine {
    private mutating func pushGlobal(_ module: String, _ name: String) throws(CheckpointError) {
        guard let global = PickleGlobal(module: module, name: name, isProgram: isProgram) else {
            throw refused(module: module, name: name)
        }
        try push(.global(global))
    }

    /// Does what calling the callable would do.
    private mutating func reduce(
        _ callable: PickleValue, _ arguments: PickleValue
    ) throws(CheckpointError) -> PickleValue {
        guard case .global(let global) = callable else { throw corrupt("calls \(callable.kind)") }
        guard case .tuple(let index) = arguments else { throw corrupt("calls with \(arguments.kind)") }
        return try reduce(global, heap.sequences[index])
    }

    private mutating func reduce(
        _ global: PickleGlobal, _ arguments: [PickleValue]
    ) throws(CheckpointError) -> PickleValue {
        switch global {
        case .orderedDictionary:
            let dictionary = PickleValue.dictionary(try makeDictionary())
            guard let first = arguments.first else { return dictionary }
            guard arguments.count == 1, case .list(let list) = first else {
                throw corrupt("makes an OrderedDict of \(first.kind)")
            }
            // Python 2 wrote the items as a list of pairs.
            try spend(heap.sequences[list].count * 2)
            for pair in heap.sequences[list] {
                guard case .tuple(let index) = pair, heap.sequences[index].count == 2 else {
                    throw corrupt("makes an OrderedDict of something that is not pairs")
                }
                heap.dictionaries[heap.dictionaries.count - 1]
                    .append((heap.sequences[index][0], heap.sequences[index][1]))
            }
            return dictionary
        case .rebuildTensor: return .tensor(try tensor(arguments))
        case .dictionary: return .dictionary(try makeDictionary())
        case .rebuildParameter, .rebuildFromProcessor:
            guard case .tensor(let index)? = arguments.first else { throw corrupt("makes a tensor of no tensor") }
            return .tensor(index)
        case .rebuildFromType:
            // The function is one of those above, so that this does not go on.
            guard arguments.count >= 3, case .global(let function) = arguments[0], function != .rebuildFromType,
                case .tuple(let inner) = arguments[2]
            else { throw corrupt("makes a tensor of a type by the wrong arguments") }
            return try reduce(function, heap.sequences[inner])
        case .programModule:
            let dictionary = try makeDictionary()
            heap.modules.insert(dictionary)
            return .dictionary(dictionary)
        case .harmless: return .object
        case .storage: throw corrupt("calls a storage class")
        }
    }

    /// `('storage', class, key, location, elements)`: the record of the archive that holds a storage.
    ///
    /// Before PyTorch 1.6 there was a sixth, a part of another storage that it is, which torch.save no longer wrote: None.
    private mutating func storage(_ identifier: PickleValue) throws(CheckpointError) -> PickleValue {
        guard case .tuple(let index) = identifier, (5...6).contains(heap.sequences[index].count),
            heap.sequences[index].dropFirst(5).allSatisfy({ if case .none = $0 { true } else { false } }),
            case .string("storage") = heap.sequences[index][0],
            case .global(.storage(let type)) = heap.sequences[index][1],
            case .string(let key) = heap.sequences[index][2],
            case .integer(let count) = heap.sequences[index][4], count >= 0
        else { throw corrupt("has a persistent identifier that is not that of a storage") }
        try spend(1)
        heap.storages.append(PickledStorage(type: type, key: key, count: count))
        return .storage(heap.storages.count - 1)
    }

    /// `(storage, offset, shape, strides, …)`; what follows (gradients, hooks) is of no concern here.
    private mutating func tensor(_ arguments: [PickleValue]) throws(CheckpointError) -> Int {
        guard arguments.count >= 4, case .storage(let storage) = arguments[0],
            case .integer(let offset) = arguments[1], case .tuple(let shape) = arguments[2],
            case .tuple(let strides) = arguments[3]
        else { throw corrupt("describes a tensor by the wrong arguments") }
        heap.tensors.append(
            PickledTensor(
                storage: storage, offset: offset, shape: try integers(shape), strides: try integers(strides)))
        return heap.tensors.count - 1
    }

    private mutating func integers(_ index: Int) throws(CheckpointError) -> [Int] {
        let values = heap.sequences[index]
        guard values.count <= StoredTensor.rankLimit else { throw overLimit("has a tensor of \(values.count) axes") }
        try spend(values.count + 1)
        var integers: [Int] = []
        for value in values {
            guard case .integer(let integer) = value else { throw corrupt("has \(value.kind) in a tensor's shape") }
            integers.append(integer)
        }
        return integers
    }
}

// MARK: - Errors

extension PickleMachine {
    private var place: String { "\(record), byte \(position)" }

    private func corrupt(_ reason: String) -> CheckpointError {
        CheckpointError(
            .corrupt, file: file, at: place, "the pickle \(reason)", remedy: "Fetch or save the checkpoint again")
    }

    private func truncated() -> CheckpointError {
        CheckpointError(
            .truncated, file: file, at: place, "the pickle ends in the middle",
            remedy: "Fetch or save the checkpoint again")
    }

    private func overLimit(_ reason: String) -> CheckpointError {
        CheckpointError(
            .overLimit, file: file, at: place, "the pickle \(reason)",
            remedy: "Save the weights alone: torch.save(model.state_dict(), path)")
    }

    private func refused(module: String, name: String) -> CheckpointError {
        let quoted = CheckpointError.quoted("\(module).\(name)")
        if let (reason, remedy) = PickleGlobal.explanation(module: module, name: name) {
            return CheckpointError(
                .refused, file: file, at: place, "the file \(reason): its pickle names \(quoted); nothing was run",
                remedy: remedy)
        }
        return CheckpointError(
            .refused, file: file, at: place,
            "the pickle names \(quoted), which reading weights does not need; nothing was run",
            remedy: "If you trust the file, load it in PyTorch and save torch.save(model.state_dict(), path)")
    }

    /// The error for an opcode off the list; the old ways to name a global are told by that name.
    private mutating func unknown(opcode: UInt8) throws(CheckpointError) -> CheckpointError {
        if opcode == UInt8(ascii: "i"), let module = cursor.line(limit: 256), let name = cursor.line(limit: 256) {
            return refused(
                module: String(decoding: module, as: UTF8.self), name: String(decoding: name, as: UTF8.self))
        }
        return CheckpointError(
            .refused, file: file, at: place,
            "the pickle has the opcode 0x\(String(opcode, radix: 16)), which a state_dict does not need",
            remedy: "Save the weights alone: torch.save(model.state_dict(), path)")
    }
}

import JSON

/// The header of a `.safetensors` file (https://huggingface.co/docs/safetensors).
///
/// ```text
/// 0        8                    8 + N                            end
/// | N, u64 | JSON, N bytes      | data: the tensors, gap-free    |
/// ```
///
/// The JSON is one object: a tensor's name to `{"dtype", "shape", "data_offsets": [begin, end]}` with offsets from
/// the start of the data, and `__metadata__` to an object of strings. As in the reference implementation the ranges
/// must cover the data without overlap or hole, so that a file can hide nothing and no two tensors share bytes.
package enum SafetensorsHeader {
    /// Bytes that a header may have: one of ten thousand tensors has one or two million.
    static let byteLimit = 64 << 20

    /// Whether a file begins as safetensors do: a length, then an object.
    static func isPlausible(_ bytes: UnsafeRawBufferPointer) -> Bool {
        bytes.count > 8 && bytes[8] == UInt8(ascii: "{")
    }

    /// Reads the header and checks every claim in it against the file's size.
    ///
    /// - Returns: the tensors in the order of their data, and the metadata.
    package static func read(
        _ file: CheckpointFile
    ) throws(CheckpointError) -> (tensors: [StoredTensor], metadata: [String: String]) {
        func error(_ code: CheckpointError.Code, at place: String, _ reason: String) -> CheckpointError {
            CheckpointError(code, file: file.path, at: place, reason, remedy: "Fetch or write the file again")
        }
        var cursor = ByteCursor(file.bytes)
        guard let claimed = cursor.next(UInt64.self) else {
            throw error(.truncated, at: "byte 0", "the file is shorter than the 8 bytes of its header's length")
        }
        guard claimed <= UInt64(byteLimit) else {
            throw error(.overLimit, at: "byte 0", "the header claims \(claimed) bytes, the limit is \(byteLimit)")
        }
        guard let text = cursor.take(Int(claimed)) else {
            throw error(
                .truncated, at: "byte 0",
                "the header claims \(claimed) bytes and the file has \(cursor.remaining) after its length")
        }
        let document: JSONValue
        do throws(JSONValue.Fault) {
            document = try JSONValue(text)
        } catch {
            throw CheckpointError(
                .corrupt, file: file.path, at: "byte \(8 + error.offset)", "the header's JSON \(error.reason)",
                remedy: "Fetch or write the file again")
        }
        guard let members = document.members else {
            throw error(.corrupt, at: "byte 8", "the header is not a JSON object")
        }

        let data = cursor.offset..<file.bytes.count
        var metadata: [String: String] = [:]
        var tensors: [StoredTensor] = []
        tensors.reserveCapacity(members.count)
        for (name, value) in members {
            if name == "__metadata__" {
                guard let pairs = value.members else {
                    throw error(.corrupt, at: "__metadata__", "is not an object of strings")
                }
                for (key, value) in pairs {
                    guard let text = value.string else {
                        throw error(.corrupt, at: "__metadata__", "\(CheckpointError.quoted(key)) is not a string")
                    }
                    metadata[key] = text
                }
            } else {
                tensors.append(try tensor(named: name, described: value, data: data, file: file))
            }
        }
        tensors.sort { ($0.range.lowerBound, $0.range.upperBound) < ($1.range.lowerBound, $1.range.upperBound) }
        var end = data.lowerBound
        for tensor in tensors {
            guard tensor.range.lowerBound == end else {
                throw error(
                    .corrupt, at: "tensor \(CheckpointError.quoted(tensor.name))",
                    tensor.range.lowerBound < end
                        ? "overlaps the tensor before it" : "leaves a hole of unnamed bytes before it")
            }
            end = tensor.range.upperBound
        }
        guard end == data.upperBound else {
            throw error(.corrupt, at: "byte \(end)", "\(data.upperBound - end) bytes follow the last tensor")
        }
        return (tensors, metadata)
    }

    private static func tensor(
        named name: String, described value: JSONValue, data: Range<Int>, file: CheckpointFile
    ) throws(CheckpointError) -> StoredTensor {
        func error(_ code: CheckpointError.Code, _ reason: String) -> CheckpointError {
            CheckpointError(
                code, file: file.path, at: "tensor \(CheckpointError.quoted(name))", reason,
                remedy: code == .elementType ? "Write it as F32, F16 or BF16" : "Fetch or write the file again")
        }
        guard let dtype = value["dtype"]?.string else { throw error(.corrupt, "lacks its dtype") }
        guard let type = StoredElementType(rawValue: dtype) else {
            throw error(.elementType, "has the unknown dtype \(CheckpointError.quoted(dtype))")
        }
        guard let extents = value["shape"]?.elements, extents.count <= StoredTensor.rankLimit else {
            throw error(.corrupt, "lacks its shape, or has more than \(StoredTensor.rankLimit) axes")
        }
        let shape = extents.compactMap(\.integer)
        guard shape.count == extents.count else { throw error(.corrupt, "has a shape that is not of integers") }
        guard let offsets = value["data_offsets"]?.elements, offsets.count == 2,
            let begin = offsets[0].integer, let end = offsets[1].integer, 0 <= begin, begin <= end
        else { throw error(.corrupt, "lacks its data_offsets, two integers in order") }
        guard end <= data.count else {
            throw error(.truncated, "ends at byte \(end) of the data, which has \(data.count)")
        }
        let region = data.lowerBound + begin..<data.lowerBound + end
        let tensor = try StoredTensor(name: name, shape: shape, type: type, in: region, of: file)
        guard tensor.byteCount == end - begin else {
            throw error(
                .corrupt, "takes \(end - begin) bytes, and its shape \(shape) of \(dtype) \(tensor.byteCount)")
        }
        return tensor
    }
}

public import Platform

/// Why bytes are no embedding record, or numbers cannot be one.
public enum EmbeddingRecordError: Error, Sendable, Hashable {
    /// Fewer bytes than a header has.
    case truncatedHeader(bytes: Int, needed: Int)
    /// The first four bytes are not `KEMB`.
    case notARecord
    /// A version that this program does not read.
    case unknownVersion(Int)
    /// An element type that this program does not read.
    case unknownElementType(Int)
    /// A field outside its range.
    case invalidField(String, offset: Int, value: Int)
    /// What should name a feature map does not, or names another one too.
    case invalidName(offset: Int)
    /// Header and length contradict each other.
    case wrongLength(expected: Int, found: Int)
    /// The header was changed after it was written.
    case headerChecksum
    /// The payload was changed after it was written.
    case payloadChecksum
    /// A number that is infinite or none.
    case notFinite
    /// The embedding is of another image or by another model than its key says.
    case otherKey
}

extension EmbeddingRecordError: ReportableError {
    /// What is wrong, and what to do.
    public var report: ErrorReport {
        let what =
            switch self {
            case .truncatedHeader(let bytes, let needed): "has \(bytes) bytes, fewer than a header's \(needed)"
            case .notARecord: "does not begin with \"KEMB\""
            case .unknownVersion(let version):
                "has version \(version), and this program reads 1 and 2"
            case .unknownElementType(let type):
                "has element type \(type), which is none of 1 (fp16), 2 (fp32), 3 (int8)"
            case .invalidField(let name, let offset, let value): "says \(name) \(value) at byte \(offset)"
            case .invalidName(let offset): "has at byte \(offset) no name of a feature map, or one twice"
            case .wrongLength(let expected, let found): "has \(found) bytes where its header says \(expected)"
            case .headerChecksum: "has a header that was damaged"
            case .payloadChecksum: "has a payload that was damaged"
            case .notFinite: "has a number that is infinite or not a number"
            case .otherKey: "belongs to another image or model"
            }
        let remedy =
            if case .unknownVersion = self {
                "use a program as new as the one that wrote it, or encode the picture again with this one"
            } else {
                "encode the picture again"
            }
        return ErrorReport(.input, "embedding-record", "the embedding record \(what)", remedy: remedy)
    }

    /// The report in one line.
    public var description: String { report.text }
}

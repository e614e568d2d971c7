public import Platform

/// Why a file of weights could not be read, written or fetched: which file, where in it, why, and what to do.
///
/// Names that come from a file are shortened and stripped of control characters before they are quoted; no content
/// of a tensor is ever quoted.
public struct CheckpointError: ReportableError, Hashable, Sendable {
    /// The kind of failure, to match on; more may be added.
    public struct Code: Hashable, Sendable, CustomStringConvertible {
        /// The code's name, as it is printed.
        public let description: String

        private init(_ description: String) { self.description = description }

        /// The file cannot be opened or read.
        public static let unreadable = Code("unreadable")
        /// The content is of no format that is known here, or of one that is known and not supported.
        public static let unsupportedFormat = Code("unsupported format")
        /// The file ends before its content does.
        public static let truncated = Code("truncated")
        /// The content contradicts itself or its format.
        public static let corrupt = Code("corrupt")
        /// A pickle asks for code or objects that reading weights does not need; nothing was run.
        public static let refused = Code("refused")
        /// The content claims more than the stated limits.
        public static let overLimit = Code("over the limit")
        /// No tensor has the name that was asked for.
        public static let missingTensor = Code("missing tensor")
        /// A tensor that the model has no place for.
        public static let extraTensor = Code("extra tensor")
        /// A tensor has another shape than the one that was asked for.
        public static let misshapenTensor = Code("misshapen tensor")
        /// The numbers of a tensor are of a type that cannot be used as weights, or do not fit the asked-for type.
        public static let elementType = Code("element type")
        /// The tensors are those of no known model.
        public static let unknownLayout = Code("unknown layout")
        /// The tensors are those of a known model that is not read.
        public static let unsupportedModel = Code("unsupported model")
        /// The file does not say on pictures of what size its model works, or they cannot be of the size that was asked for.
        public static let imageSize = Code("image size")
        /// No model of that name is listed.
        public static let unknownModel = Code("unknown model")
        /// The output cannot be written.
        public static let unwritable = Code("unwritable")
        /// A download failed; what has arrived is kept and the next attempt goes on from there.
        public static let download = Code("download")
        /// A downloaded file is not the published one; nothing of it was kept.
        public static let hashMismatch = Code("hash mismatch")
    }

    /// The kind of failure.
    public var code: Code
    /// The file's path as it was given, or the address of a download.
    public var file: String
    /// The place in the file: a tensor's name, a record of the archive, or a byte offset.
    public var place: String?
    /// What is wrong.
    public var reason: String
    /// What the user can do about it.
    public var remedy: String

    /// Makes an error; see the properties.
    public init(_ code: Code, file: String, at place: String? = nil, _ reason: String, remedy: String) {
        self.code = code
        self.file = file
        self.place = place
        self.reason = reason
        self.remedy = remedy
    }

    /// A download may succeed later, an output elsewhere; whatever else is the file's fault.
    public var report: ErrorReport {
        let errorClass: ErrorClass =
            switch code {
            case .download: .comeBackLater
            case .unknownModel: .notFound
            case .unwritable: .ours
            default: .input
            }
        return ErrorReport(
            errorClass, code.description.replacing(" ", with: "-"),
            at: place.map { "\(file): \($0)" } ?? file, reason, remedy: remedy)
    }

    /// One line: file, place, reason, remedy.
    public var description: String {
        "\(file): \(place.map { "\($0): " } ?? "")\(reason). \(remedy)."
    }
}

extension CheckpointError {
    /// A name out of a file, fit to be printed: no control characters, and no longer than 120 characters.
    package static func quoted(_ name: String) -> String {
        Quotation.of(name)
    }

    /// What the C library says about an error number.
    static func text(of errorNumber: Int32) -> String {
        FileFault.text(of: errorNumber)
    }
}

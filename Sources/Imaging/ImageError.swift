public import Platform

/// Why a picture could not be read or written: what happened, where, why, and what to do about it.
public struct ImageError: ReportableError, Sendable, Hashable {
    /// The kind of fault, to be matched on; new kinds may be added.
    public struct Code: Sendable, Hashable, CustomStringConvertible {
        /// The kind as one word.
        public let description: String

        private init(_ description: String) { self.description = description }

        /// The file cannot be opened or read: it is missing, a directory, or not ours to read.
        public static let unreadable = Code("unreadable")
        /// There are no bytes at all.
        public static let empty = Code("empty")
        /// None of the formats that are read, a variant of one that is not decoded, or one whose library is not there.
        public static let unsupported = Code("unsupported")
        /// The bytes end before the picture does.
        public static let truncated = Code("truncated")
        /// The bytes contradict their format.
        public static let corrupt = Code("corrupt")
        /// The picture claims more pixels, or the file more bytes, than the limit allows.
        public static let tooLarge = Code("too-large")
        /// The output cannot be written; nothing was left behind.
        public static let unwritable = Code("unwritable")
    }

    /// The kind of fault.
    public let code: Code
    /// The path of the file, or the name the caller gave to bytes in memory.
    public let source: String
    /// Where in the source, such as `IDAT chunk at byte 41`; nil where the source as a whole is at fault.
    public let place: String?
    /// What was found and why it cannot be used.
    public let reason: String
    /// What to do about it.
    public let remedy: String

    init(_ code: Code, in source: String, at place: String? = nil, _ reason: String, remedy: String) {
        self.code = code
        self.source = source
        self.place = place
        self.reason = reason
        self.remedy = remedy
    }
}

extension ImageError {
    /// An output may be written elsewhere; whatever else is the picture's fault.
    public var report: ErrorReport {
        ErrorReport(
            code == .unwritable ? .ours : .input, "\(code)-picture", at: place.map { "\(source), \($0)" } ?? source,
            reason,
            remedy: remedy)
    }

    /// One line for people.
    ///
    /// ```text
    /// photo.png, IDAT chunk at byte 41: the chunk holds 812 bytes, and the file ends after 500. The picture was cut
    /// short: copy it again.
    /// ```
    public var description: String {
        "\(source)\(place.map { ", \($0)" } ?? ""): \(reason). \(remedy)."
    }
}

extension ImageError {
    static func truncated(in source: String, at place: String?, _ reason: String) -> ImageError {
        ImageError(.truncated, in: source, at: place, reason, remedy: "The picture was cut short: copy it again")
    }

    static func corrupt(in source: String, at place: String?, _ reason: String) -> ImageError {
        ImageError(
            .corrupt, in: source, at: place, reason,
            remedy: "The picture is damaged: copy it again, or open it in an image program and save it anew")
    }

    static func unsupported(in source: String, at place: String?, _ reason: String) -> ImageError {
        ImageError(
            .unsupported, in: source, at: place, reason,
            remedy:
                "Supported are PNG, baseline or progressive 8-bit JPEG, WebP and TIFF: convert the picture to one of them"
        )
    }
}

/// Something about a picture that its user should hear of, though it was read.
public struct ImageNote: Sendable, Hashable, CustomStringConvertible {
    /// The kind, to be matched on; new kinds may be added.
    public struct Code: Sendable, Hashable, CustomStringConvertible {
        /// The kind as one word.
        public let description: String

        private init(_ description: String) { self.description = description }

        /// Bytes that belong to nothing stood among the picture's and were left out.
        public static let strayBytes = Code("strayBytes")
        /// The file ends before its end mark, after the last pixel.
        public static let missingEnd = Code("missingEnd")
        /// A field of the metadata has a value that its format does not know; no pixel depends on it.
        public static let oddMetadata = Code("oddMetadata")
        /// 16-bit samples that leave the upper bits empty were made brighter.
        public static let emptyUpperBits = Code("emptyUpperBits")
        /// The file holds more pictures, pages or frames; the first was read.
        public static let firstOfSeveral = Code("firstOfSeveral")
        /// Nothing is inside a mask.
        public static let emptyMask = Code("emptyMask")
        /// Nothing is outside a mask.
        public static let wholeMask = Code("wholeMask")
    }

    /// The kind.
    public let code: Code
    /// What was found and what was done, a clause.
    public let description: String

    init(_ code: Code, _ description: String) {
        self.code = code
        self.description = description
    }
}

/// A picture and what is to be said about its file.
public struct DecodedImage: Sendable, Hashable {
    /// The pixels.
    public let image: Image
    /// Empty for a picture that is as it should be.
    public let notes: [ImageNote]
}

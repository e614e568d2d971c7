/// Features of one picture at one stride, under the name that the field has for them.
///
/// Segment Anything has one, `image_embedding`; SAM 2.1 has three at strides of 4, 8 and 16, SAM-HQ early features beside the
/// last ones.
public struct FeatureMap: Sendable {
    /// Which axis runs fastest.
    public enum Layout: UInt8, Sendable, Hashable, CaseIterable {
        /// (1, channels, height, width).
        case channelsFirst = 1
        /// (1, height, width, channels).
        case channelsLast = 2
    }

    /// What Segment Anything's one map is called, in files too.
    public static let imageEmbedding = "image_embedding"
    /// Bytes of a name at most.
    public static let longestName = 32

    /// 1 to 32 of `a-z 0-9 _ .`, unique in a set.
    public let name: String
    /// What the axes of ``tensor`` are.
    public let layout: Layout
    /// The numbers.
    public let tensor: Tensor

    /// Names features.
    ///
    /// - Precondition: the name and the shape are as said.
    public init(_ name: String, _ tensor: Tensor, layout: Layout = .channelsFirst) {
        precondition(Self.isName(name), "\(name) cannot name features")
        precondition(tensor.shape.count == 4 && tensor.shape[0] == 1, "features of one picture, not \(tensor.shape)")
        self.name = name
        self.layout = layout
        self.tensor = tensor
    }

    /// Channels.
    public var channels: Int { tensor.shape[layout == .channelsFirst ? 1 : 3] }
    /// Rows.
    public var height: Int { tensor.shape[layout == .channelsFirst ? 2 : 1] }
    /// Columns.
    public var width: Int { tensor.shape[layout == .channelsFirst ? 3 : 2] }

    /// Whether that may name features.
    public static func isName(_ text: some StringProtocol) -> Bool {
        (1...longestName).contains(text.utf8.count)
            && text.utf8.allSatisfy { unit in
                switch unit {
                case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "0")...UInt8(ascii: "9"),
                    UInt8(ascii: "_"), UInt8(ascii: "."):
                    true
                default: false
                }
            }
    }
}

public import Segmentation

/// A share of the images; everything about an image lives in one partition, under one hash tag.
public struct Partition: Sendable, Hashable, Comparable {
    /// From 0 to one less than the number of partitions.
    public let index: Int

    /// A partition by number.
    ///
    /// - Precondition: `index` is not negative.
    public init(_ index: Int) {
        precondition(index >= 0, "partitions are numbered from 0, not \(index)")
        self.index = index
    }

    /// The partition of an image among `count` of them.
    ///
    /// - Precondition: `count` is positive.
    public init(of image: ImageDigest, among count: Int) { self.init(image.partition(among: count)) }

    /// By number.
    public static func < (left: Partition, right: Partition) -> Bool { left.index < right.index }
}

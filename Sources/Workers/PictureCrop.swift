import Hashing
import Redis
import Segmentation

/// A part of a picture that is encoded for itself, as the cluster has it: an image whose stored value says of which
/// picture, and where.
///
/// ```text
/// image:<digest>    crop:<picture's sha256>:<x0>,<y0>,<x1>,<y1>
/// ```
struct PictureCrop: Sendable, Hashable {
    let picture: ImageDigest
    let box: PixelBox

    init(of picture: ImageDigest, _ box: PixelBox) {
        self.picture = picture
        self.box = box
    }

    /// Reads a stored value; nil for one that is a picture's file, or a reference to one.
    init?(_ stored: RedisBytes) {
        guard stored.count < 256, stored.withUnsafeBytes({ $0.starts(with: Self.mark.utf8) }) else { return nil }
        let fields = stored.string.dropFirst(Self.mark.count).split(separator: ":")
        guard fields.count == 2, let picture = ImageDigest(fields[0]) else { return nil }
        let edges = fields[1].split(separator: ",").compactMap { Int($0) }
        guard edges.count == 4, edges[0] >= 0, edges[1] >= 0, edges[0] < edges[2], edges[1] < edges[3] else {
            return nil
        }
        self.init(of: picture, PixelBox(x0: edges[0], y0: edges[1], x1: edges[2], y1: edges[3]))
    }

    private static let mark = "crop:"

    /// What is stored under ``digest(partitions:)``.
    var stored: RedisBytes { RedisBytes(Array(text.utf8)) }

    private var text: String { "\(Self.mark)\(picture):\(box.x0),\(box.y0),\(box.x1),\(box.y1)" }

    /// The name of the crop: a hash of what it is, in the picture's own partition.
    func digest(partitions: Int) -> ImageDigest {
        let place = picture.partition(among: partitions)
        for attempt in 0... {
            let digest = ImageDigest(bytes: SHA256.hash(Array("\(text):\(attempt)".utf8)).bytes)
            if digest.partition(among: partitions) == place { return digest }
        }
        return picture
    }
}

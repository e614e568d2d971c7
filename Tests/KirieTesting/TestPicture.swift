import ClusterTesting
import Foundation
import Hashing
package import Imaging
package import Segmentation

/// A picture that a test drew: as a file, as its digest, and as its pixels.
package struct TestPicture: Sendable {
    package let path: String
    package let bytes: [UInt8]
    package let digest: ImageDigest
    package let image: Image

    /// Draws a gradient with rectangles on it; other numbers draw other pictures.
    package init(_ number: Int, seed: UInt64 = 1, width: Int? = nil, height: Int? = nil, in folder: String) throws {
        var random = SeededGenerator(seed &* 1000 &+ UInt64(number))
        let width = width ?? Int.random(in: 24...64, using: &random)
        let height = height ?? Int.random(in: 24...64, using: &random)
        var pixels = [UInt8](repeating: 0, count: width * height * 3)
        let slopes = (0..<3).map { _ in Int.random(in: 1...9, using: &random) }
        for y in 0..<height {
            for x in 0..<width {
                for channel in 0..<3 {
                    pixels[(y * width + x) * 3 + channel] = UInt8((x * slopes[channel] + y * 3) % 256)
                }
            }
        }
        for _ in 0..<6 {
            let (left, top) = (Int.random(in: 0..<width, using: &random), Int.random(in: 0..<height, using: &random))
            let (right, bottom) = (min(width, left + width / 3), min(height, top + height / 3))
            let color = (0..<3).map { _ in UInt8.random(in: 0...255, using: &random) }
            for y in top..<bottom {
                for x in left..<right {
                    for channel in 0..<3 { pixels[(y * width + x) * 3 + channel] = color[channel] }
                }
            }
        }
        image = Image(width: width, height: height, pixels: pixels)
        bytes = try PNGWriter.encode(image)
        digest = ImageDigest(bytes: SHA256.hash(bytes).bytes)
        path = "\(folder)/picture-\(seed)-\(number).png"
        try Data(bytes).write(to: URL(fileURLWithPath: path))
    }

    /// Several different pictures; each of `large` of them, the first among them, is larger, so that its encode takes
    /// longer.
    package static func draw(
        _ count: Int, seed: UInt64 = 1, large: Int? = nil, in folder: String
    ) throws -> [TestPicture] {
        try (0..<count).map { number in
            let isLarge = large.map { number % $0 == 0 } ?? false
            return try TestPicture(
                number, seed: seed, width: isLarge ? 700 : nil, height: isLarge ? 500 : nil, in: folder)
        }
    }

    /// A job line with one point a prompt.
    package func line(_ id: String, points: [(x: Int, y: Int)], _ more: String = "") -> String {
        let prompts = points.map { "{\"points\":[[\($0.x),\($0.y)]],\"labels\":[1]}" }.joined(separator: ",")
        return "{\"id\":\"\(id)\",\"image\":\"\(path)\",\"prompts\":[\(prompts)]\(more)}"
    }

    /// A job line of so many prompts, which takes its time.
    package func longLine(_ id: String, prompts count: Int, _ more: String = "") -> String {
        line(id, points: (0..<count).map { ($0 % image.width, $0 / image.width % image.height) }, more)
    }
}

import Checkpoints
import Cluster
import FoundationEssentials
import Imaging
import Redis
import Segmentation
import Workers

/// How the files of a job's masks are called.
struct MaskName: Sendable {
    /// What stands before the number.
    let prefix: String
    /// The number of the job's first mask.
    let first: Int

    /// `truck` for `photos/truck.jpg`; the head of the digest for a picture without a file.
    static func stem(of image: JobLine.Source, digest: ImageDigest) -> String {
        guard case .path(let path) = image else { return String(digest.hexadecimal.prefix(12)) }
        let name = path.split(separator: "/").last.map(String.init) ?? "image"
        guard let dot = name.lastIndex(of: "."), dot > name.startIndex else { return name }
        return String(name[..<dot])
    }
}

/// Writes the masks of answers as PNG files into a folder, 255 on the object; each file is there whole or not at all.
actor MaskFiles {
    private let thread = BlockingExecutor()
    nonisolated var unownedExecutor: UnownedSerialExecutor { thread.asUnownedSerialExecutor() }
    private let folder: String

    /// Makes the folder where it is missing.
    init(folder: String) throws {
        self.folder = folder
        try OutputFile.makeDirectory(folder)
    }

    /// Writes the masks of a job; returns the files in the order of the masks.
    func write(_ result: RedisBytes, as name: MaskName) throws -> [String] {
        let answer: Answer
        do { answer = try JSONDecoder().decode(Answer.self, from: Data(result.array)) } catch {
            throw MaskFileError(reason: "the answer holds no masks that can be written as files")
        }
        var files: [String] = []
        for (index, cutout) in answer.masks.enumerated() {
            let path = "\(folder)/\(name.prefix)-\(name.first + index).png"
            try FileOutput.write(try Self.picture(cutout, path), to: path)
            files.append(path)
        }
        return files
    }

    private static func picture(_ cutout: Answer.Cutout, _ path: String) throws -> [UInt8] {
        if let png = cutout.png, let data = Data(base64Encoded: png) { return Array(data) }
        guard let run = cutout.segmentation, run.size.count == 2 else {
            throw MaskFileError(reason: "outlines are not written as PNG files: ask for --output rle or png")
        }
        let (pixels, overflow) = run.size[0].multipliedReportingOverflow(by: run.size[1])
        guard !overflow, pixels <= PixelLimit.standard.pixels else {
            throw MaskFileError(reason: "a mask of \(run.size[1]) x \(run.size[0]) pixels is larger than any picture")
        }
        let encoding = try RunLengthEncoding(compressed: run.counts, height: run.size[0], width: run.size[1])
        let mask = encoding.mask
        return try PNGWriter.encode(
            mask: GrayImage(width: mask.width, height: mask.height, pixels: mask.pixels), named: path)
    }
}

/// An answer that makes no files.
struct MaskFileError: Error, CustomStringConvertible {
    let reason: String
    var description: String { reason }
}

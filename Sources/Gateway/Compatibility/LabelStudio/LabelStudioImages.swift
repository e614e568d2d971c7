import Cluster
import Foundation
import Glibc
import HTTPTypes
import JSON
import NIOCore
import Platform
import Segmentation

/// Where Label Studio keeps the pictures that its tasks name by path.
package struct LabelStudioFolders: Sendable {
    /// Its media folder: what was uploaded to it, `/data/upload/1/a.jpg`, lies in `upload/1/a.jpg` of it; nil for none.
    package var media: String?
    /// The folder that it serves local files from (`LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT`), which `/data/local-files/?d=a.jpg`
    /// speaks of; nil for none.
    package var localFiles: String?

    /// Folders.
    package init(media: String? = nil, localFiles: String? = nil) {
        self.media = media
        self.localFiles = localFiles
    }
}

/// The pictures of tasks.
struct LabelStudioImages: Sendable {
    let desk: ClientDesk
    let folders: LabelStudioFolders

    /// The picture that a task names.
    ///
    /// - Throws: ``Problem`` that says how a picture may be named.
    func picture(
        _ name: String, _ context: GatewayContext
    ) async throws -> (digest: ImageDigest, uploaded: UploadedImage?) {
        let desk = desk.serving(context)
        if name.prefix(5).lowercased() == "data:" {
            let image = try await desk.store(base64: name, field: "task.data")
            return (image.digest, image)
        }
        if name.hasPrefix("kirie:") {
            guard let digest = ImageDigest(name.dropFirst("kirie:".count)) else {
                throw Self.fault("kirie: and the 64 hexadecimal digits of a picture's SHA-256 are expected")
            }
            return (digest, desk.service.uploads.sizes[digest])
        }
        if let (folder, path) = try place(name) {
            let image = try await stored(folder, path, desk)
            return (image.digest, image)
        }
        if desk.service.fetcher != nil, name.hasPrefix("http://") || name.hasPrefix("https://") {
            let image = try await desk.fetched(name, field: "task.data")
            return (image.digest, image)
        }
        throw Self.fault("\(Quotation.of(String(name.prefix(120)))) is a place that this gateway does not fetch from")
    }

    /// A folder of this machine and a path below it; nil for a name that is none.
    private func place(_ name: String) throws(Problem) -> (folder: String, path: String)? {
        // Label Studio puts its own address before paths where it is configured to.
        var path = name[...]
        if let scheme = path.range(of: "://") {
            guard let slash = path[scheme.upperBound...].firstIndex(of: "/") else { return nil }
            path = path[slash...]
            guard path.hasPrefix("/data/local-files/") ? folders.localFiles != nil : folders.media != nil else {
                return nil
            }
        }
        if path.hasPrefix("/data/local-files/") {
            guard let folder = folders.localFiles else {
                throw Self.fault("local files are not served here: start the gateway with --label-studio-files FOLDER")
            }
            guard let start = path.range(of: "?d=")?.upperBound,
                let rest = String(path[start...].prefix { $0 != "&" }).replacing("+", with: " ").removingPercentEncoding
            else { throw Self.fault("/data/local-files/?d=PATH is expected") }
            return (folder, rest)
        }
        if path.hasPrefix("/data/") {
            guard let folder = folders.media else {
                throw Self.fault("uploads are not served here: start the gateway with --label-studio-media FOLDER")
            }
            guard let rest = String(path.dropFirst("/data/".count).prefix { $0 != "?" }).removingPercentEncoding else {
                throw Self.fault("the path is not encoded as a URL is")
            }
            return (folder, rest)
        }
        return nil
    }

    private func stored(_ folder: String, _ path: String, _ desk: ClientDesk) async throws -> UploadedImage {
        let limit = desk.service.uploads.limit
        let bytes = try await desk.computing { try Self.contents(of: path, below: folder, atMost: limit) }
        return try await desk.service.uploads.store(bytes)
    }

    /// The bytes of a file below a folder.
    private static func contents(of path: String, below folder: String, atMost limit: Int) throws -> [UInt8] {
        let missing = Problem(
            .notFound, "unknown-image",
            "there is no file \(Quotation.of(String(path.prefix(120)))) in Label Studio's folder")
        // Both are resolved, so that neither `..` nor a link leads out of the folder.
        guard !path.utf8.contains(0), let root = resolved(folder), let file = resolved("\(folder)/\(path)"),
            file.hasPrefix(root == "/" ? "/" : "\(root)/")
        else { throw missing }
        let descriptor = open(file, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK)
        guard descriptor >= 0 else { throw missing }
        defer { close(descriptor) }
        var status = stat()
        guard fstat(descriptor, &status) == 0, status.st_mode & S_IFMT == S_IFREG else { throw missing }
        let size = Int(status.st_size)
        guard size <= limit else {
            throw Problem(.contentTooLarge, "too-large", "the picture has \(size) bytes; at most \(limit) are taken")
        }
        return try [UInt8](unsafeUninitializedCapacity: size) { memory, count in
            while count < size {
                let got = read(descriptor, memory.baseAddress.map { $0 + count }, size - count)
                if got < 0, errno == EINTR { continue }
                guard got > 0 else { throw missing }
                count += got
            }
        }
    }

    private static func resolved(_ path: String) -> String? {
        guard let text = realpath(path, nil) else { return nil }
        defer { free(text) }
        return String(cString: text)
    }

    private static func fault(_ reason: String) -> Problem {
        Problem(
            .unprocessableContent, "no-picture",
            "\(reason): give the picture as a data URI, or post it to /v1/images beforehand and name it kirie:SHA256",
            field: "task.data")
    }
}

import Cluster
import Downloads
import HTTPTypes
import Platform

/// Fetches pictures by their addresses, from the public internet alone: see the threat model.
struct ImageFetcher: Sendable {
    /// All of a fetch takes no longer, in seconds.
    private static let timeLimit = 60

    private(set) var uploads: ImageUploads
    private let threads = ComputeThreads(count: 4)

    init(_ uploads: ImageUploads) { self.uploads = uploads }

    /// The same for a tenant's pictures.
    func serving(_ tenant: Tenant) -> ImageFetcher {
        var fetcher = self
        fetcher.uploads = uploads.serving(tenant)
        return fetcher
    }

    /// The picture of an address.
    ///
    /// - Throws: ``Problem``: it is no address of http or https, it leads to a machine that is not public, or the server
    ///   does not give the file.
    func fetch(_ address: String) async throws -> UploadedImage {
        guard address.utf8.count <= 4096, address.hasPrefix("http://") || address.hasPrefix("https://"),
            address.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7F })
        else { throw Self.fault("an address of http or https is expected") }
        let spool = try ImageSpool(folder: uploads.folder)
        let (threads, limit) = (threads, uploads.limit)
        try await spool.fill { descriptor in
            let outcome = await threads.run {
                CurlTransfer.run(
                    address, to: descriptor, at: 0, limit: limit, reach: .publicAddresses, timeLimit: Self.timeLimit
                ) { _ in }
            }
            switch outcome {
            case .complete: return
            case .forbiddenAddress: throw Self.fault("it leads to an address that is not public")
            case .status(let status): throw Self.fault("the server answers \(status)")
            case .interrupted(let reason): throw Self.fault("the server does not give the file: \(reason)")
            case .tooLong:
                throw Problem(
                    .contentTooLarge, "too-large", "image.url: more than \(limit) bytes", field: "image.url")
            case .unwritable(let code): throw SpoolError(folder: "the spool", code: code)
            case .noLibrary:
                throw Problem(
                    .serviceUnavailable, "no-libcurl", "libcurl is not installed here: pictures cannot be fetched")
            case nil: throw CancellationError()
            }
        }
        return try await uploads.store(spool)
    }

    private static func fault(_ reason: String) -> Problem {
        Problem(.unprocessableContent, "bad-url", "image.url: \(reason)", field: "image.url")
    }
}

import Cluster
import Embeddings
import HTTPTypes
import Hummingbird
import Imaging
import NIOCore
import Redis
import Segmentation
import Synchronization

/// A picture that is in the cluster.
struct UploadedImage: Sendable, Hashable {
    let digest: ImageDigest
    /// Columns and rows, after EXIF orientation.
    let width: Int
    let height: Int
    let bytes: Int
    /// Whether this upload brought it.
    var isNew = false
}

/// Takes pictures in and puts them into the cluster in parts.
struct ImageUploads: Sendable {
    /// A part on its way to Redis.
    static let part = 1 << 20

    private(set) var broker: Broker
    let reader: BodyReader
    let decoder: ImageDecoder
    let limit: Int
    let folder: String
    /// The sizes of this tenant's pictures.
    private(set) var sizes = ImageSizes()

    init(broker: Broker, reader: BodyReader, decoder: ImageDecoder, limit: Int, folder: String) {
        self.broker = broker
        self.reader = reader
        self.decoder = decoder
        self.limit = limit
        self.folder = folder
    }

    /// The same for a tenant's pictures.
    func serving(_ tenant: Tenant) -> ImageUploads {
        var uploads = self
        uploads.broker = broker.scoped(to: tenant)
        uploads.sizes = sizes.of(tenant)
        return uploads
    }

    /// Takes the body of a request as a picture, raw or as the part `image` of a form; `job` is that part of the form,
    /// where there is one.
    func take(_ request: Request) async throws -> (image: UploadedImage?, job: [UInt8]?) {
        guard let type = request.headers[.contentType], type.lowercased().hasPrefix("multipart/") else {
            let spool = try ImageSpool(folder: folder)
            try await reader.forEachChunk(of: request, atMost: limit, what: "the picture", holding: false) {
                try await spool.append($0)
            }
            return (try await store(spool), nil)
        }
        guard let boundary = MultipartReader.boundary(of: type) else {
            throw MultipartReader.fault("Content-Type names no boundary")
        }
        return try await form(request, boundary)
    }

    private func form(_ request: Request, _ boundary: String) async throws -> (image: UploadedImage?, job: [UInt8]?) {
        var multipart = MultipartReader(boundary: boundary)
        var part = MultipartReader.Part()
        var spool: ImageSpool?
        var job: [UInt8]?
        try await reader.forEachChunk(
            of: request, atMost: limit + (1 << 20), what: "the form", holding: false
        ) { chunk in
            for event in try multipart.take(chunk.readableBytesView) {
                switch event {
                case .part(let head):
                    part = head
                    if Self.isPicture(head) {
                        if spool != nil { throw MultipartReader.fault("there are two pictures") }
                        spool = try ImageSpool(folder: folder)
                    } else if head.name == "job" {
                        job = []
                    }
                case .body(let bytes) where Self.isPicture(part):
                    try await spool?.append(ByteBuffer(bytes: bytes))
                case .body(let bytes) where part.name == "job":
                    job?.append(contentsOf: bytes)
                    if (job?.count ?? 0) > 1 << 20 {
                        throw Problem(.contentTooLarge, "too-large", "the job line has more than 1 MiB")
                    }
                case .body, .end: break
                }
            }
        }
        guard multipart.isAtEnd else { throw MultipartReader.fault("it ends before its last boundary") }
        guard let spool else { return (nil, job) }
        return (try await store(spool), job)
    }

    /// Whether a part of a form is the picture: by the name that the interface has, or that of an upload field.
    private static func isPicture(_ part: MultipartReader.Part) -> Bool { ["image", "file"].contains(part.name) }

    /// Puts a picture that came in one piece into the cluster.
    func store(_ bytes: [UInt8]) async throws -> UploadedImage {
        let spool = try ImageSpool(folder: folder)
        try await spool.append(ByteBuffer(bytes: bytes))
        return try await store(spool)
    }

    /// Puts a picture into the cluster whose file is in a spool.
    func store(_ spool: ImageSpool) async throws -> UploadedImage {
        let (digest, width, height) = try await spool.finish(decoder)
        let count = await spool.count
        let isNew: Bool
        if count <= Self.part {
            isNew = try await broker.putImage(digest, .bytes(try await spool.part(from: 0, atMost: count)))
        } else {
            isNew = try await broker.putImage(digest, bytes: count, part: Self.part) { offset, limit in
                try await spool.part(from: offset, atMost: limit)
            }
        }
        GatewayMetrics.uploaded(bytes: count)
        let image = UploadedImage(digest: digest, width: width, height: height, bytes: count, isNew: isNew)
        sizes.note(image)
        return image
    }
}

/// The sizes of pictures that were seen, so that a prompt is checked against its picture without fetching it.
struct ImageSizes: Sendable {
    private struct Picture: Sendable, Hashable {
        let tenant: Tenant
        let digest: ImageDigest
    }

    /// What all tenants share.
    private final class Memory: Sendable {
        /// Guards the sizes.
        let known = Mutex(LeastRecentlyUsed<Picture, UploadedImage>(limit: 4096))
    }

    private let memory = Memory()
    /// Whose pictures are meant: of another's not even the size is told.
    private var tenant = Tenant.standard

    /// The sizes of a tenant's pictures.
    func of(_ tenant: Tenant) -> ImageSizes {
        var sizes = self
        sizes.tenant = tenant
        return sizes
    }

    func note(_ image: UploadedImage) {
        let picture = Picture(tenant: tenant, digest: image.digest)
        memory.known.withLock { _ = $0.insert(image, for: picture, cost: 1) }
    }

    subscript(_ digest: ImageDigest) -> UploadedImage? {
        memory.known.withLock { $0.value(for: Picture(tenant: tenant, digest: digest)) }
    }
}

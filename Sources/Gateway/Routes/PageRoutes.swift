internal import CPages
import Cluster
import HTTPTypes
import Hashing
import Hummingbird
import JSON
import NIOCore
import Platform

/// The pages and what they are made of: files that are part of the program.
struct PageRoutes: Sendable {
    private struct File: Sendable {
        let bytes: ByteBuffer
        let type: String
        let tag: String
    }

    private let files: [String: File]

    init() {
        var files: [String: File] = [:]
        for index in 0..<kirie_page_count() {
            let page = kirie_page(index)
            guard let name = page.name, let bytes = page.bytes else { continue }
            let memory = UnsafeRawBufferPointer(start: bytes, count: page.size)
            let path = String(cString: name)
            files[path] = File(
                bytes: ByteBuffer(bytes: memory), type: Self.type(of: path),
                tag: Replies.tag(String(Hexadecimal.text(of: SHA256.hash(memory).bytes).prefix(16))))
        }
        self.files = files
    }

    /// Adds the routes; `rootHandlers` are what `/` takes beside GET.
    func add(to routes: RouteTable, rootHandlers: [HTTPRequest.Method: RouteTable.Handler] = [:]) {
        routes.on(
            "/", rootHandlers.merging([.get: { request, _ in try answer(request, "index.html") }]) { _, page in page })
        for (path, name) in [
            ("/monitor", "monitor.html"), ("/docs", "docs.html"),
            ("/openapi.json", "openapi.json"), ("/favicon.ico", "assets/favicon.svg"),
        ] {
            routes.on(path, [.get: { request, _ in try answer(request, name) }])
        }
        for folder in ["assets", "samples"] {
            routes.on(
                "/\(folder)/{name}",
                [.get: { request, context in try answer(request, "\(folder)/\(context.parameters.get("name") ?? "")") }]
            )
        }
    }

    /// The list of samples as `/v1/capabilities` tells it.
    var samples: [UInt8] { files["samples/samples.json"].map { Array($0.bytes.readableBytesView) } ?? Array("[]".utf8) }

    private func answer(_ request: Request, _ name: String) throws -> Response {
        guard let file = files[name] else { throw Problem.noRoute(request.uri.path) }
        if let response = Replies.notModified(request, tag: file.tag) { return response }
        var response = Response(status: .ok, body: ResponseBody(byteBuffer: file.bytes))
        response.headers[.contentType] = file.type
        response.headers[.eTag] = file.tag
        // Looked after at each visit: a new version of the program has new pages under the same names.
        response.headers[.cacheControl] = "no-cache"
        if file.type.hasPrefix("text/html") {
            response.headers[.contentSecurityPolicy] =
                "default-src 'self'; img-src 'self' blob: data:; style-src 'self'; script-src 'self'; worker-src 'self' blob:; "
                + "connect-src 'self'; object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
            response.headers[.referrerPolicy] = "no-referrer"
        }
        return response
    }

    private static func type(of path: String) -> String {
        switch path.split(separator: ".").last {
        case "html": "text/html; charset=utf-8"
        case "css": "text/css; charset=utf-8"
        case "js", "mjs": "text/javascript; charset=utf-8"
        case "json": "application/json"
        case "webmanifest": "application/manifest+json"
        case "svg": "image/svg+xml"
        case "png": "image/png"
        case "jpg": "image/jpeg"
        case "webp": "image/webp"
        default: "application/octet-stream"
        }
    }
}

extension HTTPField.Name {
    /// `Referrer-Policy`.
    static let referrerPolicy = HTTPField.Name("Referrer-Policy") ?? .server
}

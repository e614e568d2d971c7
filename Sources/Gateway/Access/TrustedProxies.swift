import HTTPTypes
import Hummingbird
import NIOCore

/// The proxies whose word on a client's address is taken.
///
/// `X-Forwarded-For` is anybody's to write, so it is read only of a connection from one of these addresses, and from its
/// end: the last address that is no trusted proxy is the client.
package struct TrustedProxies: Sendable {
    private let addresses: Set<String>

    /// The proxies of these addresses, such as `127.0.0.1`.
    package init(_ addresses: some Sequence<String>) { self.addresses = Set(addresses) }

    /// The client of a request that came over a connection from there.
    func client(of request: Request, connection: SocketAddress?) -> String {
        guard let peer = connection?.ipAddress else { return "local" }
        guard addresses.contains(peer), let chain = request.headers[.forwardedFor] else { return peer }
        let hops = chain.split(separator: ",").map { $0.filter { $0 != " " } }
        let client = hops.last { !addresses.contains(String($0)) } ?? hops.first
        guard let client, client.utf8.count <= 45, client.utf8.allSatisfy(Self.isOfAnAddress) else { return peer }
        return String(client)
    }

    private static func isOfAnAddress(_ unit: UInt8) -> Bool {
        switch unit {
        case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "a")...UInt8(ascii: "f"),
            UInt8(ascii: "A")...UInt8(ascii: "F"), UInt8(ascii: "."), UInt8(ascii: ":"):
            true
        default: false
        }
    }
}

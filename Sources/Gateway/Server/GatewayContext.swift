import HTTPTypes
import Hummingbird
import Logging
import NIOCore

/// What is known of a request on its way through the gateway.
struct GatewayContext: RequestContext {
    var coreContext: CoreRequestContextStorage
    /// The connection that it came over.
    let channel: any Channel
    /// Tells it from all others: the client's own `X-Request-Id`, or one of ours.
    var requestIdentifier = ""
    /// `traceparent` of W3C's trace context, where the client sent one.
    var trace: TraceContext?
    /// Who asks.
    var caller = Caller.anybody
    /// From where: the address of the connection, or the one that a trusted proxy names.
    var clientAddress = ""

    init(source: ApplicationRequestContextSource) {
        coreContext = .init(source: source)
        channel = source.channel
    }
}

/// W3C's trace context, <https://www.w3.org/TR/trace-context/>: version, trace, parent, flags.
package struct TraceContext: Sendable, Hashable {
    /// 32 hexadecimal digits.
    package let trace: String
    /// The header as it came.
    package let header: String

    /// Reads a `traceparent` header; nil where it is none that may be passed on.
    package init?(_ header: String) {
        let parts = header.split(separator: "-", omittingEmptySubsequences: false)
        func isHexadecimal(_ text: Substring, _ count: Int) -> Bool {
            text.utf8.count == count
                && text.utf8.allSatisfy { (0x30...0x39).contains($0) || (0x61...0x66).contains($0) }
        }
        guard parts.count >= 4, isHexadecimal(parts[0], 2), parts[0] != "ff", isHexadecimal(parts[1], 32),
            isHexadecimal(parts[2], 16), isHexadecimal(parts[3], 2), parts[1].contains(where: { $0 != "0" }),
            parts[2].contains(where: { $0 != "0" }), parts[0] != "00" || parts.count == 4
        else { return nil }
        trace = String(parts[1])
        self.header = String(header.prefix(55))
    }
}

import HTTPTypes
import NIOCore
import NIOHTTPTypes
import Synchronization

/// The connections that are open, and what is to be done when one is closed by its client.
///
/// Hummingbird does not tell a handler that its client has gone; a click whose page has left need not be decoded.
final class OpenConnections: Sendable {
    private struct Connection {
        var isClosed = false
        var next = 0
        var actions: [Int: @Sendable () -> Void] = [:]
    }

    /// Guards the connections, which event loops and handlers share.
    private let connections = Mutex<[ObjectIdentifier: Connection]>([:])

    /// How many there are.
    var count: Int { connections.withLock { $0.count } }

    /// A handler for the pipeline of one connection.
    func makeHandler() -> any RemovableChannelHandler { Watch(self) }

    /// Runs `body`; where the client closes the connection meanwhile, `onClose` is called once.
    func watching<Value>(
        _ channel: any Channel, onClose: @escaping @Sendable () -> Void, _ body: () async throws -> Value
    ) async rethrows -> Value {
        let key = ObjectIdentifier(channel)
        let (token, isClosed): (Int, Bool) = connections.withLock { connections in
            guard var connection = connections[key] else { return (-1, false) }
            let token = connection.next
            connection.next += 1
            if !connection.isClosed { connection.actions[token] = onClose }
            connections[key] = connection
            return (token, connection.isClosed)
        }
        if isClosed { onClose() }
        defer { connections.withLock { _ = $0[key]?.actions.removeValue(forKey: token) } }
        return try await body()
    }

    fileprivate func opened(_ channel: any Channel) {
        connections.withLock { $0[ObjectIdentifier(channel)] = Connection() }
    }

    fileprivate func inputClosed(_ channel: any Channel) {
        let actions = connections.withLock { connections in
            let actions = connections[ObjectIdentifier(channel)]?.actions.values.map(\.self) ?? []
            connections[ObjectIdentifier(channel)]?.isClosed = true
            connections[ObjectIdentifier(channel)]?.actions = [:]
            return actions
        }
        for action in actions { action() }
    }

    fileprivate func closed(_ channel: any Channel) {
        inputClosed(channel)
        connections.withLock { _ = $0.removeValue(forKey: ObjectIdentifier(channel)) }
    }
}

/// Tells ``OpenConnections`` of one connection, and ends it after an answer that says so.
///
/// Hummingbird reads on to the end of a body whose answer is given, so that the connection can be used again: of a body
/// that was refused for its size that end may never come.
private final class Watch: ChannelDuplexHandler, RemovableChannelHandler {
    typealias InboundIn = HTTPRequestPart
    typealias InboundOut = HTTPRequestPart
    typealias OutboundIn = HTTPResponsePart
    typealias OutboundOut = HTTPResponsePart

    /// So long a client has to read the answer before the connection goes from under it.
    private static let farewell = TimeAmount.seconds(2)

    private let connections: OpenConnections
    private var isOpen = false
    private var endsAfterAnswer = false
    private var isEnding = false

    init(_ connections: OpenConnections) { self.connections = connections }

    func handlerAdded(context: ChannelHandlerContext) {
        if context.channel.isActive { open(context) }
    }

    func channelActive(context: ChannelHandlerContext) {
        open(context)
        context.fireChannelActive()
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        // What comes after the farewell is read and dropped: a socket closed over unread bytes takes the answer with it.
        if !isEnding { context.fireChannelRead(data) }
    }

    func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
        let part = unwrapOutboundIn(data)
        if case .head(let head) = part, head.headerFields[.connection] == "close" { endsAfterAnswer = true }
        guard endsAfterAnswer, case .end = part, !isEnding else {
            context.write(data, promise: promise)
            return
        }
        isEnding = true
        context.writeAndFlush(data, promise: promise)
        let channel = context.channel
        context.close(mode: .output, promise: nil)
        context.eventLoop.scheduleTask(in: Self.farewell) { channel.close(promise: nil) }
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        if let event = event as? ChannelEvent, event == .inputClosed { connections.inputClosed(context.channel) }
        context.fireUserInboundEventTriggered(event)
    }

    func channelInactive(context: ChannelHandlerContext) {
        connections.closed(context.channel)
        context.fireChannelInactive()
    }

    private func open(_ context: ChannelHandlerContext) {
        guard !isOpen else { return }
        isOpen = true
        connections.opened(context.channel)
    }
}

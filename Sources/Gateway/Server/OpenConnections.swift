import Glibc
import HTTPTypes
import NIOCore
import NIOHTTPTypes
import Platform
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

    /// How long a client may leave a body unfinished or an answer unread without a byte passing.
    private let patience: TimeAmount

    /// No connection yet.
    init(patience: Duration) { self.patience = .nanoseconds(patience.nanoseconds) }

    /// Guards the connections, which event loops and handlers share.
    private let connections = Mutex<[ObjectIdentifier: Connection]>([:])

    /// How many there are.
    var count: Int { connections.withLock { $0.count } }

    /// A handler for the pipeline of one connection.
    func makeHandler() -> any RemovableChannelHandler { Watch(self, patience: patience) }

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
    private let patience: TimeAmount
    private var isOpen = false
    /// Closes the connection where the client stops in the middle of a body.
    private var silence: Scheduled<Void>?
    /// Closes the connection where the client does not read what it is sent.
    private var deafness: Scheduled<Void>?
    private var endsAfterAnswer = false
    private var isEnding = false

    init(_ connections: OpenConnections, patience: TimeAmount) {
        self.connections = connections
        self.patience = patience
    }

    func handlerRemoved(context: ChannelHandlerContext) { stopWaiting() }

    func handlerAdded(context: ChannelHandlerContext) {
        if context.channel.isActive { open(context) }
    }

    func channelActive(context: ChannelHandlerContext) {
        open(context)
        context.fireChannelActive()
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        silence?.cancel()
        silence = nil
        if case .end = unwrapInboundIn(data) {} else { silence = closing(context) }
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

    func channelWritabilityChanged(context: ChannelHandlerContext) {
        deafness?.cancel()
        deafness = context.channel.isWritable ? nil : closing(context)
        context.fireChannelWritabilityChanged()
    }

    private func closing(_ context: ChannelHandlerContext) -> Scheduled<Void> {
        let channel = context.channel
        return context.eventLoop.scheduleTask(in: patience) {
            GatewayMetrics.refused("slow")
            // What is on its way to a client that does not read would keep the system's memory until it gives up, too.
            guard let socket = channel as? any SocketOptionProvider else { return channel.close(promise: nil) }
            socket.setSoLinger(linger(l_onoff: 1, l_linger: 0)).whenComplete { _ in channel.close(promise: nil) }
        }
    }

    private func stopWaiting() {
        silence?.cancel()
        deafness?.cancel()
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        if let event = event as? ChannelEvent, event == .inputClosed { connections.inputClosed(context.channel) }
        context.fireUserInboundEventTriggered(event)
    }

    func channelInactive(context: ChannelHandlerContext) {
        stopWaiting()
        connections.closed(context.channel)
        context.fireChannelInactive()
    }

    private func open(_ context: ChannelHandlerContext) {
        guard !isOpen else { return }
        isOpen = true
        connections.opened(context.channel)
    }
}

/// One connection that is logged in: commands go out in the order of the calls, answers come back in that order.
///
/// Any number of tasks may use it at once; commands that meet are sent together. When it breaks it stays broken, and
/// ``RedisClient`` makes another. The last reference closes it.
public final class RedisConnection: Sendable {
    private let channel: RedisChannel
    private let timeout: Duration
    /// When it was made, by ``Monotonic``.
    let began = Monotonic.now
    /// What the server said about itself at the login: `server`, `version`, `mode`, `role`.
    public let greeting: [String: String]

    /// The address, without the password.
    public var server: String { channel.server }
    /// Where it was told to connect.
    var endpoint: RedisURL.Endpoint { channel.endpoint }
    /// The numeric address that this was at the time; nil for a Unix socket.
    var peer: String? { channel.peer }
    /// Whether no further command can be sent.
    public var isClosed: Bool { channel.isClosed }

    private init(_ channel: RedisChannel, timeout: Duration, greeting: [String: String]) {
        self.channel = channel
        self.timeout = timeout
        self.greeting = greeting
    }

    deinit { channel.close(.closed) }

    /// Connects, logs in, selects the database and waits until the server has loaded its data.
    public static func connect(
        to url: RedisURL, configuration: RedisConfiguration = RedisConfiguration()
    ) async throws(RedisError) -> RedisConnection {
        try await connect(to: url, role: .commands, configuration: configuration)
    }

    static func connect(
        to url: RedisURL, role: RedisChannel.Role, configuration: RedisConfiguration
    ) async throws(RedisError) -> RedisConnection {
        let channel = RedisChannel(to: url, role: role, configuration: configuration)
        try await channel.open(timeout: configuration.connectTimeout)
        do throws(RedisError) {
            let greeting = try await logIn(channel, url, configuration)
            configuration.onEvent(.connected(server: channel.server))
            return RedisConnection(channel, timeout: configuration.commandTimeout, greeting: greeting)
        } catch {
            channel.close(.closed)
            throw error
        }
    }

    private static func logIn(
        _ channel: RedisChannel, _ url: RedisURL, _ configuration: RedisConfiguration
    ) async throws(RedisError) -> [String: String] {
        var commands: [RedisCommand] = []
        if let password = url.password {
            let who: [RedisArgument] = url.user.map { [.string($0)] } ?? []
            commands.append(RedisCommand("AUTH", who + [.string(password.secret)]))
        }
        commands.append(RedisCommand("HELLO"))
        if url.database != 0 { commands.append(RedisCommand("SELECT", .integer(url.database))) }
        if let name = configuration.clientName { commands.append(RedisCommand("CLIENT", "SETNAME", .string(name))) }
        commands.append(RedisCommand("PING"))

        let replies = try await channel.send(commands, timeout: configuration.connectTimeout)
        var greeting: [String: String] = [:]
        for (command, reply) in zip(commands, replies) {
            if let error = reply.error { try check(error, of: command, server: channel.server) }
            if command.name == "HELLO" { greeting = (reply.fields ?? [:]).compactMapValues(\.string) }
        }
        return greeting
    }

    private static func check(
        _ error: RedisServerError, of command: RedisCommand, server: String
    ) throws(RedisError) {
        // The server's own words are not passed on where a password was in the command.
        switch (command.name, error.code) {
        case ("AUTH", "WRONGPASS"):
            throw .authenticationFailed(server: server, reason: "the user or the password is wrong (WRONGPASS)")
        case ("AUTH", "ERR"):
            throw .authenticationFailed(server: server, reason: "a password was given where the server has none")
        case ("AUTH", _): throw .authenticationFailed(server: server, reason: error.code)
        case (_, "NOAUTH"): throw .authenticationFailed(server: server, reason: "it wants a password (NOAUTH)")
        case ("PING", "LOADING"), ("SELECT", "LOADING"), ("PING", "MASTERDOWN"):
            throw .cannotConnect(server: server, reason: "it is still loading its data (\(error.code))")
        case ("SELECT", _): throw .server(error, command: "SELECT")
        default: break  // An ACL may forbid HELLO, CLIENT or PING; nothing depends on them.
        }
    }

    /// Sends one command and returns its answer, be it an error reply or not.
    ///
    /// A command that blocks has a `timeout` of its own instead of the configuration's.
    public func send(_ command: RedisCommand, timeout: Duration? = nil) async throws(RedisError) -> RedisValue {
        try await channel.send(command, timeout: timeout ?? self.timeout)
    }

    /// Sends commands in one go and returns their answers in order, error replies among them.
    public func pipeline(
        _ commands: [RedisCommand], timeout: Duration? = nil
    ) async throws(RedisError) -> [RedisValue] {
        try await channel.send(commands, timeout: timeout ?? self.timeout)
    }

    /// Closes; what still waits fails with ``RedisError/closed``.
    public func close() { channel.close(.closed) }

    func close(_ error: RedisError) { channel.close(error) }

    func post(_ command: RedisCommand) { channel.post(command) }
}

/// The sentinels that know which of some servers is the primary:
/// <https://redis.io/docs/latest/develop/reference/sentinel-clients/>.
public struct RedisSentinels: Sendable, Hashable {
    /// Where one of them listens.
    public struct Place: Sendable, Hashable {
        /// A host name or an address without brackets.
        public let host: String
        /// 1 to 65535; 26379 is usual.
        public let port: Int

        /// A host and its port.
        public init(host: String, port: Int) {
            self.host = host
            self.port = port
        }
    }

    /// At least one; who is away is done without.
    public var places: [Place]
    /// What they call the primary and its replicas.
    public var service: String
    /// What the sentinels themselves ask for; nil for nothing.
    public var password: RedisPassword?

    /// Sentinels by their places, and the name of what they watch.
    public init(_ places: [Place], service: String, password: RedisPassword? = nil) {
        self.places = places
        self.service = service
        self.password = password
    }
}

/// Asks sentinels where the primary is.
struct SentinelQuestion: Sendable {
    private let url: RedisURL
    private let sentinels: RedisSentinels
    private let configuration: RedisConfiguration

    /// A question to the sentinels of an address; nil where it has none.
    init?(_ url: RedisURL, configuration: RedisConfiguration) {
        guard case .sentinels(let sentinels) = url.endpoint else { return nil }
        self.url = url
        self.sentinels = sentinels
        var own = configuration
        own.connectTimeout = min(own.connectTimeout, .seconds(2))
        own.commandTimeout = min(own.commandTimeout, .seconds(2))
        own.onEvent = { _ in }
        self.configuration = own
    }

    /// The address of a sentinel.
    func address(of place: RedisSentinels.Place) -> RedisURL {
        RedisURL(
            .tcp(host: place.host, port: place.port), password: sentinels.password, tls: url.tls)
    }

    /// The sentinel that is listened to at the n-th attempt.
    func listeningPlace(_ turn: Int) -> RedisURL { address(of: sentinels.places[turn % sentinels.places.count]) }

    /// Where the primary is, in the words of the sentinel that knows of the latest failover.
    ///
    /// All are asked at once; more than half are enough. One that was cut off from the others goes on naming the primary
    /// of before, and its epoch says so.
    ///
    /// - Throws: ``RedisError/cannotConnect(server:reason:)`` where none answers;
    ///   ``RedisError/unknownService(sentinels:service:known:)`` where those who answer watch nothing of that name.
    func primary() async throws(RedisError) -> RedisURL {
        let answers = await withTaskGroup(of: Answer.self) { group in
            for place in sentinels.places { group.addTask { await ask(place) } }
            var answers: [Answer] = []
            var named = 0
            for await answer in group {
                answers.append(answer)
                if case .primary = answer { named += 1 }
                if named > sentinels.places.count / 2 { break }
            }
            group.cancelAll()
            return answers
        }
        var best: (endpoint: RedisURL.Endpoint, epoch: Int)?
        var known: [String]?
        var silent: [String] = []
        for answer in answers {
            switch answer {
            case .primary(let endpoint, let epoch): if epoch > best?.epoch ?? -1 { best = (endpoint, epoch) }
            case .watches(let names): known = (known ?? []) + names
            case .silent(let reason): silent.append(reason)
            }
        }
        if let best {
            var found = url
            found.endpoint = best.endpoint
            // Off by the address of the sentinels alone: nobody has written it, so that no message shows it.
            found.cluster = .auto
            return found
        }
        if let known {
            throw .unknownService(
                sentinels: "\(url)", service: sentinels.service, known: Array(Set(known)).sorted())
        }
        throw .cannotConnect(
            server: "\(url)",
            reason: "no sentinel says where the primary is: \(silent.sorted().joined(separator: "; "))")
    }

    private enum Answer: Sendable {
        case primary(RedisURL.Endpoint, epoch: Int)
        case watches([String])
        case silent(String)
    }

    private func ask(_ place: RedisSentinels.Place) async -> Answer {
        let name = "\(place.host):\(place.port)"
        do throws(RedisError) {
            let connection = try await RedisConnection.connect(to: address(of: place), configuration: configuration)
            defer { connection.close() }
            let replies = try await connection.pipeline([
                RedisCommand("SENTINEL", "GET-MASTER-ADDR-BY-NAME", .string(sentinels.service)),
                RedisCommand("SENTINEL", "MASTER", .string(sentinels.service)), RedisCommand("SENTINEL", "MASTERS"),
            ])
            if let error = replies[0].error {
                return .silent(
                    error.message.contains("unknown command")
                        ? "\(name) is no sentinel" : "\(name) refuses (\(error.message))")
            }
            guard let parts = replies[0].array, parts.count == 2, let host = parts[0].string,
                let port = parts[1].string.flatMap({ Int($0) }), (1...65_535).contains(port)
            else {
                let names = (replies[2].array ?? []).compactMap { $0.fields?["name"]?.string }
                return .watches(names)
            }
            let epoch = replies[1].fields?["config-epoch"]?.string.flatMap { Int($0) } ?? 0
            return .primary(.tcp(host: host, port: port), epoch: epoch)
        } catch {
            return .silent("\(name): \(error.shortReason)")
        }
    }
}

/// Hears of failovers, and has a client leave servers that are no primaries any more.
///
/// A server that was cut off from the sentinels may go on serving who is cut off with it: its connections would break by
/// themselves late or never.
final class SentinelWatch: Sendable {
    private let task: Task<Void, Never>

    /// Listens to one sentinel after another for as long as the client lives.
    ///
    /// `leave` is told where the primary is, each time that sentinels may have changed it.
    init(
        _ question: SentinelQuestion, configuration: RedisConfiguration,
        leave: @escaping @Sendable (RedisURL.Endpoint) -> Void
    ) {
        let look: @Sendable () async -> Void = {
            if let found = try? await question.primary() { leave(found.endpoint) }
        }
        let turn = Turn(Int.random(in: 0..<64))
        var quiet = configuration
        quiet.onEvent = { _ in }
        let route = ListeningRoute(
            dialer: RedisDialer(configuration: quiet) { question.listeningPlace(turn.next()) },
            posts: ListeningPosts(), firstPatience: nil, look: look)
        task = Task.detached {
            let (news, tell) = AsyncStream.makeStream(of: Void.self, bufferingPolicy: .bufferingNewest(1))
            let listening = try? await RedisListening.open(
                channels: ["+switch-master"], patterns: [], through: route
            ) { _ in tell.yield() }
            for await _ in news { await look() }
            listening?.cancel()
        }
    }

    deinit { task.cancel() }

    /// Hears nothing more.
    func cancel() { task.cancel() }
}

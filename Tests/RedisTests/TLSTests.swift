import Redis
import RedisTesting
import Testing

/// TLS with real servers: who is spoken to, who is not, and what is said then.
@Suite struct TLSTests {
    private static func start(
        _ certificates: TLSCertificates, certificate: String = "server", wantsClients: Bool = true
    ) async throws -> RedisServerProcess {
        var options = RedisServerProcess.Options(tls: certificates)
        options.certificate = certificate
        options.wantsClientCertificates = wantsClients
        return try await RedisServerProcess.start(options)
    }

    /// What connecting with other settings fails with.
    private static func refusal(
        _ server: RedisServerProcess, _ change: (inout RedisURL) -> Void = { _ in }
    ) async throws -> String {
        var url = server.url
        change(&url)
        do {
            _ = try await RedisClient.connect(url)
        } catch {
            return "\(error)"
        }
        return "no refusal"
    }

    @Test(arguments: [0, 1, 16_000, 70_000, 5_000_000])
    func valuesOfAnySizeComeBack(_ count: Int) async throws {
        let certificates = try await TLSCertificates()
        let server = try await Self.start(certificates)
        defer { withExtendedLifetime(server) {} }
        let redis = try await RedisClient.connect(server.url)
        let value = (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 31 >> 3) }
        try await redis.set("k", .array(value))
        #expect(try await redis.get("k")?.withUnsafeBytes { Array($0) } == value)
    }

    @Test func manyTasksShareAConnectionAndListenersHear() async throws {
        let certificates = try await TLSCertificates()
        let server = try await Self.start(certificates)
        defer { withExtendedLifetime(server) {} }
        let redis = try await RedisClient.connect(server.url)
        let subscription = try await redis.subscribe(to: ["news"])
        try await withThrowingTaskGroup(of: Void.self) { group in
            for task in 0..<32 {
                group.addTask {
                    // Large and small ones at once, so that the socket is full at times.
                    for round in 0..<20 {
                        let value = [UInt8](repeating: UInt8(task), count: round % 4 == 0 ? 400_000 : 100)
                        try await redis.set("k\(task)", .array(value))
                        #expect(try await redis.get("k\(task)")?.withUnsafeBytes { Array($0) } == value)
                    }
                }
            }
            try await group.waitForAll()
        }
        try await redis.publish("news", "1")
        var arriving = subscription.makeAsyncIterator()
        guard case .message? = await arriving.next() else { throw NeverHappened(description: "no message") }
        async let popped = redis.popFirst(["list"], for: .seconds(600))
        try await redis.push("list", ["x"])
        #expect(try await popped?.value.string == "x")
    }

    @Test func aServerThatComesBackIsFoundAgain() async throws {
        let certificates = try await TLSCertificates()
        let server = try await Self.start(certificates)
        defer { withExtendedLifetime(server) {} }
        var configuration = RedisConfiguration()
        configuration.patience = .hang
        let redis = try await RedisClient.connect(server.url, configuration: configuration)
        try await redis.ping()
        try await server.restart()
        try await redis.ping()
    }

    @Test func aNameIsCheckedLikeAnAddress() async throws {
        let certificates = try await TLSCertificates()
        let server = try await Self.start(certificates, wantsClients: false)
        defer { withExtendedLifetime(server) {} }
        guard case .tcp(_, let port) = server.url.endpoint else { return }
        var url = server.url
        url.endpoint = .tcp(host: "localhost", port: port)
        url.tls?.certificate = nil
        url.tls?.key = nil
        try await RedisClient.connect(url).ping()
        url.tls?.serverName = "127.0.0.1"
        try await RedisClient.connect(url).ping()
    }

    @Test func anotherNameIsRefusedAndTold() async throws {
        let certificates = try await TLSCertificates()
        let server = try await Self.start(certificates, certificate: "other-name")
        defer { withExtendedLifetime(server) {} }
        let text = try await Self.refusal(server)
        #expect(text.contains("its certificate is for elsewhere.example, and not for 127.0.0.1"))
        #expect(text.contains("--redis-server-name"))
        var url = server.url
        url.tls?.serverName = "elsewhere.example"
        try await RedisClient.connect(url).ping()
    }

    @Test func anExpiredCertificateIsRefused() async throws {
        let certificates = try await TLSCertificates()
        let server = try await Self.start(certificates, certificate: "expired")
        defer { withExtendedLifetime(server) {} }
        #expect(try await Self.refusal(server).contains("its certificate has expired: renew it on the server"))
    }

    @Test func whatTheClientShowsIsJudgedByTheServer() async throws {
        let certificates = try await TLSCertificates()
        let server = try await Self.start(certificates)
        defer { withExtendedLifetime(server) {} }
        let none = try await Self.refusal(server) {
            $0.tls?.certificate = nil
            $0.tls?.key = nil
        }
        #expect(none.contains("client certificate"))
        #expect(none.contains("--redis-cert"))
        let expired = try await Self.refusal(server) {
            $0.tls?.certificate = certificates["expired-client.pem"]
            $0.tls?.key = certificates["expired-client.key"]
        }
        #expect(expired.contains("expired-client.pem\" has expired"))
        let stranger = try await Self.refusal(server) {
            $0.tls?.certificate = certificates["stranger.pem"]
            $0.tls?.key = certificates["stranger.key"]
        }
        #expect(stranger.contains("does not accept this client's certificate"))
    }

    @Test func theAuthorityCountsAlone() async throws {
        let certificates = try await TLSCertificates()
        let server = try await Self.start(certificates)
        defer { withExtendedLifetime(server) {} }
        let wrong = try await Self.refusal(server) { $0.tls?.authorities = certificates["wrong-ca.pem"] }
        #expect(wrong.contains("not signed by an authority of \(certificates["wrong-ca.pem"])"))
        #expect(wrong.contains("--redis-ca"))
        let system = try await Self.refusal(server) { $0.tls?.authorities = nil }
        #expect(system.contains("not signed by an authority that this machine knows"))
    }

    @Test func filesThatAreNoneAreNamed() async throws {
        let certificates = try await TLSCertificates()
        let server = try await Self.start(certificates)
        defer { withExtendedLifetime(server) {} }
        let cases: [(String, (inout RedisTLS) -> Void)] = [
            ("cannot be read from /no/ca.pem", { $0.authorities = "/no/ca.pem" }),
            ("holds no certificate of an authority", { $0.authorities = certificates["ca.key"] }),
            ("cannot be read from /no/c.pem", { $0.certificate = "/no/c.pem" }),
            ("holds no certificate", { $0.certificate = certificates["client.key"] }),
            ("is not that of the certificate", { $0.key = certificates["server.key"] }),
            ("holds no private key without a passphrase", { $0.key = certificates["locked.key"] }),
            ("holds no private key", { $0.key = nil }),
            ("no certificate for it", { $0.certificate = nil }),
        ]
        for (expected, change) in cases {
            let text = try await Self.refusal(server) { if $0.tls != nil { change(&$0.tls!) } }
            #expect(text.contains(expected), "\(text)")
        }
    }

    @Test func eachProtocolIsToldFromTheOther() async throws {
        let certificates = try await TLSCertificates()
        let encrypted = try await Self.start(certificates)
        let plain = try await RedisServerProcess.start(.init(listener: .tcp))
        defer { withExtendedLifetime((encrypted, plain)) {} }
        let text = try await Self.refusal(encrypted) { $0.tls = nil }
        #expect(text.contains("rediss://"), "\(text)")
        // A Redis without TLS waits for the end of the line that it takes the first bytes for.
        var url = plain.url
        url.tls = certificates.client
        var configuration = RedisConfiguration()
        configuration.connectTimeout = .milliseconds(500)
        let error = await #expect(throws: RedisError.self) {
            try await RedisClient.connect(url, configuration: configuration)
        }
        #expect("\(try #require(error))".contains("TLS"))
    }
}

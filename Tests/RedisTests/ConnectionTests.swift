import Redis
import RedisTesting
import Testing

@Suite struct ConnectionTests {
    @Test func answersKeepTheirOrderUnderFiftyCallers() async throws {
        let server = try await RedisServerProcess.start()
        defer { withExtendedLifetime(server) {} }
        let redis = try await RedisClient.connect(server.url)
        try await within(.hang) {
            try await withThrowingTaskGroup(of: Void.self) { group in
                for caller in 0..<50 {
                    group.addTask {
                        for round in 0..<40 {
                            let word = "\(caller)-\(round)"
                            #expect(try await redis.send(RedisCommand("ECHO", .string(word))).string == word)
                            let many = try await redis.pipeline(
                                (0..<7).map { RedisCommand("ECHO", .string("\(word)-\($0)")) })
                            #expect(many.map(\.string) == (0..<7).map { "\(word)-\($0)" })
                        }
                    }
                }
                try await group.waitForAll()
            }
        }
    }

    @Test(arguments: [RedisServerProcess.Options.Listener.unixSocket, .tcp])
    func carriesLargeBinaryValuesBitForBit(_ listener: RedisServerProcess.Options.Listener) async throws {
        let server = try await RedisServerProcess.start(.init(listener: listener))
        defer { withExtendedLifetime(server) {} }
        let redis = try await RedisClient.connect(server.url)
        let bytes = (0..<(2 << 20)).map { UInt8(truncatingIfNeeded: $0 &* 2_654_435_761 >> 13) }
        let record = RedisBytes(bytes)
        try await within(.hang) {
            // Several at once, so that the socket fills up and its rest is written by the thread.
            try await withThrowingTaskGroup(of: Void.self) { group in
                for index in 0..<8 {
                    group.addTask {
                        try await redis.set("k\(index)", index.isMultiple(of: 2) ? .bytes(record) : .array(bytes))
                        #expect(try await redis.get("k\(index)") == record)
                    }
                }
                try await group.waitForAll()
            }
            #expect(try await redis.getRange("k0", first: 5, last: 9).array == Array(bytes[5...9]))
            #expect(try await redis.get("k-none") == nil)
        }
        let mixed = try await redis.pipeline([
            .set("small", "x"), .set("large", .bytes(record)), RedisCommand("STRLEN", "large"),
            RedisCommand("GET", "small"), RedisCommand("LPUSH", "small", "y"),
        ])
        #expect(mixed[2].integer == bytes.count)
        #expect(mixed[3].string == "x")
        #expect(mixed[4].error?.code == "WRONGTYPE")
    }

    @Test func takesALongPipeline() async throws {
        let server = try await RedisServerProcess.start()
        defer { withExtendedLifetime(server) {} }
        let redis = try await RedisClient.connect(server.url)
        let replies = try await within(.hang) {
            try await redis.pipeline((0..<100_000).map { RedisCommand("ECHO", .integer($0)) })
        }
        #expect(replies.enumerated().allSatisfy { $1.integer == $0 })
        #expect(try await redis.pipeline([]).isEmpty)
    }

    @Test func givesUpACommandThatIsNotAnswered() async throws {
        let server = try await RedisServerProcess.start()
        defer { withExtendedLifetime(server) {} }
        var configuration = RedisConfiguration()
        configuration.commandTimeout = .milliseconds(200)
        configuration.attempts = 1
        let redis = try await RedisClient.connect(server.url, configuration: configuration)
        await #expect {
            try await within(.hang) { try await redis.send(RedisCommand("BLPOP", "none", "0")) }
        } throws: {
            guard case RedisError.timedOut(_, "BLPOP", .milliseconds(200)) = $0 else { return false }
            return true
        }
        // The client goes on with a new connection; on a busy machine an answer may be late once more.
        try await eventually("an answer") { (try? await redis.ping()) != nil }

        try await server.freeze()
        await #expect(throws: RedisError.self) { try await redis.get("k") }
        server.thaw()
        try await eventually("an answer again") { (try? await redis.ping()) != nil }
    }

    @Test func tellsAWrongPasswordWithoutShowingIt() async throws {
        let server = try await RedisServerProcess.start(
            .init(password: "r1ght", users: ["user worker on >w0rker ~* &* +@all -hello -info"]))
        defer { withExtendedLifetime(server) {} }
        var url = server.url
        url.password = RedisPassword("wr0ngpass")
        do {
            _ = try await RedisClient.connect(url)
            Issue.record("a wrong password was accepted")
        } catch {
            guard case .authenticationFailed = error else {
                Issue.record("\(error)")
                return
            }
            #expect(!"\(error)".contains("wr0ngpass"))
        }
        url.password = nil
        await #expect {
            try await RedisClient.connect(url)
        } throws: {
            guard case RedisError.authenticationFailed = $0 else { return false }
            return true
        }
        url.user = "worker"
        url.password = RedisPassword("w0rker")
        // A user who may not ask HELLO is served all the same.
        let redis = try await RedisClient.connect(url)
        try await redis.set("k", "v")
        url = server.url
        url.database = 99
        await #expect {
            try await RedisClient.connect(url)
        } throws: {
            ($0 as? RedisError)?.serverCode == "ERR"
        }
        url.database = 3
        #expect(try await RedisClient.connect(url).get("k") == nil)
    }

    @Test(arguments: [
        [FakeServer.Step.read, .write("HTTP/1.1 400 Bad Request\r\n\r\n"), .hang],
        [.read, .write(FakeServer.welcome), .read, .write("nonsense\r\n"), .hang],
        [.read, .write(FakeServer.welcome), .read, .write("*2\r\n+a\r\n!?\r\n"), .hang],
        [.read, .write(FakeServer.welcome), .read, .write("$-7\r\n"), .hang],
        [.read, .write(FakeServer.welcome), .read, .write(":1\r\n:2\r\n"), .hang],
    ])
    func namesAServerThatTalksNonsense(_ steps: [FakeServer.Step]) async throws {
        let fake = try FakeServer(steps)
        await #expect {
            try await within(.hang) {
                let connection = try await RedisConnection.connect(to: fake.url)
                _ = try await connection.send(RedisCommand("GET", "k"))
                // A surplus answer shows when it comes, perhaps after the one that was asked for.
                _ = try await connection.send(RedisCommand("GET", "k"))
            }
        } throws: {
            switch $0 {
            case RedisError.protocolViolation: true
            case RedisError.connectionLost(_, mayHaveRun: false, let reason): reason.contains("nobody had asked")
            default: false
            }
        }
    }

    @Test func tellsWhatMayHaveRunWhenTheServerGoes() async throws {
        let fake = try FakeServer([.read, .write(FakeServer.welcome), .read, .write("$5\r\nab")])
        let connection = try await RedisConnection.connect(to: fake.url)
        await #expect {
            try await within(.hang) { try await connection.send(RedisCommand("INCRBY", "k", 1)) }
        } throws: {
            guard case RedisError.connectionLost(_, mayHaveRun: true, _) = $0 else { return false }
            return true
        }
        await #expect {
            try await connection.send(RedisCommand("INCRBY", "k", 1))
        } throws: {
            guard case RedisError.connectionLost(_, mayHaveRun: false, _) = $0 else { return false }
            return true
        }
    }

    @Test func limitsHowLongConnectingTakes() async throws {
        let silent = try FakeServer([.hang])
        var configuration = RedisConfiguration()
        configuration.connectTimeout = .milliseconds(200)
        let patient = configuration
        await #expect {
            try await within(.hang) { try await RedisClient.connect(silent.url, configuration: patient) }
        } throws: {
            guard case RedisError.cannotConnect = $0 else { return false }
            return true
        }
        let nobody = try RedisURL("unix:///tmp/kirie-there-is-no-such.sock")
        await #expect {
            try await RedisClient.connect(nobody)
        } throws: {
            guard case RedisError.cannotConnect(_, let reason) = $0 else { return false }
            return reason.contains("No such file")
        }
    }

    @Test func refusesMoreThanItMayKeep() async throws {
        let server = try await RedisServerProcess.start()
        defer { withExtendedLifetime(server) {} }
        var configuration = RedisConfiguration()
        configuration.maximumPendingBytes = 1 << 20
        configuration.commandTimeout = .seconds(3600)
        configuration.attempts = 1
        let connection = try await RedisConnection.connect(to: server.url, configuration: configuration)
        try await server.freeze()
        let large = RedisBytes(Array(repeating: 7, count: 8 << 20))
        let outcomes = try await within(.hang) {
            await withTaskGroup(of: String.self) { group in
                for _ in 0..<4 {
                    group.addTask {
                        do throws(RedisError) {
                            return try await connection.send(.set("k", .bytes(large))).string ?? ""
                        } catch {
                            if case .overloaded = error { return "refused" }
                            return "\(error)"
                        }
                    }
                }
                // One is on its way, however slowly, and only a server that goes on can answer it.
                var outcomes: [String] = []
                for await outcome in group {
                    outcomes.append(outcome)
                    if outcomes.count == 3 { server.thaw() }
                }
                return outcomes
            }
        }
        #expect(outcomes == ["refused", "refused", "refused", "OK"])
    }
}

import Synchronization

/// A Redis Cluster: one connection a node, commands sent to the owner of their key's slot, redirections followed.
///
/// A pipeline is split by node and its parts run at once; commands on the same slot keep their order, those on
/// different nodes have none.
final class ClusterRouter: Sendable {
    private typealias Address = ClusterMap.Address

    private struct State: Sendable {
        var map = ClusterMap()
        var nodes: [ClusterMap.Address: RedisNode] = [:]
        var refresh: Task<Result<Void, RedisError>, Never>?
        var readings = 0
        var isClosed = false
    }

    private struct Target: Hashable {
        let address: ClusterMap.Address
        let isAsking: Bool
    }

    private static let redirections = 16

    /// Where subscriptions are; those at a node that owns no slots any more leave it.
    let posts = ListeningPosts()
    private let seed: RedisNode
    private let configuration: RedisConfiguration
    /// Guards the map and the nodes.
    private let state = Mutex(State())

    init(seed: RedisNode) {
        self.seed = seed
        configuration = seed.configuration
    }

    /// A dead node is given up early, so that the map can name its successor; the router has the patience.
    private var nodeConfiguration: RedisConfiguration {
        var own = configuration
        own.patience = min(own.patience, .milliseconds(500))
        return own
    }

    /// The node that a command goes to.
    func node(for command: RedisCommand) throws(RedisError) -> RedisNode { node(try home(of: command).address) }

    /// Asks every node that owns slots, by a map that is read anew; where one is gone, whoever has taken its place.
    ///
    /// - Parameters:
    ///   - isSafe: whether a node may be asked twice.
    ///   - body: returns nil where the node is not, or not yet, to be asked.
    /// - Returns: one answer a node.
    /// - Throws: what `body` throws, but a broken connection only where a node that may have run it must not be asked
    ///   twice, or when the patience is over; ``RedisError/clusterUnavailable(reason:)`` where a node was no primary
    ///   for so long.
    func askPrimaries<Answer: Sendable>(
        isSafe: Bool, _ body: (RedisNode) async throws(RedisError) -> Answer?
    ) async throws(RedisError) -> [Answer] {
        let patience = Monotonic.now &+ Monotonic.nanoseconds(configuration.patience)
        var answers: [Address: Answer] = [:]
        var round = 0
        var failure: RedisError?
        while true {
            // Where no node gives a map, the one that we have says whom to complain of.
            if round > 0 || answers.isEmpty { try? await refresh() }
            let addresses = state.withLock { $0.map.primaries }
            guard let next = addresses.first(where: { answers[$0] == nil }) else {
                return addresses.compactMap { answers[$0] }
            }
            do throws(RedisError) {
                if let answer = try await body(node(next)) {
                    answers[next] = answer
                    continue
                }
            } catch {
                guard error.isConnectionFailure, isSafe || !error.mayHaveRun else { throw error }
                failure = error
            }
            guard Monotonic.now < patience else {
                throw failure ?? .clusterUnavailable(reason: "a node was no primary for \(round) attempts")
            }
            try await pause(round)
            round += 1
        }
    }

    /// A node on which to listen: another at each call, of a map that is read anew.
    ///
    /// A message is passed on to all nodes, so any of them does.
    func listeningPlace(_ turn: Int) async -> RedisURL {
        try? await refresh()
        let addresses = state.withLock { $0.map.primaries }
        guard !addresses.isEmpty else { return seed.url }
        return node(addresses[turn % addresses.count]).url
    }

    /// Sends a command that waits in the server to the owner of its key, and after it where it goes.
    func block(_ command: RedisCommand, for wait: Duration) async throws(RedisError) -> RedisValue {
        try await block([command], for: wait)[0]
    }

    /// The same for commands on one connection to the owner of the first one's key.
    func block(_ commands: [RedisCommand], for wait: Duration) async throws(RedisError) -> [RedisValue] {
        let isSafe = commands.allSatisfy { $0.repetition == .safe }
        let patience = Monotonic.now &+ Monotonic.nanoseconds(configuration.patience)
        var elsewhere: Address?
        var round = 0
        while true {
            do throws(RedisError) {
                let target = if let elsewhere { elsewhere } else { try home(of: commands[0]).address }
                let replies = try await node(target).blocking.run(commands, wait: wait)
                guard let error = replies[0].error, let redirection = ClusterMap.redirection(error, from: target)
                else { return replies }
                guard Monotonic.now < patience else { return replies }
                try? await refresh()
                if case .moved(let address) = redirection {
                    elsewhere = address
                } else {
                    // A slot on its way is waited for: a list that is not there yet may come to be at either end.
                    try await pause(round)
                    elsewhere = nil
                }
            } catch {
                if case .clusterUnavailable = error {} else if !error.isConnectionFailure { throw error }
                // Whether or not it may be sent again: the next command must not go to a node that is gone.
                try? await refresh()
                guard isSafe || !error.mayHaveRun, Monotonic.now < patience else { throw error }
                try await pause(round)
                elsewhere = nil
            }
            round += 1
        }
    }

    /// Reads the map from the first node that knows all of it, or most; callers that meet share one reading.
    func refresh() async throws(RedisError) {
        let task = state.withLock { state in
            if let running = state.refresh { return running }
            let task = Task.detached { [self] in
                let result = await readMap()
                endRefresh()
                return result
            }
            state.refresh = task
            return task
        }
        try await task.value.get()
    }

    func close() {
        let nodes = state.withLock { state in
            state.isClosed = true
            return Array(state.nodes.values)
        }
        for node in nodes { node.close() }
        seed.close()
    }

    func pipeline(_ commands: [RedisCommand]) async throws(RedisError) -> [RedisValue] {
        var replies: [RedisValue?] = Array(repeating: nil, count: commands.count)
        var sentElsewhere: [Int: Target] = [:]
        var waiting = Array(commands.indices)
        let patience = Monotonic.now &+ Monotonic.nanoseconds(configuration.patience)
        var round = 0
        while !waiting.isEmpty {
            guard round < Self.redirections || Monotonic.now < patience else {
                throw .clusterUnavailable(reason: "\(round) redirections and retries without an end")
            }
            var groups: [Target: [Int]] = [:]
            var homeless: [Int] = []
            for index in waiting {
                do throws(RedisError) {
                    let target = if let other = sentElsewhere[index] { other } else { try home(of: commands[index]) }
                    groups[target, default: []].append(index)
                } catch {
                    // While a cluster rearranges itself a slot may have no owner for a moment.
                    guard Monotonic.now < patience else { throw error }
                    homeless.append(index)
                }
            }
            let results = await run(groups, commands)
            waiting = homeless
            var mustRefresh = !homeless.isEmpty
            var mustPause = !homeless.isEmpty
            for (target, indices, result) in results {
                switch result {
                case .failure(let error):
                    // The node may be gone and another in its place; what cannot have run is asked of the new owner.
                    let isSafe = indices.allSatisfy { commands[$0].repetition == .safe }
                    guard error.isConnectionFailure, isSafe || !error.mayHaveRun, Monotonic.now < patience else {
                        throw error
                    }
                    for index in indices { sentElsewhere[index] = nil }
                    waiting += indices
                    mustRefresh = true
                    mustPause = true
                case .success(let values):
                    for (index, value) in zip(indices, values) {
                        guard let error = value.error,
                            let redirection = ClusterMap.redirection(error, from: target.address)
                        else {
                            replies[index] = value
                            continue
                        }
                        waiting.append(index)
                        switch redirection {
                        case .ask where commands[index].name.hasPrefix("FCALL"):
                            // A function reaches for more than the keys it names, and some of them have not moved yet: it
                            // runs when all have. The other node would let it begin with an empty slot.
                            sentElsewhere[index] = nil
                            mustRefresh = true
                            mustPause = true
                        case .ask(let address): sentElsewhere[index] = Target(address: address, isAsking: true)
                        case .moved(let address):
                            sentElsewhere[index] = Target(address: address, isAsking: false)
                            mustRefresh = true
                        case .later:
                            sentElsewhere[index] = nil
                            mustRefresh = true
                            mustPause = true
                        }
                    }
                }
            }
            waiting.sort()
            if mustPause { try await pause(round) }
            // A failed reading is no reason to give up: the redirection itself says where to go.
            if mustRefresh { try? await refresh() }
            round += 1
        }
        return replies.map { $0 ?? .null }
    }

    private func home(of command: RedisCommand) throws(RedisError) -> Target {
        let slot = command.slot
        guard let address = state.withLock({ $0.map.owner(of: slot) }) else {
            throw .clusterUnavailable(reason: "no node owns slot \(slot ?? 0)")
        }
        return Target(address: address, isAsking: false)
    }

    private func run(
        _ groups: [Target: [Int]], _ commands: [RedisCommand]
    ) async -> [(Target, [Int], Result<[RedisValue], RedisError>)] {
        if groups.count == 1, let (target, indices) = groups.first {
            return [(target, indices, await run(indices.map { commands[$0] }, at: target))]
        }
        return await withTaskGroup(of: (Target, [Int], Result<[RedisValue], RedisError>).self) { group in
            for (target, indices) in groups {
                let part = indices.map { commands[$0] }
                group.addTask { (target, indices, await self.run(part, at: target)) }
            }
            var results: [(Target, [Int], Result<[RedisValue], RedisError>)] = []
            for await result in group { results.append(result) }
            return results
        }
    }

    private func run(_ commands: [RedisCommand], at target: Target) async -> Result<[RedisValue], RedisError> {
        do throws(RedisError) {
            let node = node(target.address)
            guard target.isAsking else { return .success(try await node.pipeline(commands)) }
            // ASKING holds for the one command after it.
            let asking = RedisCommand("ASKING", repetition: .safe)
            let replies = try await node.pipeline(commands.flatMap { [asking, $0] })
            return .success(replies.indices.filter { $0 % 2 == 1 }.map { replies[$0] })
        } catch {
            return .failure(error)
        }
    }

    private func pause(_ round: Int) async throws(RedisError) {
        do {
            try await configuration.clock.sleep(for: configuration.backoff.delay(round))
        } catch {
            throw .cancelled
        }
    }

    private func node(_ address: Address) -> RedisNode {
        state.withLock { state in
            if let known = state.nodes[address] { return known }
            var url = seed.url
            url.endpoint = .tcp(host: address.host, port: address.port)
            let made = RedisNode(url, configuration: nodeConfiguration)
            if state.isClosed { made.close() }
            state.nodes[address] = made
            return made
        }
    }

    private func readMap() async -> Result<Void, RedisError> {
        var last = RedisError.clusterUnavailable(reason: "no node is known")
        var best: ClusterMap?
        for node in informants() {
            do throws(RedisError) {
                let reply = try await node.probe(RedisCommand("CLUSTER", "SLOTS"))
                if let error = reply.error { throw .server(error, command: "CLUSTER SLOTS") }
                var host = "127.0.0.1"
                if case .tcp(let name, _) = node.url.endpoint { host = name }
                guard let map = ClusterMap(reply, fallback: host) else {
                    throw .unexpectedReply(command: "CLUSTER SLOTS", expected: "ranges of slots", found: reply.kind)
                }
                guard !map.primaries.isEmpty else { throw .clusterUnavailable(reason: "no slot has an owner") }
                // A node that has just come may not know of all others yet.
                if map.coverage > best?.coverage ?? 0 { best = map }
                if map.coverage == HashSlot.count { break }
            } catch {
                last = error
            }
        }
        guard let best else { return .failure(last) }
        adopt(best)
        return .success(())
    }

    /// Whom to ask for the map: the nodes that own slots, beginning with another each time, as one may know no better; then
    /// their replicas, one of which may be the only one left; then who was named at the beginning, whose name may lead
    /// elsewhere by now.
    private func informants() -> [RedisNode] {
        let addresses = state.withLock { state in
            state.readings += 1
            let primaries = state.map.primaries
            let turn = primaries.isEmpty ? 0 : state.readings % primaries.count
            return primaries[turn...] + primaries[..<turn] + state.map.replicas
        }
        return addresses.map { node($0) } + [seed]
    }

    private func adopt(_ map: ClusterMap) {
        // A node without slots goes when the last command that still uses it has its answer.
        let gone = state.withLock { state in
            state.map = map
            let left = state.nodes.filter { !map.primaries.contains($0.key) }
            for address in left.keys { state.nodes[address] = nil }
            return left
        }
        withExtendedLifetime(gone) {}
        posts.leave(because: "its node owns no slots of the cluster any more") { connection in
            guard case .tcp(let host, let port) = connection.endpoint else { return false }
            return !map.primaries.contains(Address(host: host, port: port))
        }
        configuration.onEvent(.clusterMapRead(nodes: map.primaries.count))
    }

    private func endRefresh() { state.withLock { $0.refresh = nil } }
}

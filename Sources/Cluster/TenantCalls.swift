import Redis
public import Segmentation

/// Whether a picture may be named by its hash.
public enum ImagePresence: Sendable, Hashable {
    /// It is there.
    case stored
    /// Its file is not there; its embedding, where that is there, will do.
    case absent
    /// It has to be sent: to this tenant neither it nor its embedding is there.
    case unknown
}

/// Tenants: whose calls these are, what each may have, and what it has.
extension Broker {
    /// The revision of the functions that knows tenants.
    static let revisionOfTenants = 9

    /// The same cluster for a tenant: its jobs, its pictures.
    ///
    /// - Throws: ``ClusterError/functionsTooOld(found:needed:what:)`` where the functions in Redis know no tenants.
    public func serving(_ tenant: Tenant) async throws(ClusterError) -> Broker {
        guard !tenant.isStandard else { return scoped(to: tenant) }
        let found = try await FunctionsLibrary.loaded(in: redis)?.revision ?? 0
        guard found >= Self.revisionOfTenants else {
            throw .functionsTooOld(found: found, needed: Self.revisionOfTenants, what: "tenants")
        }
        return scoped(to: tenant)
    }

    /// The same, where the functions are known to be new enough.
    package func scoped(to tenant: Tenant) -> Broker {
        var broker = self
        broker.tenant = tenant
        return broker
    }

    /// What stands at the end of a call for a tenant.
    func mention(_ tenant: Tenant) -> [RedisArgument] { tenant.isStandard ? [] : [.string(tenant.name)] }

    /// Which of these images this tenant may name by their hash.
    public func presence(
        of images: [ImageDigest], for tenant: Tenant? = nil
    ) async throws(ClusterError) -> [ImagePresence] {
        guard let first = images.first else { return [] }
        let mention = mention(tenant ?? self.tenant)
        let questions = images.map { image in
            RedisCommand.call(
                "kirie_image", keys: [keys.prefix(partition(of: image))],
                [.string(image.hexadecimal)] + (mention.isEmpty ? [] : [.string("")] + mention), repetition: .safe)
        }
        // To ask keeps a picture longer, which is a write.
        let replies = try await makingRoom(for: partition(of: first)) { () throws(ClusterError) in
            try await callAll(questions)
        }
        return replies.map { $0.integer == 0 ? .stored : $0.integer == -2 ? .unknown : .absent }
    }

    // MARK: Terms

    /// Sets what a tenant may have; the default tenant has a weight and no quotas.
    public func set(_ terms: TenantTerms, for tenant: Tenant) async throws(ClusterError) {
        let home = tenant.home(among: partitionCount)
        _ = try await callAll(
            partitions.map { partition in
                var arguments: [RedisArgument] = [.string(tenant.name), .integer(terms.weight)]
                if partition == home, !tenant.isStandard {
                    arguments += [
                        .integer(terms.jobs ?? 0), .integer(terms.bytes ?? 0), .string("\(terms.jobsPerSecond ?? 0)"),
                    ]
                }
                return .call("kirie_tenant", keys: [keys.prefix(partition)], arguments, repetition: .safe)
            })
    }

    /// Forgets what was set for a tenant: it has the weight 1 and no quotas.
    public func forget(_ tenant: Tenant) async throws(ClusterError) {
        _ = try await callAll(
            partitions.map {
                .call("kirie_tenant", keys: [keys.prefix($0)], [.string(tenant.name), "0"], repetition: .safe)
            })
    }

    /// What was set, by tenant.
    public func terms() async throws(ClusterError) -> [Tenant: TenantTerms] {
        let replies = try await callAll(
            partitions.map { RedisCommand("HGETALL", .string("\(keys.prefix($0))quotas"), repetition: .safe) }
                + partitions.prefix(1).map {
                    RedisCommand("HGETALL", .string("\(keys.prefix($0))weights"), repetition: .safe)
                })
        var terms: [Tenant: TenantTerms] = [:]
        for (index, reply) in replies.enumerated() {
            for (name, value) in reply.fields ?? [:] {
                guard let tenant = Tenant(name) else { continue }
                if index < partitionCount {
                    terms[tenant] = value.string.flatMap { TenantTerms($0) }
                } else if tenant.isStandard, let weight = value.integer {
                    terms[tenant] = TenantTerms(weight: weight)
                }
            }
        }
        return terms
    }

    /// What was set for a tenant; nil where nothing was.
    public func terms(of tenant: Tenant) async throws(ClusterError) -> TenantTerms? {
        if tenant.isStandard { return try await terms()[tenant] }
        let home = keys.prefix(tenant.home(among: partitionCount))
        let reply = try await callAll([
            RedisCommand("HGET", .string("\(home)quotas"), .string(tenant.name), repetition: .safe)
        ])
        return reply.first?.string.flatMap { TenantTerms($0) }
    }

    /// What a tenant, other than the default one, has in all partitions: unfinished jobs, and bytes.
    public func holdings(of tenant: Tenant) async throws(ClusterError) -> (jobs: Int, bytes: Int) {
        let replies = try await callAll(
            ["jobs", "bytes"].flatMap { what in
                partitions.map {
                    RedisCommand(
                        "ZSCORE", .string("\(keys.prefix($0))tenants:\(what)"), .string(tenant.name),
                        repetition: .safe)
                }
            })
        let numbers = replies.map { $0.string.flatMap { Double($0) }.map { Int($0) } ?? 0 }
        return (numbers.prefix(partitionCount).reduce(0, +), numbers.dropFirst(partitionCount).reduce(0, +))
    }

    // MARK: Admission

    /// Asks each tenant's home for leave to submit its jobs; returns those that may not, and why.
    func refusals(of jobs: [Job]) async throws(ClusterError) -> [Int: ClusterError] {
        var refused: [Int: ClusterError] = [:]
        for (tenant, indices) in Dictionary(grouping: jobs.indices, by: { jobs[$0].tenant ?? self.tenant })
        where !tenant.isStandard {
            do throws(ClusterError) {
                let bytes = indices.reduce(0) { $0 + jobs[$1].line.count }
                let admitted = try await admit(indices.count, bytes: bytes, of: tenant)
                for index in indices.dropFirst(admitted) {
                    refused[index] = .backpressure(
                        reason: "tenant \(tenant) has its quota with the jobs before this one (kirie tenants list)",
                        retryAfter: .seconds(1))
                }
            } catch {
                guard case .backpressure = error, !error.isOutOfMemory else { throw error }
                for index in indices { refused[index] = error }
            }
        }
        return refused
    }

    /// How many of a tenant's jobs may be submitted.
    private func admit(_ jobs: Int, bytes: Int, of tenant: Tenant) async throws(ClusterError) -> Int {
        let home = tenant.home(among: partitionCount)
        var arguments: [RedisArgument] = [.string(tenant.name), .integer(jobs), .integer(bytes)]
        for _ in 0..<2 {
            let reply = try await call("kirie_admit", in: home, arguments)
            switch reply.array?.first?.string {
            case "free": return jobs
            case "admitted": return reply.array?.last?.integer ?? 0
            case "look":
                let held = try await holdings(of: tenant)
                arguments += [.integer(held.jobs), .integer(held.bytes)]
            default: break
            }
        }
        throw .unexpectedReply(function: "kirie_admit", expected: "how many jobs are admitted")
    }

    /// Gives back what was admitted and not accepted.
    func giveBack(_ jobs: [Job]) async throws(ClusterError) {
        for (tenant, jobs) in Dictionary(grouping: jobs, by: { $0.tenant ?? self.tenant }) where !tenant.isStandard {
            _ = try await call(
                "kirie_admit", in: tenant.home(among: partitionCount),
                [.string(tenant.name), .integer(-jobs.count), "0"])
        }
    }
}

import HTTPTypes
import Platform
import Redis

/// How many masks a key may ask for a day, counted in Redis for all gateways together.
struct Quotas: Sendable {
    let redis: RedisClient
    let namespace: String
    let keys: ApiKeys?

    /// Counts masks; refuses where the day's are used up.
    func take(_ masks: Int, _ caller: Caller) async throws {
        guard masks > 0, let limit = keys?.entries.first(where: { $0.name == caller.name })?.masksPerDay else { return }
        let now = try await redis.time()
        let day = now / 86_400_000_000
        let key = "\(namespace):quota:\(caller.name):\(day)"
        let replies = try await redis.pipeline([
            RedisCommand("INCRBY", .string(key), .integer(masks)),
            RedisCommand("EXPIRE", .string(key), .integer(172_800)),
        ])
        if let used = replies.first?.integer, used > limit {
            // What is refused is not counted.
            _ = try await redis.send(RedisCommand("DECRBY", .string(key), .integer(masks)))
            GatewayMetrics.refused("quota")
            let rest = 86_400 - now / 1_000_000 % 86_400
            throw Problem(
                .tooManyRequests, "quota", "the key \(caller.name) has its \(limit) masks of today (UTC)",
                retryAfter: .seconds(rest))
        }
    }
}

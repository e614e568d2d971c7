package import JSON

/// What `kirie plan` says of a forecast.
package struct PlanReport: Sendable {
    package let plan: Plan
    package let forecast: Forecast
    package let needs: Needs
    package let seed: UInt64
    package let replications: Int

    package init(_ forecaster: Forecaster, _ forecast: Forecast) {
        plan = forecaster.plan
        seed = forecaster.seed
        replications = forecaster.replications
        self.forecast = forecast
        needs = plan.needs(forecast)
    }

    // MARK: For people

    /// Lines of text.
    package var lines: [String] {
        var lines = ["\(forecast.counts.text(plan)); busiest hour \(forecast.hour):00, seed \(seed)"]
        for lane in PlanLane.allCases {
            guard let seen = forecast.lanes[lane.rawValue] else { continue }
            lines.append(
                "\(lane.name): \(Figure.number(seen.offered)) jobs a second, p50 \(Figure.milliseconds(seen.p50.value)), "
                    + "p95 \(Figure.milliseconds(seen.p95.value)) ± \(Figure.number(seen.p95.spread)), "
                    + "p99 \(Figure.milliseconds(seen.p99.value)); \(Figure.percent(seen.new)) waited for an encode")
        }
        if forecast.isOverloaded { lines.append("it falls behind: waits grow for as long as this load lasts") }
        for verdict in forecast.verdicts {
            let binds = verdict.target.text == forecast.binding?.target.text ? "; the one that binds" : ""
            lines.append(
                "\(verdict.holds ? "met" : "NOT MET"): \(verdict.target.text) "
                    + "(\(Figure.milliseconds(verdict.wait.value)) ± \(Figure.number(verdict.wait.spread))\(binds))")
        }
        for use in forecast.uses {
            let first = use.name == forecast.bottleneck?.name ? "; the first bottleneck" : ""
            let cores = use.cores > 0 ? ", \(Figure.percent(use.cores)) of the cores" : ""
            lines.append("\(use.name): \(Figure.percent(use.busy)) busy\(cores)\(machines(use))\(first)")
        }
        lines.append(
            "Redis's memory: \(Figure.bytes(needs.redis)) (embeddings \(Figure.bytes(needs.embeddings)), "
                + "pictures \(Figure.bytes(needs.pictures)), results \(Figure.bytes(needs.results)), "
                + "queues \(Figure.bytes(needs.queues)))")
        for (index, model) in plan.models.enumerated() {
            lines.append(
                "memory of a worker of \(model.name): encoder \(Figure.bytes(needs.encoder[index])), "
                    + "decoder \(Figure.bytes(needs.decoder[index]))")
        }
        lines.append(
            "network: \(Figure.number(forecast.bytesIn * 8e-9)) Gbit/s into Redis, "
                + "\(Figure.number(forecast.bytesOut * 8e-9)) out of it")
        lines.append(
            "money: \(Figure.number(needs.pricePerHour)) \(plan.currency) an hour, "
                + "\(Figure.number(needs.pricePerMonth)) a month")
        return lines
    }

    private func machines(_ use: Forecast.Use) -> String {
        guard !plan.isShared, use.role != .redis else { return "" }
        let counts = forecast.counts
        let workers =
            switch use.role {
            case .encoder: counts.encoders[use.model]
            case .decoder: counts.decoders[use.model]
            case .redis, .gateway: counts.gateways
            }
        let each = plan.each(use.role)
        let machines = (workers + each - 1) / each
        return " (\(machines) machine\(machines == 1 ? "" : "s"))"
    }

    // MARK: For programs

    /// One object.
    package var json: JSONValue {
        let counts = forecast.counts
        return .object([
            ("seed", .integer(Int(clamping: seed))), ("replications", .integer(replications)),
            ("hour", .integer(forecast.hour)), ("load", .number(forecast.load)),
            ("holds", .bool(forecast.holds)), ("overloaded", .bool(forecast.isOverloaded)),
            (
                "models",
                .array(
                    plan.models.indices.map { index in
                        .object([
                            ("model", .string(plan.models[index].name)), ("encoders", .integer(counts.encoders[index])),
                            ("decoders", .integer(counts.decoders[index])),
                            ("encoder_bytes", Self.rounded(needs.encoder[index])),
                            ("decoder_bytes", Self.rounded(needs.decoder[index])),
                        ])
                    })
            ),
            ("redis_shards", .integer(counts.shards)), ("gateways", .integer(counts.gateways)),
            ("waits", .object(PlanLane.allCases.compactMap(waits))),
            ("targets", .array(forecast.verdicts.map(Self.json))),
            ("binding", JSONValue(forecast.binding?.target.text)),
            ("bottleneck", JSONValue(forecast.bottleneck?.name)),
            (
                "uses",
                .array(
                    forecast.uses.map {
                        .object([
                            ("of", .string($0.name)), ("busy", Self.number($0.busy)), ("cores", Self.number($0.cores)),
                        ])
                    })
            ),
            (
                "redis_bytes",
                .object([
                    ("embeddings", Self.rounded(needs.embeddings)), ("pictures", Self.rounded(needs.pictures)),
                    ("results", Self.rounded(needs.results)), ("queues", Self.rounded(needs.queues)),
                    ("all", Self.rounded(needs.redis)),
                ])
            ),
            (
                "a_second",
                .object([
                    ("encodes", Self.number(forecast.encodes)), ("fetches", Self.number(forecast.fetches)),
                    ("takes_and_looks", Self.number(forecast.redisCalls)),
                    ("looks_for_a_take", Self.number(forecast.idleLooks)),
                    ("jobs_of_a_take", Self.number(forecast.jobsOfTake)),
                    ("bytes_into_redis", Self.rounded(forecast.bytesIn)),
                    ("bytes_out_of_redis", Self.rounded(forecast.bytesOut)),
                ])
            ),
            ("answers_per_second", Self.number(forecast.answers)),
            ("jobs_in_the_cluster", Self.number(forecast.inSystem)), ("workers_killed", .integer(forecast.kills)),
            (
                "machines",
                .object(
                    Plan.Role.allCases.compactMap { role in
                        needs.machines[role].map { (role.rawValue, JSONValue.integer($0)) }
                    })
            ),
            (
                "money",
                .object([
                    ("currency", .string(plan.currency)), ("an_hour", Self.number(needs.pricePerHour)),
                    ("a_month", Self.number(needs.pricePerMonth)), ("network_an_hour", Self.number(needs.network)),
                ])
            ),
        ])
    }

    private func waits(_ lane: PlanLane) -> JSONValue.Member? {
        guard let seen = forecast.lanes[lane.rawValue] else { return nil }
        func both(_ estimate: Estimate) -> JSONValue {
            .object([("ms", Self.number(estimate.value)), ("spread", Self.number(estimate.spread))])
        }
        return (
            lane.name,
            .object([
                ("offered_per_second", Self.number(seen.offered)), ("answered_per_second", Self.number(seen.answered)),
                ("p50", both(seen.p50)), ("p95", both(seen.p95)), ("p99", both(seen.p99)),
                (
                    "by_redis",
                    .object([
                        ("p50_ms", Self.number(seen.byRedis.p50)), ("p95_ms", Self.number(seen.byRedis.p95)),
                    ])
                ),
                ("waited_for_an_encode", Self.number(seen.new)),
            ])
        )
    }

    private static func json(_ verdict: Forecast.Verdict) -> JSONValue {
        .object([
            ("lane", .string(verdict.target.lane.name)), ("percentile", .number(verdict.target.percentile)),
            ("pictures", .string(verdict.target.jobs.rawValue)), ("ms", .number(verdict.target.milliseconds)),
            ("forecast_ms", number(verdict.wait.value)), ("spread", number(verdict.wait.spread)),
            ("holds", .bool(verdict.holds)),
        ])
    }

    private static func number(_ value: Double) -> JSONValue { .number((value * 10_000).rounded() / 10_000) }

    private static func rounded(_ value: Double) -> JSONValue {
        value.isFinite ? .integer(Int(min(value, 9e18).rounded())) : .null
    }
}

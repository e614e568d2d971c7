import Planning

/// A plan and its figures, in memory.
enum PlanFixture {
    static let machines = """
        "machines": {"encoder": {"cores": 1, "memory_gib": 4, "price_per_hour": 0.05},
                     "decoder": {"cores": 1, "memory_gib": 4, "price_per_hour": 0.05},
                     "redis": {"cores": 2, "memory_gib": 8, "price_per_hour": 0.1}}
        """

    static let usual = """
        {"models": [{"bench": ["encode.json", "decode.json"], "embedding_values": 73728}],
         "load": {"interactive": {"pictures_per_day": 345600, "new": 1, "jobs_a_picture": {"mean": 4},
                                  "seconds_between_jobs": 1}},
         "pictures": [{"bytes": 100000, "megapixels": 0.8}],
         "workers": {"partitions": 16}, \(machines)}
        """

    static let files = [
        "encode.json":
            #"{"part":"encode","model":"tiny","precision":"fp32","threads":1,"runs":5,"median_ms":200,"min_ms":190,"max_ms":260,"peak_rss_mb":80}"#,
        "decode.json":
            #"{"part":"decode","model":"tiny","precision":"fp32","threads":1,"runs":5,"median_ms":2,"min_ms":1.9,"max_ms":3,"peak_rss_mb":40}"#,
    ]

    static func plan(_ text: String, files: [String: String] = files) throws -> Plan {
        try PlanReader { path in
            if path == "plan.json" { return Array(text.utf8) }
            guard let file = files[path] else { throw Missing(path: path) }
            return Array(file.utf8)
        }.plan("plan.json")
    }

    struct Missing: Error { let path: String }
}

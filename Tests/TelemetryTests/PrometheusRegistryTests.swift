import CoreMetrics
import Glibc
import Telemetry
import Testing

@Suite struct PrometheusRegistryTests {
    @Test func everyKindIsWrittenAsPrometheusReadsIt() {
        let registry = PrometheusRegistry(help: ["kirie_jobs_total": "Jobs, by outcome."])
        Counter(label: "kirie_jobs_total", dimensions: [("outcome", "done")], factory: registry).increment(by: 3)
        Counter(label: "kirie_jobs_total", dimensions: [("outcome", "done")], factory: registry).increment()
        Counter(label: "kirie_jobs_total", dimensions: [("outcome", "a \"b\"\\\n")], factory: registry).increment()
        Gauge(label: "kirie_load", factory: registry).record(2)
        let timer = Timer(label: "kirie_decode_seconds", factory: registry)
        timer.recordNanoseconds(1_500_000)
        timer.recordNanoseconds(500_000_000_000)
        let text = registry.exposition()
        #expect(
            text.contains(
                """
                # HELP kirie_jobs_total Jobs, by outcome.
                # TYPE kirie_jobs_total counter
                kirie_jobs_total{outcome="a \\"b\\"\\\\\\n"} 1
                kirie_jobs_total{outcome="done"} 4

                """), "\(text)")
        #expect(text.contains("# HELP kirie_load (undocumented)\n# TYPE kirie_load gauge\nkirie_load 2.0\n"))
        #expect(text.contains("kirie_decode_seconds_bucket{le=\"0.001\"} 0\n"))
        #expect(text.contains("kirie_decode_seconds_bucket{le=\"0.0025\"} 1\n"))
        #expect(text.contains("kirie_decode_seconds_bucket{le=\"120.0\"} 1\n"))
        #expect(text.contains("kirie_decode_seconds_bucket{le=\"+Inf\"} 2\n"))
        #expect(text.contains("kirie_decode_seconds_count 2\n") && text.contains("kirie_decode_seconds_sum 500.0015\n"))
    }

    @Test func aNameOfTwoKindsKeepsTheFirst() {
        let registry = PrometheusRegistry()
        Counter(label: "kirie_x", factory: registry).increment()
        Gauge(label: "kirie_x", factory: registry).record(9)
        #expect(registry.exposition().hasSuffix("# TYPE kirie_x counter\nkirie_x 1\n"))
    }

    @Test func bucketsGoByTheUnitOfTheName() {
        let registry = PrometheusRegistry()
        for jobs in [1, 3, 16, 16, 64] {
            Recorder(label: "kirie_batch_jobs", aggregate: true, factory: registry).record(jobs)
        }
        Recorder(label: "kirie_record_bytes", aggregate: true, factory: registry).record(2_097_152)
        Recorder(label: "kirie_fill_ratio", aggregate: true, factory: registry).record(0.25)
        Recorder(label: "kirie_pause_seconds", aggregate: true, factory: registry).record(0.0003)
        let text = registry.exposition()
        for line in [
            "kirie_batch_jobs_bucket{le=\"1.0\"} 1", "kirie_batch_jobs_bucket{le=\"4.0\"} 2",
            "kirie_batch_jobs_bucket{le=\"16.0\"} 4", "kirie_batch_jobs_bucket{le=\"64.0\"} 5",
            "kirie_batch_jobs_bucket{le=\"1024.0\"} 5", "kirie_batch_jobs_sum 100.0",
            "kirie_record_bytes_bucket{le=\"1048576.0\"} 0", "kirie_record_bytes_bucket{le=\"4194304.0\"} 1",
            "kirie_fill_ratio_bucket{le=\"0.2\"} 0", "kirie_fill_ratio_bucket{le=\"0.3\"} 1",
            "kirie_pause_seconds_bucket{le=\"0.00025\"} 0", "kirie_pause_seconds_bucket{le=\"0.0005\"} 1",
        ] {
            #expect(text.contains(line + "\n"), "\(line) is not in \(text)")
        }
    }

    @Test func whateverTheNamesAndValuesAreTheFormatHolds() {
        let registry = PrometheusRegistry(help: ["kirie_odd": "Two\nlines, a \\ and a \"word\"."])
        Gauge(label: "kirie_odd", factory: registry).record(Double.infinity)
        Gauge(label: "kirie_none", factory: registry).record(Double.nan)
        Gauge(label: "kirie_below", factory: registry).record(-Double.infinity)
        Gauge(label: "http.server requests", dimensions: [("9.b", "x"), ("a", "y")], factory: registry).record(1)
        Gauge(label: "http.server requests", dimensions: [("a", "y"), ("9.b", "x")], factory: registry).record(2)
        Counter(label: "kirie_breaks_total", dimensions: [("at", "a\r\nb")], factory: registry).increment()
        Timer(label: "kirie_x_seconds", dimensions: [("le", "9")], factory: registry).recordNanoseconds(1)
        let text = registry.exposition()
        for line in [
            #"# HELP kirie_odd Two\nlines, a \\ and a "word"."#, "kirie_odd +Inf", "kirie_none NaN", "kirie_below -Inf",
            #"http_server_requests{_9_b="x",a="y"} 2.0"#, "kirie_breaks_total{at=\"a\r\\nb\"} 1",
            #"kirie_x_seconds_bucket{_le="9",le="0.00025"} 1"#, #"kirie_x_seconds_count{_le="9"} 1"#,
        ] {
            #expect(text.contains(line + "\n"), "\(line) is not in \(text)")
        }
        let names = text.split(separator: "\n").filter { $0.hasPrefix("# TYPE ") }
        #expect(Set(names).count == names.count && names.count == 6)
    }

    @Test func whatOthersKeepIsWrittenAmongTheRest() {
        let registry = PrometheusRegistry(help: ["kirie_m_total": "Ours."])
        Counter(label: "kirie_m_total", factory: registry).increment()
        var jobs = CollectedMetric(.counter, "kirie_a_total", "Jobs.")
        jobs.add(7, labels: [("lane", "bulk"), ("a", "\"")])
        var times = CollectedMetric(.histogram, "kirie_z_seconds", "Times.")
        times.add(upTo: [(0.5, 2), (1, 3)], total: 4, sum: 9.5, labels: [("lane", "bulk")])
        let text = registry.exposition(including: [
            times, jobs, CollectedMetric(.gauge, "kirie_m_total", "A name that is in use.", value: 9),
            CollectedMetric(.gauge, "kirie_none", "Without a value."),
        ])
        #expect(
            text == """
                # HELP kirie_a_total Jobs.
                # TYPE kirie_a_total counter
                kirie_a_total{a="\\"",lane="bulk"} 7.0
                # HELP kirie_m_total Ours.
                # TYPE kirie_m_total counter
                kirie_m_total 1
                # HELP kirie_none Without a value.
                # TYPE kirie_none gauge
                # HELP kirie_z_seconds Times.
                # TYPE kirie_z_seconds histogram
                kirie_z_seconds_bucket{lane="bulk",le="0.5"} 2
                kirie_z_seconds_bucket{lane="bulk",le="1.0"} 3
                kirie_z_seconds_bucket{lane="bulk",le="+Inf"} 4
                kirie_z_seconds_sum{lane="bulk"} 9.5
                kirie_z_seconds_count{lane="bulk"} 4

                """, "\(text)")
    }

    @Test func theKernelTellsOfThisProcess() throws {
        let text = PrometheusRegistry().exposition(including: ProcessMetrics.collect())
        func value(_ name: String) throws -> Double {
            let line = try #require(text.split(separator: "\n").first { $0.hasPrefix("\(name) ") })
            return try #require(Double(line.split(separator: " ")[1]))
        }
        #expect(try value("process_cpu_seconds_total") > 0)
        #expect(try value("process_resident_memory_bytes") > 1_000_000)
        #expect(try value("process_open_fds") >= 3)
        #expect(try value("process_max_fds") >= value("process_open_fds"))
        // It began after 2020 and before now.
        let start = try value("process_start_time_seconds")
        #expect(start > 1_577_836_800 && start <= Double(time(nil)) + 1)
    }
}

import CoreMetrics
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
        #expect(text.contains("# TYPE kirie_load gauge\nkirie_load 2.0\n"))
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
        #expect(registry.exposition() == "# TYPE kirie_x counter\nkirie_x 1\n")
    }
}

import Cluster
import Testing

@Suite struct QueueStatisticsTests {
    @Test func repliesOfPartitionsAreSummed() {
        let statistics = QueueStatistics(partitions: [
            ["queued:bulk": "3", "lag:decode:bulk": "4", "age_ms:decode:bulk": "20", "done:bulk": "7", "joins": "2"],
            [
                "queued:bulk": "2", "lag:decode:bulk": "1", "age_ms:decode:bulk": "90", "rate_in:bulk": "1.5",
                "joins": "1",
            ],
            [
                "parked:interactive": "5", "encode_in_work:interactive": "1", "lag:encode:bulk": "",
                "age_ms:parked": "400",
            ],
        ])
        let bulk = statistics.stream(.decode, .bulk)
        #expect(bulk.queued == 5 && bulk.lag == 5 && bulk.oldest == .milliseconds(90) && bulk.rateIn == 1.5)
        #expect(statistics.stream(.encode, .interactive).parked == 5)
        #expect(statistics.stream(.encode, .bulk).lag == nil)
        #expect(statistics.total("joins") == 3 && statistics.total("done:bulk") == 7)
        #expect(statistics.oldestParked == .milliseconds(400))
        #expect(statistics.unfinished == 10)
    }

    @Test func quantilesLieInTheirBuckets() throws {
        // 90 jobs in 2^10 … 2^10.25 microseconds, 10 in 2^16 … 2^16.25.
        let statistics = QueueStatistics(partitions: [["hist:wait:bulk:40": "90", "hist:wait:bulk:64": "10"]])
        let wait = statistics.stream(.decode, .bulk).wait
        #expect(wait.total == 100)
        let median = try #require(wait.quantile(0.5))
        #expect(median >= .microseconds(1024) && median < .microseconds(1218))
        let high = try #require(wait.quantile(0.95))
        #expect(high >= .microseconds(65_536) && high < .microseconds(77_936))
        #expect(DurationHistogram().quantile(0.5) == nil)
        #expect(wait.since(wait).total == 0)
        // At a power of two buckets meet: 2^10 microseconds are below none of it, 2^11 below the first 90.
        #expect([10, 11, 16, 17].map { wait.count(below: $0) } == [0, 90, 90, 100])
        let (least, most) = (90 * 1024 + 10 * 65_536, 90 * 1218 + 10 * 77_936)
        #expect(wait.sum >= .microseconds(least) && wait.sum <= .microseconds(most))
    }
}

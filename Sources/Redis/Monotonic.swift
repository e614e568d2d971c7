import Glibc

/// The clock that command timeouts run on: nanoseconds that no change of the date moves.
package enum Monotonic {
    /// Nanoseconds since the machine started.
    package static var now: UInt64 {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return UInt64(time.tv_sec) &* 1_000_000_000 &+ UInt64(time.tv_nsec)
    }

    /// A duration as nanoseconds, at most 292 years.
    package static func nanoseconds(_ duration: Duration) -> UInt64 {
        let (seconds, attoseconds) = duration.components
        guard seconds >= 0, attoseconds >= 0 else { return 0 }
        let (whole, overflow) = UInt64(seconds).multipliedReportingOverflow(by: 1_000_000_000)
        return overflow || whole > UInt64(Int64.max) / 2
            ? UInt64(Int64.max) / 2 : whole + UInt64(attoseconds / 1_000_000_000)
    }
}

extension timeval {
    init(duration: Duration) {
        let nanoseconds = Monotonic.nanoseconds(duration)
        self.init(tv_sec: Int(nanoseconds / 1_000_000_000), tv_usec: Int(nanoseconds % 1_000_000_000 / 1000))
    }
}

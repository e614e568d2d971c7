import Logging

/// A job that came with W3C's trace context, as workers log it: <https://www.w3.org/TR/trace-context/>.
enum TracedJob {
    /// Writes a line.
    ///
    /// - Parameters:
    ///   - what: was done for it.
    ///   - job: its id.
    ///   - trace: its `traceparent`.
    ///   - time: what was done took so long, for all that were done together.
    ///   - logger: of the worker.
    static func log(_ what: Logger.Message, _ job: String, _ trace: String, _ time: Duration, to logger: Logger) {
        logger.info(
            what,
            metadata: [
                "job": "\(job)", "trace": "\(trace)", "ms": "\((time / .microseconds(1)).rounded() / 1000)",
            ])
    }
}

import Platform
import ServiceLifecycle

/// What the service manager is told of a role: that it is ready, that it is alive, that it drains.
///
/// Runs last in its group, so that the end of service is said when the drain begins.
struct ManagedService: Service {
    let manager: ServiceManager
    /// How the role is, for people; nil while it is not ready yet.
    let status: @Sendable () -> String?
    /// Whether the loop that proves the role alive goes round.
    let isAlive: @Sendable () -> Bool

    func run() async throws {
        guard manager.isThere else { return try await gracefulShutdown() }
        await withGracefulShutdownHandler {
            await cancelWhenGracefulShutdown { await report() }
        } onGracefulShutdown: {
            manager.tell(.stopping, .status("draining"))
        }
    }

    private func report() async {
        // Half of the time, as sd_watchdog_enabled(3) asks; nobody needs to hear of a service more often than each second.
        let pause = max(.milliseconds(50), min(.seconds(1), (manager.watchdogTime ?? .seconds(2)) / 2))
        var said: String?
        while !Task.isCancelled {
            if manager.watchdogTime != nil, isAlive() { manager.tell(.alive) }
            if let status = status(), status != said {
                manager.tell(.ready, .status(status))
                said = status
            }
            try? await Task.sleep(for: pause)
        }
    }
}

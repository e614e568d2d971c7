import Platform
import Redis
import Synchronization

/// Takes work of one kind from the cluster and has it done, some pieces at a time, until it is told to drain.
///
/// ```swift
/// let loop = WorkLoop(
///     source, broker: broker, settings: WorkLoopSettings(concurrency: 2), members: { ["encoder-1", "encoder-2"] })
/// async let running: Void = loop.run()
/// await toldToStop()  // SIGTERM
/// loop.drain()
/// await running
/// ```
/// It renews the leases that it holds, waits for a message where there is nothing to do, shares the partitions with its
/// peers by ``RendezvousHashing``, helps out where they are behind, and does its part of the housekeeping. Redis may be
/// gone for any time: it goes on when Redis is back.
public final class WorkLoop<Source: WorkSource>: Sendable {
    private let source: Source
    private let broker: Broker
    private let settings: WorkLoopSettings
    private let members: @Sendable () async throws -> [String]
    private let onError: @Sendable (any Error) -> Void
    private let leases = LeaseBook()
    private let scheduler: TakeScheduler
    private let finished = Atomic<Int>(0)
    /// When something passed last.
    private let passed = Mutex<ContinuousClock.Instant?>(nil)

    /// A loop that takes nothing before ``run()``.
    ///
    /// - Parameters:
    ///   - source: the kind of work, and what does it.
    ///   - broker: the cluster that the work is taken from.
    ///   - settings: how much is done at a time, and the times of leases and polls.
    ///   - members: the names of the workers that share the partitions, this one among them.
    ///   - onError: told about what went wrong and was gone on from: for logs.
    public init(
        _ source: Source, broker: Broker, settings: WorkLoopSettings = WorkLoopSettings(),
        members: @escaping @Sendable () async throws -> [String],
        onError: @escaping @Sendable (any Error) -> Void = { _ in }
    ) {
        self.source = source
        self.broker = broker
        self.settings = settings
        self.members = members
        self.onError = onError
        scheduler = TakeScheduler(
            TakeSchedule(
                partitions: broker.partitionCount, poll: settings.poll, patience: settings.patience,
                now: ContinuousClock.now), turns: source.turns)
    }

    /// How many pieces of work are held now.
    public var load: Int { leases.count }

    /// How many pieces of work were finished since the start.
    public var completed: Int { finished.load(ordering: .relaxed) }

    /// The partitions that are this worker's own now.
    public var ownedPartitions: Set<Partition> { scheduler.ownedPartitions }

    /// Takes nothing more; ``run()`` returns when what is held is done, or handed back after the limit.
    public func drain() { scheduler.close() }

    /// Works until it is drained; to cancel its task is to drain it.
    public func run() async {
        await withTaskGroup(of: Void.self) { background in
            background.addTask { await self.listen() }
            background.addTask { await self.every(self.settings.lease / 3) { try await self.renew() } }
            background.addTask { await self.every(self.settings.membership) { try await self.share() } }
            background.addTask { await self.keepHouse() }
            background.addTask { await self.endDrain() }
            await withTaskCancellationHandler {
                await withTaskGroup(of: Void.self) { slots in
                    let count = max(1, settings.concurrency)
                    for number in 0..<count {
                        let thread = OwnThread()
                        let giving = settings.passing > 0 ? OwnThread(niceness: 5) : thread
                        let isSpare = number > 0 && number >= count - settings.spare
                        let isFree = settings.passing > 0 && number > 0 && number == count - settings.spare - 1
                        slots.addTask(executorPreference: thread) {
                            await self.work(on: thread, giving: giving, isSpare: isSpare, isFree: isFree)
                        }
                    }
                    for _ in 0..<settings.passing {
                        let thread = OwnThread()
                        slots.addTask(executorPreference: thread) { await self.letPass(on: thread) }
                    }
                    await slots.waitForAll()
                }
            } onCancel: {
                scheduler.close()
            }
            background.cancelAll()
        }
    }

    // MARK: Work

    /// Works on a thread, and on one that gives way where others pass the work.
    ///
    /// A spare slot takes nothing ahead beside others' clicks; one is free for those that pass as long as there are any.
    private func work(on thread: OwnThread, giving: OwnThread, isSpare: Bool, isFree: Bool) async {
        var failures = 0
        while true {
            while isSpare && source.turns?.isShared ?? false || isFree && somethingPasses, !scheduler.isClosed,
                !Task.isCancelled
            {
                try? await Task.sleep(for: .milliseconds(50))
            }
            guard let (partition, age) = await scheduler.next() else { return }
            do {
                let taken = try await source.take(in: partition, lease: settings.lease, age: age)
                if let turns = source.turns { scheduler.note(turns.hint(for: partition), for: partition) }
                switch taken {
                case .idle: break
                case .again: scheduler.lookAgain(partition)
                case .later(let pause): scheduler.lookAgain(partition, after: pause)
                case .work(let work, let isLast):
                    if !isLast { scheduler.lookAgain(partition) }
                    await perform(work, on: source.isPassed(work) ? giving : thread)
                }
                failures = 0
            } catch {
                onError(error)
                scheduler.endTake(in: partition)
                scheduler.lookAgain(partition)
                // The client has its own backoff for lost connections; this is for answers that are errors.
                failures = min(failures + 1, 6)
                try? await Task.sleep(for: .milliseconds(25 << failures))
            }
        }
    }

    /// Whether something passed a moment ago.
    private var somethingPasses: Bool { passed.withLock { $0.map { .now - $0 < .seconds(1) } } ?? false }

    /// Does what comes for tenants that take less than their share, beside what the other slots do.
    private func letPass(on thread: OwnThread) async {
        while let partition = await scheduler.nextToPass() {
            do {
                let taken = try await source.takeAhead(in: partition, lease: settings.lease)
                guard case .work(let work, let isLast) = taken else { continue }
                passed.withLock { $0 = .now }
                // Another may have the next one pass meanwhile.
                if !isLast { scheduler.passAgain(partition) }
                await perform(work, on: thread)
            } catch {
                onError(error)
                // Whoever looks there next takes it.
                scheduler.lookAgain(partition)
                try? await Task.sleep(for: .milliseconds(50))
            }
        }
    }

    private func perform(_ work: Source.Work, on thread: OwnThread) async {
        let task = Task(executorPreference: thread) { () async throws -> Void in try await self.source.perform(work) }
        let entry = leases.add(source.leases(of: work)) { task.cancel() }
        defer { leases.remove(entry) }
        do { try await task.value } catch { onError(error) }
        finished.wrappingAdd(1, ordering: .relaxed)
    }

    // MARK: Background

    /// Hands back what is still held when the time for the drain is over, and has it stopped.
    private func endDrain() async {
        await scheduler.waitUntilClosed()
        var pause = settings.drainLimit
        while (try? await Task.sleep(for: pause)) != nil {
            let names = leases.names
            do { try await broker.handBack(names) } catch { onError(error) }
            for name in names { leases.lose(name) }
            // A take that was under way when the drain began may bring more.
            pause = .milliseconds(100)
        }
    }

    private func renew() async throws {
        let names = leases.names
        guard !names.isEmpty else { return }
        for (name, renewal) in zip(names, try await broker.renew(names, lease: settings.lease)) {
            switch renewal {
            case .renewed, .unwanted: break
            case .lost, .ended: leases.lose(name)
            }
        }
    }

    private func share() async throws {
        let names = Set(try await members()).union([source.worker])
        let own = RendezvousHashing.partitions(of: source.worker, among: names.sorted(), count: broker.partitionCount)
        scheduler.own(Set(own))
    }

    /// Its own partitions twice a second; all of them now and then, in case their owners are dead.
    private func keepHouse() async {
        var round = 0
        while !Task.isCancelled {
            do {
                let all = round % 8 == 7
                let done = try await broker.keepHouse(all ? broker.partitions : scheduler.ownedPartitions.sorted())
                round += 1
                if done.contains(where: \.unfinished) { continue }
            } catch {
                onError(error)
            }
            try? await Task.sleep(for: settings.housekeeping)
        }
    }

    private func listen() async {
        let channel = broker.keys.wake(source.stage)
        while !Task.isCancelled {
            do {
                let listening = try await broker.redis.listen(to: [channel]) {
                    [scheduler, partitions = broker.partitions] in
                    switch $0 {
                    case .message(let message):
                        if let index = Int(message.payload.string), index >= 0 { scheduler.wake(Partition(index)) }
                    case .resubscribed:
                        for partition in partitions { scheduler.wake(partition) }
                    }
                }
                await listening.waitUntilEnded()
            } catch {
                onError(error)
                try? await Task.sleep(for: .milliseconds(500))
            }
        }
    }

    private func every(_ pause: Duration, _ body: () async throws -> Void) async {
        while !Task.isCancelled {
            do { try await body() } catch { onError(error) }
            try? await Task.sleep(for: pause)
        }
    }
}

/// How a worker goes about its work.
public struct WorkLoopSettings: Sendable {
    /// Pieces of work at a time.
    public var concurrency = 1
    /// So many of those take nothing ahead while a tenant's clicks come beside others' work: a click waits for what was taken
    /// before it.
    public var spare = 0
    /// So many pieces more at a time that pass those: work of tenants that take less than their share, while others take more.
    ///
    /// What is passed goes on, on threads that give way, and leaves one slot free. It is for work that one thread does alone.
    public var passing = 0
    /// How long a lease lasts; it is renewed each third of it.
    public var lease: Duration = .seconds(15)
    /// How often a partition is looked at without a message.
    public var poll: Duration = .seconds(1)
    /// How long work on partitions of others is left to them.
    public var patience: Duration = .milliseconds(20)
    /// How long a drain waits for what is being done before it hands it back.
    public var drainLimit: Duration = .seconds(20)
    /// How often it is asked who shares the partitions.
    public var membership: Duration = .seconds(2)
    /// How often time is looked after.
    public var housekeeping: Duration = .milliseconds(500)

    /// The defaults, and so many pieces of work at a time.
    public init(concurrency: Int = 1) { self.concurrency = concurrency }
}

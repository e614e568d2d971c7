extension ClusterSimulation {
    /// Has a slot look for work.
    mutating func seek(_ worker: Int, _ slot: Int, continues: Bool = false) {
        guard workers[worker].isAlive else { return }
        switch workers[worker].schedule.next(now: now) {
        case .take(let partition, let age):
            workers[worker].slots[slot].partition = partition
            workers[worker].slots[slot].age = age
            let served = model.served[workers[worker].model]
            let look = workers[worker].stage == .encode ? served.encode.look : served.decode.look
            compute(
                workers[worker].processor, look, continues: continues,
                .slot(worker, slot, .looked, life: workers[worker].life))
        case .wait: workers[worker].idle.append(slot)
        }
        // There may be more to do than this slot can.
        settle(worker)
    }

    /// Wakes whom there is something to do for, and sees to it that the alarm is set for the rest.
    mutating func settle(_ worker: Int) {
        while workers[worker].isAlive, let slot = workers[worker].idle.last {
            let earliest = workers[worker].schedule.earliest(now: now)
            if earliest <= now {
                workers[worker].idle.removeLast()
                let served = model.served[workers[worker].model]
                let wake = workers[worker].stage == .encode ? served.encode.wake : served.decode.wake
                return compute(
                    workers[worker].processor, wake, .slot(worker, slot, .woken, life: workers[worker].life))
            }
            if earliest < workers[worker].alarm {
                workers[worker].alarm = earliest
                events.add(.alarm(worker), at: earliest)
            }
            return
        }
    }

    /// Something has come to its end.
    mutating func went(_ token: Token) {
        switch token {
        case .redis(let shard): redisDone(shard)
        case .sent(let index):
            let arrival = workload.arrivals[index]
            let bytes = arrival.sendsPicture ? workload.pictures[Int(arrival.picture)].bytes : 0
            call(queues.pictures[Int(arrival.picture)].partition, .submit(index), bytes: bytes)
        case .gatewayOut(let job):
            let own = model.gateway.draw(&random)
            let processor = gatewayProcessors[Int(job) % gatewayProcessors.count]
            compute(processor, own / 2, .sentBack(job))
        case .sentBack(let job): events.add(.answered(job), at: now)
        case .prepared(let worker, let picture, let life):
            guard workers[worker].life == life else { return }
            prepared(worker, picture)
        case .slot(let worker, let slot, let phase, let life):
            guard workers[worker].life == life else { return }
            goOn(worker, slot, phase)
        }
    }

    private mutating func goOn(_ worker: Int, _ slot: Int, _ phase: Phase) {
        let life = workers[worker].life
        let partition = { [workers] in workers[worker].slots[slot].partition }
        switch phase {
        case .woken: seek(worker, slot, continues: true)
        case .looked: call(partition(), .take(worker, slot, life: life))
        case .taken(let isWork, let isLast):
            guard isWork else { return seek(worker, slot) }
            if !isLast {
                workers[worker].schedule.lookAgain(partition(), now: now)
                settle(worker)
            }
            begin(worker, slot)
        case .fetched:
            let picture = workload.pictures[Int(workers[worker].slots[slot].picture)]
            let costs = model.served[workers[worker].model].encode
            compute(
                workers[worker].processor, costs.read + costs.readOfMegapixel * picture.megapixels,
                .slot(worker, slot, .read, life: life))
        case .read:
            let costs = model.served[workers[worker].model].encode
            compute(
                workers[worker].processor, costs.encode.draw(&random), threads: costs.threads, continues: true,
                .slot(worker, slot, .encoded, life: life))
        case .encoded:
            let bytes = model.served[workers[worker].model].recordBytes
            call(partition(), .ready(worker, slot, life: life), bytes: bytes)
        case .published:
            outcome.encodes += 1
            outcome.leave(workers[worker].model, .encode, now, worker, slot)
            seek(worker, slot)
        case .got:
            // Where a record was fetched the place of a slot holds the picture.
            let costs = model.served[workers[worker].model].decode
            compute(
                workers[worker].processor, costs.prepare, threads: costs.threads,
                .prepared(worker, Int32(slot), life: life))
        case .began:
            if workers[worker].lanesFree > 0 {
                workers[worker].lanesFree -= 1
                decode(worker, slot, continues: true)
            } else {
                workers[worker].laneWaiters.append(slot)
            }
        case .decoded:
            outcome.leave(workers[worker].model, .decode, now, worker, slot)
            let after = model.served[workers[worker].model].decode.after
            compute(workers[worker].processor, after, continues: true, .slot(worker, slot, .finished, life: life))
            if let next = workers[worker].laneWaiters.removeFirst() {
                decode(worker, next)
            } else {
                workers[worker].lanesFree += 1
            }
        case .finished:
            let bytes = workers[worker].slots[slot].jobs.count * model.resultBytes
            call(partition(), .complete(worker, slot, life: life), bytes: bytes)
        case .completed:
            workers[worker].slots[slot].jobs = []
            workers[worker].slots[slot].picture = -1
            seek(worker, slot)
        }
    }

    private mutating func begin(_ worker: Int, _ slot: Int) {
        let life = workers[worker].life
        let picture = workers[worker].slots[slot].picture
        if workers[worker].stage == .encode {
            outcome.enter(workers[worker].model, .encode, now, worker, slot)
            return call(
                workers[worker].slots[slot].partition,
                .get(worker, slot, workload.pictures[Int(picture)].bytes, life: life))
        }
        if workers[worker].cache.use(picture) { return handle(worker, slot) }
        // What two batches ask for at once is fetched once.
        if workers[worker].loading[picture] != nil {
            workers[worker].loading[picture]?.append(slot)
        } else {
            workers[worker].loading[picture] = [slot]
            call(workers[worker].slots[slot].partition, .record(worker, picture, life: life))
        }
    }

    private mutating func prepared(_ worker: Int, _ picture: Int32) {
        workers[worker].cache.insert(picture)
        for slot in workers[worker].loading.removeValue(forKey: picture) ?? [] { handle(worker, slot) }
    }

    private mutating func handle(_ worker: Int, _ slot: Int) {
        let costs = model.served[workers[worker].model].decode
        compute(workers[worker].processor, costs.before, .slot(worker, slot, .began, life: workers[worker].life))
    }

    private mutating func decode(_ worker: Int, _ slot: Int, continues: Bool = false) {
        let costs = model.served[workers[worker].model].decode
        let jobs = workers[worker].slots[slot].jobs
        var prompts = 0
        var special = 0.0
        for job in jobs {
            let record = records[Int(job)]
            if record.parent >= 0 {
                special += costs.part
            } else if record.kind == .everything || record.kind == .text {
                // Before its parts are done there is nothing to do; afterwards all masks are weighed.
                if record.candidatesKnown { special += record.kind == .text ? costs.text + costs.part : costs.part }
            } else {
                prompts += record.prompts
            }
        }
        var time = special
        var threads = special > 0 ? costs.threads : costs.threadsOfOne
        if prompts > 0 {
            time += costs.click.draw(&random) * costs.factor(prompts)
            if prompts > 1 { threads = min(costs.threads, max(prompts, costs.threadsOfOne)) }
        }
        outcome.enter(workers[worker].model, .decode, now, worker, slot)
        compute(
            workers[worker].processor, time, threads: threads, continues: continues,
            .slot(worker, slot, .decoded, life: workers[worker].life))
    }

    // MARK: Ends of workers

    /// A worker is killed: what it held stays under its leases until they run out.
    mutating func kill(_ worker: Int) {
        workers[worker].isAlive = false
        workers[worker].life += 1
        outcome.kills += 1
        let processor = workers[worker].processor
        processors[processor].stop(now: now) { token in
            switch token {
            case .slot(let other, _, _, _), .prepared(let other, _, _): other == worker
            default: false
            }
        }
        announce(processor)
        for slot in workers[worker].slots.indices {
            let held = workers[worker].slots[slot]
            outcome.leave(workers[worker].model, workers[worker].stage, now, worker, slot)
            guard held.picture >= 0 else { continue }
            // Renewed each third of a lease; what has run out is found by a janitor within half a second.
            let left = model.lease * (2 + random.part()) / 3 + random.part() * 500
            if workers[worker].stage == .encode {
                events.add(.leaseEnded(jobs: [], picture: held.picture), at: now + left)
            } else {
                events.add(.leaseEnded(jobs: held.jobs, picture: -1), at: now + left)
            }
            workers[worker].slots[slot] = Slot()
        }
        workers[worker].idle = []
        workers[worker].alarm = .infinity
        workers[worker].loading = [:]
        workers[worker].laneWaiters = Fifo()
        workers[worker].cache.removeAll()
        // It counts as gone eight seconds after its last heartbeat.
        events.add(.share, at: now + 8000)
        events.add(.restart(worker), at: now + model.restart)
    }

    mutating func restart(_ worker: Int) {
        let served = model.served[workers[worker].model]
        workers[worker].isAlive = true
        workers[worker].lanesFree =
            workers[worker].stage == .encode ? served.encode.concurrency : served.decode.concurrency
        share()
        for slot in workers[worker].slots.indices where workers[worker].isAlive { seek(worker, slot) }
        if let lifetime = model.lifetime { events.add(.kill(worker), at: now + random.exponential(mean: lifetime)) }
    }
}

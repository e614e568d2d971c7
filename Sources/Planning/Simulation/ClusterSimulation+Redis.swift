extension ClusterSimulation {
    /// Serves the next call where Redis has nothing in hand: one at a time, in the order in which they came.
    mutating func serve(_ shard: Int, continues: Bool = false) {
        guard shards[shard].current == nil, let call = shards[shard].queue.removeFirst() else { return }
        shards[shard].current = call
        let cost = execute(call, shard)
        shards[shard].used += now >= workload.begin ? cost : 0
        shards[shard].calls += 1
        compute(shards[shard].processor, cost, continues: continues, .redis(shard))
    }

    /// What a call does; returns what it takes.
    private mutating func execute(_ call: Call, _ shard: Int) -> Double {
        let costs = model.redis
        var cost = 0.0
        switch call {
        case .submit(let index):
            let arrival = workload.arrivals[index]
            cost = costs.submit
            if arrival.sendsPicture {
                let bytes = workload.pictures[Int(arrival.picture)].bytes
                cost += costs.small + costs.mebibyte * Double(bytes) / 1_048_576
            }
            submit(index, shard)
        case .take(let worker, let slot, let life):
            guard workers[worker].life == life else { return costs.idleTake }
            cost = take(worker, slot)
        case .get(_, _, let bytes, _): cost = costs.small + costs.mebibyte * Double(bytes) / 1_048_576
        case .record(let worker, _, _):
            let bytes = model.served[workers[worker].model].recordBytes
            cost = costs.small + costs.mebibyte * Double(bytes) / 1_048_576
        case .ready(let worker, let slot, let life):
            guard workers[worker].life == life else { return costs.ready }
            let (picture, served) = (workers[worker].slots[slot].picture, model.served[workers[worker].model])
            let parked = queues.publish(picture, now: now)
            cost =
                costs.ready + costs.mebibyte * Double(served.recordBytes) / 1_048_576
                + costs.release * Double(parked.count)
            for job in parked {
                if workload.arrivals[Int(records[Int(job)].index)].isWarm {
                    queues.complete(job)
                } else {
                    queues.enqueue(job, now: now)
                }
            }
        case .complete(let worker, let slot, let life):
            guard workers[worker].life == life else { return costs.complete }
            let jobs = workers[worker].slots[slot].jobs
            cost = costs.complete + costs.completeMore * Double(max(0, jobs.count - 1))
            for job in jobs { complete(job, shard, &cost) }
        case .janitor(let partitions): cost = costs.janitor * Double(partitions)
        }
        for wake in queues.takeWakes() {
            cost += costs.publish * Double(members[wake.0.rawValue].count)
            shards[shard].wakes.append(wake)
        }
        return cost
    }

    private mutating func submit(_ index: Int, _ shard: Int) {
        let arrival = workload.arrivals[index]
        // Nothing is to be done: a job that asks for the embedding alone is done where it is there.
        if arrival.isWarm, queues.pictures[Int(arrival.picture)].hasEmbedding { return }
        let isWhole = arrival.kind == .everything || arrival.kind == .text
        let known = isWhole && candidates.contains(arrival.picture)
        submit(
            arrival.picture, arrival.lane,
            JobRecord(
                arrival: arrival.time, index: Int32(index), kind: arrival.kind, prompts: arrival.prompts,
                isCounted: !arrival.isWarm && arrival.time >= workload.begin && arrival.time < workload.end,
                candidatesKnown: known),
            isAlone: false)
    }

    private mutating func submit(_ picture: Int32, _ lane: PlanLane, _ record: JobRecord, isAlone: Bool) {
        let (job, isParked) = queues.submit(picture, lane, isAlone: isAlone, now: now)
        records.append(record)
        records[Int(job)].isParked = isParked
        records[Int(job)].submitted = now
    }

    /// Takes work for a slot.
    private mutating func take(_ worker: Int, _ slot: Int) -> Double {
        let it = workers[worker]
        let (partition, age) = (it.slots[slot].partition, it.slots[slot].age)
        let served = model.served[it.model]
        let count = it.stage == .encode ? 1 : served.decode.batch
        guard
            let (taken, isLast) = queues.take(
                it.stage, partition, model: it.model, count: count, age: age, now: now)
        else {
            workers[worker].slots[slot].jobs = []
            workers[worker].slots[slot].picture = -1
            outcome.idleLooks += 1
            // Where there is nothing under the usual identifier the others are asked for, now and then.
            var looks = 1
            if now - it.othersLooked[partition] >= Self.pauseOfOthers {
                workers[worker].othersLooked[partition] = now
                looks += Self.others[it.stage.rawValue]
            }
            return model.redis.idleTake * Double(looks)
        }
        outcome.takes += 1
        if it.stage == .encode {
            workers[worker].slots[slot].picture = taken[0]
            workers[worker].slots[slot].jobs = []
        } else {
            workers[worker].slots[slot].jobs = taken
            workers[worker].slots[slot].picture = queues.jobs[Int(taken[0])].picture
            outcome.batched += taken.count
        }
        workers[worker].slots[slot].isLast = isLast
        return model.redis.take + model.redis.takeMore * Double(taken.count - 1)
    }

    /// A job's result is stored, or it is divided, or a part of it is done.
    private mutating func complete(_ job: Int32, _ shard: Int, _ cost: inout Double) {
        let record = records[Int(job)]
        if record.parent < 0, record.kind == .everything || record.kind == .text, !record.candidatesKnown {
            // Divided: each part is a job of its own, taken alone.
            let parts = model.served[queues.pictures[Int(queues.jobs[Int(job)].picture)].model].decode.parts
            queues.markWaitingForParts(job)
            records[Int(job)].partsLeft = parts
            records[Int(job)].candidatesKnown = true
            for _ in 0..<parts {
                submit(
                    queues.jobs[Int(job)].picture, queues.jobs[Int(job)].lane,
                    JobRecord(
                        arrival: now, index: record.index, kind: record.kind, prompts: 0, isCounted: false, parent: job),
                    isAlone: true)
            }
            cost += model.redis.submit * Double(parts)
            return
        }
        queues.complete(job)
        if record.parent >= 0 {
            records[Int(record.parent)].partsLeft? -= 1
            if records[Int(record.parent)].partsLeft == 0 {
                queues.enqueue(record.parent, now: now)
                candidates.insert(queues.jobs[Int(record.parent)].picture)
            }
        } else {
            if record.isCounted {
                outcome.byRedis[queues.jobs[Int(job)].lane.rawValue].append(now - record.submitted)
            }
            shards[shard].ended.append(job)
        }
    }

    /// Redis is through with a call.
    mutating func redisDone(_ shard: Int) {
        guard let call = shards[shard].current else { return }
        shards[shard].current = nil
        for (stage, partition) in shards[shard].wakes { events.add(.wakes(stage, partition), at: now + model.hop) }
        shards[shard].wakes.removeAll(keepingCapacity: true)
        for job in shards[shard].ended {
            outcome.network(2 * model.resultBytes, toRedis: false)
            if gatewayProcessors.isEmpty {
                events.add(.answered(job), at: now + model.hop)
            } else {
                events.add(.reply(.gatewayOut(job)), at: now + model.hop)
            }
        }
        shards[shard].ended.removeAll(keepingCapacity: true)
        switch call {
        case .submit, .janitor: break
        case .take(let worker, let slot, let life):
            let isWork = workers[worker].life == life && workers[worker].slots[slot].picture >= 0
            reply(worker, slot, .taken(isWork, isLast: workers[worker].slots[slot].isLast), life)
        case .get(let worker, let slot, let bytes, let life): reply(worker, slot, .fetched, life, bytes: bytes)
        case .record(let worker, let picture, let life):
            guard workers[worker].life == life else { break }
            let served = model.served[workers[worker].model]
            outcome.network(served.recordBytes, toRedis: false)
            let time = now + model.hop + Double(served.recordBytes) / model.bandwidth
            outcome.fetches += 1
            events.add(.reply(.slot(worker, Int(picture), .got, life: life)), at: time)
        case .ready(let worker, let slot, let life): reply(worker, slot, .published, life)
        case .complete(let worker, let slot, let life): reply(worker, slot, .completed, life)
        }
        serve(shard, continues: true)
    }

    private mutating func reply(_ worker: Int, _ slot: Int, _ phase: Phase, _ life: Int, bytes: Int = 0) {
        if bytes > 0 { outcome.network(bytes, toRedis: false) }
        events.add(
            .reply(.slot(worker, slot, phase, life: life)), at: now + model.hop + Double(bytes) / model.bandwidth)
    }

    /// Its own partitions twice a second; all of them in one round of eight.
    mutating func keepHouse(_ worker: Int) {
        events.add(.janitor(worker), at: now + 500)
        guard workers[worker].isAlive else { return }
        let isAll = workers[worker].rounds % 8 == 7
        workers[worker].rounds += 1
        var looks = Array(repeating: 0, count: shards.count)
        for partition in 0..<model.partitions where isAll || workers[worker].schedule.owns(partition) {
            looks[partition % shards.count] += 1
        }
        for (shard, partitions) in looks.enumerated() where partitions > 0 {
            call(shard, .janitor(partitions: partitions))
        }
    }
}

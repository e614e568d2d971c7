/// The queues of all partitions, and the rules by which work is taken from them.
///
/// It is what the functions in Redis do (`Cluster/Resources/kirie`), without Redis: a test holds the two equal. Jobs and
/// pictures are numbers.
package struct PartitionQueues {
    package enum JobState: UInt8 { case parked, queued, inWork, done }
    package enum EncodeState: UInt8 { case none, queued, inWork }

    /// A job of the queues.
    package struct Job {
        package let picture: Int32
        package let lane: PlanLane
        /// A part of everything mode, a job that was divided, or one on a later try: taken alone.
        package var isAlone: Bool
        package var state: JobState
    }

    package struct Picture {
        let model: Int
        let partition: Int
        package var hasEmbedding: Bool
        package var encode = EncodeState.none
        var encodeLane = PlanLane.bulk
        var parked: [Int32] = []
        /// Queued jobs that may be taken together, by lane.
        var ready = (Fifo<Int32>(), Fifo<Int32>())

        package init(model: Int, partition: Int, hasEmbedding: Bool) {
            self.model = model
            self.partition = partition
            self.hasEmbedding = hasEmbedding
        }
    }

    /// Which stage work is of.
    package enum Stage: Int { case encode, decode }

    private struct Entry {
        let number: Int32
        let since: Double
        /// Of an encode: which time it was asked for; an entry of an earlier one is void.
        let lane: PlanLane
    }

    /// A stage of a partition.
    private struct Place {
        var queued = [0, 0]
        var streak = 0
        /// By model, and then lane.
        var entries: [Fifo<Entry>]
    }

    private let streakLimit: Int
    private var places: [Place]
    package private(set) var jobs: [Job] = []
    package private(set) var pictures: [Picture] = []
    /// Of which stages and partitions workers are to be told, since the last ``takeWakes()``.
    private var wakes: [(Stage, Int)] = []

    package init(partitions: Int, models: Int, streak: Int) {
        streakLimit = streak
        places = Array(repeating: Place(entries: Array(repeating: Fifo(), count: 2 * models)), count: 2 * partitions)
    }

    private func place(_ stage: Stage, _ partition: Int) -> Int { 2 * partition + stage.rawValue }

    package mutating func takeWakes() -> [(Stage, Int)] {
        if wakes.isEmpty { return [] }
        defer { wakes.removeAll(keepingCapacity: true) }
        return wakes
    }

    package mutating func add(_ picture: Picture) { pictures.append(picture) }

    /// Takes a job in; true where it waits for its embedding.
    package mutating func submit(
        _ picture: Int32, _ lane: PlanLane, isAlone: Bool, now: Double
    ) -> (job: Int32, isParked: Bool) {
        let number = Int32(jobs.count)
        let isThere = pictures[Int(picture)].hasEmbedding
        jobs.append(Job(picture: picture, lane: lane, isAlone: isAlone, state: .parked))
        if isThere {
            enqueue(number, now: now)
        } else {
            pictures[Int(picture)].parked.append(number)
            requestEncode(picture, lane, now: now)
        }
        return (number, !isThere)
    }

    /// Puts a job into its stream.
    package mutating func enqueue(_ job: Int32, now: Double) {
        let (picture, lane) = (jobs[Int(job)].picture, jobs[Int(job)].lane)
        jobs[Int(job)].state = .queued
        if !jobs[Int(job)].isAlone {
            if lane == .interactive {
                pictures[Int(picture)].ready.0.append(job)
            } else {
                pictures[Int(picture)].ready.1.append(job)
            }
        }
        add(Entry(number: job, since: now, lane: lane), .decode, pictures[Int(picture)])
    }

    private mutating func add(_ entry: Entry, _ stage: Stage, _ picture: Picture) {
        let place = place(stage, picture.partition)
        // A message tells of a stream that was short.
        if places[place].queued[entry.lane.rawValue] < 16 { wakes.append((stage, picture.partition)) }
        places[place].queued[entry.lane.rawValue] += 1
        places[place].entries[2 * picture.model + entry.lane.rawValue].append(entry)
    }

    /// Asks for an embedding: begins an encode, or joins the one in flight, which an interactive job hastens.
    private mutating func requestEncode(_ number: Int32, _ lane: PlanLane, now: Double) {
        let picture = pictures[Int(number)]
        switch picture.encode {
        case .none: queueEncode(number, lane, now: now)
        case .queued where lane == .interactive && picture.encodeLane == .bulk:
            places[place(.encode, picture.partition)].queued[PlanLane.bulk.rawValue] -= 1
            queueEncode(number, lane, now: now)
        case .queued, .inWork: break
        }
    }

    private mutating func queueEncode(_ number: Int32, _ lane: PlanLane, now: Double) {
        pictures[Int(number)].encode = .queued
        pictures[Int(number)].encodeLane = lane
        add(Entry(number: number, since: now, lane: lane), .encode, pictures[Int(number)])
    }

    private func isLive(_ entry: Entry, _ stage: Stage) -> Bool {
        switch stage {
        case .decode: jobs[Int(entry.number)].state == .queued
        case .encode:
            pictures[Int(entry.number)].encode == .queued && pictures[Int(entry.number)].encodeLane == entry.lane
        }
    }

    /// What a take brings: jobs of one picture, or a picture in the place of a job; nothing where there is none, or none
    /// that has stood for `age`.
    package mutating func take(
        _ stage: Stage, _ partition: Int, model: Int, count: Int, age: Double, now: Double
    ) -> (taken: [Int32], isLast: Bool)? {
        let place = place(stage, partition)
        let isBulkFirst = places[place].streak >= streakLimit
        for lane in isBulkFirst ? [PlanLane.bulk, .interactive] : [.interactive, .bulk] {
            let stream = 2 * model + lane.rawValue
            while let head = places[place].entries[stream].first, !isLive(head, stage) {
                places[place].entries[stream].removeFirst()
            }
            guard let head = places[place].entries[stream].first, now - head.since >= age else { continue }
            places[place].entries[stream].removeFirst()
            let taken = stage == .decode ? takeJobs(head.number, lane, count) : [head.number]
            if stage == .encode { pictures[Int(head.number)].encode = .inWork }
            places[place].queued[lane.rawValue] -= taken.count
            let isBulkWaiting = places[place].queued[PlanLane.bulk.rawValue] > 0
            places[place].streak = lane == .interactive && isBulkWaiting ? places[place].streak + 1 : 0
            return (taken, places[place].queued[0] + places[place].queued[1] <= 0)
        }
        return nil
    }

    /// The next jobs on the picture of a job whose entry came, itself among them.
    private mutating func takeJobs(_ job: Int32, _ lane: PlanLane, _ count: Int) -> [Int32] {
        var batch: [Int32] = []
        let picture = Int(jobs[Int(job)].picture)
        if jobs[Int(job)].isAlone {
            batch = [job]
        } else {
            while batch.count < count, let next = popReady(picture, lane) {
                if jobs[Int(next)].state == .queued, !jobs[Int(next)].isAlone { batch.append(next) }
            }
        }
        for member in batch { jobs[Int(member)].state = .inWork }
        return batch
    }

    private mutating func popReady(_ picture: Int, _ lane: PlanLane) -> Int32? {
        lane == .interactive
            ? pictures[picture].ready.0.removeFirst() : pictures[picture].ready.1.removeFirst()
    }

    /// An embedding is there.
    ///
    /// - Returns: the jobs that waited for it and are to be queued.
    package mutating func publish(_ number: Int32, now: Double) -> [Int32] {
        pictures[Int(number)].hasEmbedding = true
        pictures[Int(number)].encode = .none
        let parked = pictures[Int(number)].parked
        pictures[Int(number)].parked = []
        return parked
    }

    package mutating func complete(_ job: Int32) { jobs[Int(job)].state = .done }

    /// A lease ran out: the job goes back into its stream, and is taken alone from then on.
    package mutating func retry(_ job: Int32, now: Double) {
        // What was completed in the last moment stays done.
        guard jobs[Int(job)].state == .inWork else { return }
        jobs[Int(job)].isAlone = true
        enqueue(job, now: now)
    }

    /// The same of an encode.
    package mutating func retryEncode(_ number: Int32, now: Double) {
        guard pictures[Int(number)].encode == .inWork else { return }
        queueEncode(number, pictures[Int(number)].encodeLane, now: now)
    }

    /// A job that was divided is queued again, or its state changes otherwise by its owner's hand.
    package mutating func markWaitingForParts(_ job: Int32) {
        jobs[Int(job)].isAlone = true
        jobs[Int(job)].state = .parked
    }
}

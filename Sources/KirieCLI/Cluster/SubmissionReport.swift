import Clients
import Cluster
import JSON
import Segmentation
import Synchronization
import Terminals

/// What `kirie submit` says while jobs go out and come back: a JSON line a job on standard output, all else on standard
/// error.
final class SubmissionReport: Sendable {
    private struct Tally: Sendable {
        var submitted = 0
        var ended = 0
        var failed = 0
        /// Jobs some of whose prompts could not be answered.
        var partial = 0
        var unusable = 0
        var refused = 0
        var files = 0
        var part: Double?
    }

    private let waits: Bool
    private let status: StatusLine
    private let output: StandardOutput
    /// Guards the counts.
    private let tally = Mutex(Tally())

    init(waits: Bool) {
        let status = StatusLine()
        self.waits = waits
        self.status = status
        output = StandardOutput(status: status)
    }

    /// 0 all is well, 1 something failed, 75 jobs were refused because the cluster is full.
    var exitCode: Int32 {
        tally.withLock { $0.refused > 0 ? 75 : $0.failed + $0.unusable + $0.partial > 0 ? 1 : 0 }
    }

    func tell(_ events: [SubmissionEvent]) async throws {
        for event in events {
            switch event {
            case .unusable(let job):
                tally.withLock { $0.unusable += 1 }
                status.say("kirie: \(job)")
            case .faultyPrompt(let place, let fault):
                status.say("kirie: \(place.prefix)prompts[\(fault.prompt)]: \(fault.text)")
            case .submitted(_, _, _, let request):
                tally.withLock { tally in
                    tally.submitted += 1
                    if !request.faults.isEmpty { tally.partial += 1 }
                }
            case .followed: tally.withLock { $0.submitted += 1 }
            case .refused(_, _, let sentence, let time): refuse(sentence, time)
            case .ended(let ending, let answer, let origin, let files, let fault):
                note(ending, answer, origin, files: files ?? [], fault: fault)
            case .read(let part): tally.withLock { $0.part = part }
            case .waiting(let sentence, let time):
                status.say("kirie: \(sentence); going on in \(Figures.duration(time))")
            }
        }
        let lines = events.compactMap(\.line)
        if !lines.isEmpty { try await output.write(lines) }
        draw()
    }

    private func note(
        _ ending: JobEnding, _ answer: JobAnswer?, _ origin: JobOrigin, files: [String], fault: String?
    ) {
        if let fault { status.say("kirie: \(ending.reference.id): \(fault)") }
        if origin.line == nil { for file in files { status.say("wrote \(file)") } }
        let isGood = ending.state == .done && fault == nil
        let isPartial = isGood && answer?.hasErrors == true
        tally.withLock { tally in
            tally.ended += 1
            tally.files += files.count
            if !isGood { tally.failed += 1 }
            if isPartial { tally.partial += 1 }
        }
    }

    private func refuse(_ sentence: String, _ time: Duration) {
        let isFirst = tally.withLock { tally in
            tally.refused += 1
            return tally.refused == 1
        }
        if isFirst {
            status.say(
                "kirie: \(sentence). Submit the refused jobs again in \(Figures.duration(time)), or use "
                    + "--when-full wait")
        }
    }

    private func draw() {
        guard Terminal.isInteractive else { return }
        let now = tally.withLock { $0 }
        var text = "\(Figures.count(now.submitted)) submitted"
        var part = now.part
        if waits {
            text += "  \(Figures.count(now.ended - now.failed)) done"
            part = part.map { $0 * Double(now.ended) / Double(max(1, now.submitted)) }
        }
        let bad = now.failed + now.unusable + now.refused
        if bad > 0 { text += "  \(Figures.count(bad)) failed" }
        status.show(part.map { "\(StatusLine.bar($0)) \(Int($0 * 100)) %  \(text)" } ?? text)
    }

    /// The last line: what came of the run.
    func summarize(_ source: JobSource) {
        status.hide()
        let sum = tally.withLock { $0 }
        if case .images(let paths) = source, paths.count == 1 { return }
        if case .file(_, let name) = source, sum.submitted + sum.unusable + sum.refused == 0 {
            status.say("kirie: \(name) holds no jobs")
            return
        }
        var parts = ["\(Figures.count(sum.submitted)) submitted"]
        if waits { parts.append("\(Figures.count(sum.ended - sum.failed)) done") }
        if sum.failed > 0 { parts.append("\(Figures.count(sum.failed)) failed") }
        if sum.partial > 0 { parts.append("\(Figures.count(sum.partial)) with prompts that have errors") }
        if sum.unusable > 0 { parts.append("\(Figures.count(sum.unusable)) not usable") }
        if sum.refused > 0 { parts.append("\(Figures.count(sum.refused)) refused") }
        if sum.files > 0 { parts.append("\(Figures.count(sum.files)) mask files") }
        status.say(parts.joined(separator: ", "))
    }

    /// After Ctrl-C or an error: which jobs are still on their way, and how to wait for them.
    func sayHowToGoOn(_ what: String, _ open: [(reference: JobReference, origin: JobOrigin)]) async throws {
        status.hide()
        guard !open.isEmpty else {
            let submitted = tally.withLock { $0.submitted }
            status.say("kirie: \(what) after \(Figures.count(submitted)) jobs were submitted")
            return
        }
        if open.count <= 20 {
            let ids = open.map(\.reference.id).joined(separator: " ")
            status.say("kirie: \(what); the jobs go on without you. Wait for them with: kirie wait \(ids)")
        } else {
            status.say(
                "kirie: \(what); \(Figures.count(open.count)) jobs go on without you: their lines say \"open\". "
                    + "Give their ids to: kirie wait -   (or run the same command again, if the jobs have ids)")
        }
        try await output.write(open.map { JobReports.open($0.reference, $0.origin) })
    }
}

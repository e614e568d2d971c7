import Foundation
import KirieTesting
import Testing

/// `kirie plan` as a program, on the example of deploy/.
@Suite struct PlanCommandTests {
    private static let example = Page.root.appending(path: "deploy/plans/annotators.json").path

    /// Whether every tag that is opened is closed in its turn.
    private static func isWellFormed(_ text: String) -> Bool {
        var open: [Substring] = []
        for match in text.matches(of: #/<(\/?)(\w+)((?:\s+[\w:-]+="[^"<]*")*)\s*(\/?)>/#) {
            if !match.1.isEmpty {
                guard open.popLast() == match.2 else { return false }
            } else if match.4.isEmpty {
                open.append(match.2)
            }
        }
        let tags = text.matches(of: #/<(\/?)(\w+)((?:\s+[\w:-]+="[^"<]*")*)\s*(\/?)>/#).count
        return open.isEmpty && tags > 100 && tags == text.count { $0 == "<" }
    }

    private func object(_ run: KirieProcess) throws -> [String: Any] {
        let object = try JSONSerialization.jsonObject(with: Data(run.output.utf8))
        return try #require(object as? [String: Any], "\(run.complaint)")
    }

    @Test func theExampleIsSizedAndSaysWhatItNeeds() throws {
        let run = try KirieProcess(["plan", Self.example, "--replications", "2", "--json"])
        let found = try object(run)
        #expect(run.status == 0 && found["holds"] as? Bool == true, "\(run.output)")
        #expect(found["seed"] as? Int == 1)
        for name in [
            "models", "redis_shards", "waits", "targets", "binding", "bottleneck", "uses", "redis_bytes", "a_second",
            "machines", "money",
        ] { #expect(found[name] != nil, "\(name) is missing") }
        let targets = try #require(found["targets"] as? [[String: Any]])
        #expect(targets.count == 3)
        for target in targets {
            let (forecast, bound) = (target["forecast_ms"] as? Double ?? .infinity, target["ms"] as? Double ?? 0)
            #expect(target["holds"] as? Bool == true && forecast <= bound)
        }
        // The same seed, the same words.
        #expect(try KirieProcess(["plan", Self.example, "--replications", "2", "--json"]).output == run.output)
    }

    @Test func countsThatAreGivenAreNotSearchedFor() throws {
        let directory = try TemporaryDirectory()
        let (plot, lines) = (directory.file("waits.svg"), directory.file("arrivals.jsonl"))
        let run = try KirieProcess([
            "plan", Self.example, "--encoders", "4,2", "--decoders", "3,2", "--load", "0.5", "--seconds", "20",
            "--replications", "1", "--seed", "7", "--svg", plot, "--arrivals", lines,
        ])
        #expect(run.status == 0, "\(run.output)\(run.complaint)")
        for words in ["4 kirie-tiny", "seed 7", "interactive: ", "p95", "busy", "Redis's memory", "money: "] {
            #expect(run.output.contains(words), "\(words) in \(run.output)")
        }
        let svg = try String(contentsOfFile: plot, encoding: .utf8)
        #expect(Self.isWellFormed(svg))
        for words in [
            "load of the lane (jobs a second)", "wait (ms, logarithmic)", ">p50<", ">p95<", ">p99<", "target: p95",
            "planned: ",
        ] { #expect(svg.contains(words), "\(words) is not drawn") }
        let arrivals = try String(contentsOfFile: lines, encoding: .utf8).split(separator: "\n").map {
            try #require(try JSONSerialization.jsonObject(with: Data($0.utf8)) as? [String: Any])
        }
        let times = arrivals.compactMap { $0["at_ms"] as? Double }
        #expect(times.count == arrivals.count && times.count > 50 && times == times.sorted())
        #expect(arrivals.allSatisfy { $0["lane"] != nil && $0["partition"] != nil && $0["counts"] != nil })
    }

    @Test func aTargetOnTheCommandLineTakesThePlaceOfThePlans() throws {
        let run = try KirieProcess([
            "plan", Self.example, "--target", "interactive:p50=2000", "--replications", "1", "--json",
        ])
        let targets = try #require(try object(run)["targets"] as? [[String: Any]])
        #expect(run.status == 0 && targets.count == 1 && targets[0]["percentile"] as? Double == 50)
        let strict = try KirieProcess(["plan", Self.example, "--target", "interactive:p99=1"])
        #expect(strict.status == 1 && strict.output.isEmpty)
        #expect(strict.complaint.contains("interactive p99 ≤ 1 ms: cannot be met by any number of machines"))
    }

    @Test func aClusterThatFallsBehindEndsWith1() throws {
        let run = try KirieProcess([
            "plan", Self.example, "--encoders", "1,1", "--decoders", "1,1", "--load", "20", "--seconds", "10",
            "--replications", "1",
        ])
        #expect(run.status == 1 && run.output.contains("it falls behind") && run.output.contains("NOT MET"))
    }

    @Test(arguments: [
        (["--encoders", "1"], "--encoders and --decoders go together"),
        (["--encoders", "1,1", "--decoders", "0,1"], "--decoders: '0,1' is no list of numbers: give numbers from 1"),
        (["--encoders", "1", "--decoders", "1"], "--encoders: has 1 numbers, and the plan 2 models"),
        (["--load", "0"], "--load takes a factor"), (["--load", "-1"], "--load"), (["--hour", "24"], "--hour takes"),
        (["--target", "interactive"], "--target takes such as interactive:p95=200, not 'interactive'"),
        (["--target", "nowhere:p95=200"], "--target takes"), (["--target", "bulk:p0=200"], "--target takes"),
        (["--replications", "0"], "--replications takes"), (["--seconds", "0"], "--seconds takes"),
        (["--shards", "2"], "--shards goes with --encoders and --decoders"),
    ]) func wrongUsageIsNamed(arguments: [String], words: String) throws {
        let run = try KirieProcess(["plan", Self.example] + arguments)
        #expect(run.status == 2, "\(run.status)")
        #expect(run.output.isEmpty && run.complaint.contains(words), "\(run.complaint)")
    }

    @Test func aPlanThatIsNotThereIsNamed() throws {
        let run = try KirieProcess(["plan", "/nowhere/plan.json"])
        #expect(run.status == 1 && run.complaint.contains("/nowhere/plan.json"), "\(run.complaint)")
        let directory = try TemporaryDirectory()
        let plan = try String(contentsOfFile: Self.example, encoding: .utf8)
        let copy = try directory.write(Array(plan.utf8), to: "plan.json")
        let lost = try KirieProcess(["plan", copy])
        #expect(lost.status == 1 && lost.complaint.contains("figures/"), "\(lost.complaint)")
    }

    @Test func whatDrawsAModelMakesOneThatOpens() throws {
        let directory = try TemporaryDirectory()
        let file = directory.file("drawn.safetensors")
        let made = try KirieProcess(["model", "draw", "mobile", "-o", file])
        #expect(made.status == 0, "\(made.complaint)")
        let info = try KirieProcess(["model", "info", file])
        #expect(info.status == 0 && info.output.contains("TinyViT") && info.output.contains("1024"), "\(info.output)")
        #expect(try KirieProcess(["model", "draw", "mobile", "-o", directory.file("x.pth")]).status == 2)
    }

    /// What an encoder does with a picture, and a decoder with an embedding, as plans take it.
    @Test func benchTimesAWholePictureAndItsPreparation() throws {
        for (arguments, part) in [
            (["encode", "--picture", KirieProcess.landscape], "picture"), (["decode", "--prepare"], "prepare"),
            (["decode", "--prompts", "4"], "decode"),
        ] {
            let run = try KirieProcess(["bench"] + arguments + ["--runs", "2", "--threads", "1", "--json"])
            let found = try object(run)
            #expect(found["part"] as? String == part)
            #expect((found["megapixels"] != nil) == (part == "picture"))
            #expect((found["prompts"] != nil) == (part == "decode"))
        }
        #expect(try KirieProcess(["bench", "decode", "--prepare", "--prompts", "2"]).status == 2)
    }
}

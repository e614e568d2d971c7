import Planning
import Testing

/// Plans that make no sense: each says where, what, and what to do.
@Suite struct PlanReaderTests {
    private func complaint(_ text: String, files: [String: String] = PlanFixture.files) -> PlanError? {
        do {
            _ = try PlanFixture.plan(text, files: files)
            return nil
        } catch { return error as? PlanError }
    }

    @Test func theUsualOneIsRead() throws {
        let plan = try PlanFixture.plan(PlanFixture.usual)
        #expect(plan.models[0].name == "tiny" && plan.lanes[0]?.rate(hour: 3) == 4 && plan.lanes[1] == nil)
        #expect(plan.jobs(.interactive, hour: 0) == 16 && plan.keeps(0) == 345_600)
    }

    @Test(arguments: [
        ("345600", "-1", "interactive.pictures_per_day: is -1: give pictures a day, from 0 to 10000000000"),
        ("345600", "0", "nothing comes: every rate is zero or missing: give a lane \"pictures_per_day\" above 0"),
        ("345600", "1e300", "interactive.pictures_per_day: is 1e+300"),
        ("\"new\": 1", "\"new\": 1.5", "interactive.new: is 1.5: give the share of pictures that were never seen"),
        ("\"new\": 1", "\"newer\": 1", "‘newer’ is unknown: take it out, or write one of "),
        ("\"pictures_per_day\": 345600", "\"new\": 1, \"seen_among\": 5", "‘new’ twice"),
        ("{\"mean\": 4}", "0", "jobs_a_picture: is 0: give jobs on a picture, a whole number from 1 to 10000"),
        ("{\"mean\": 4}", "{\"mean\": 0.5}", "jobs_a_picture.mean: is 0.5: give jobs on a picture, from 1"),
        ("\"seconds_between_jobs\": 1", "\"by_hour\": [1, 2]", "by_hour: holds 2 numbers: give 24 numbers of 0"),
        ("100000", "0", "pictures[0].bytes: is 0: give the bytes of a file, a whole number from 1"),
        ("100000", "1000000000000", "pictures[0].bytes: is 1000000000000: give the bytes of a file"),
        ("\"megapixels\": 0.8", "\"megapixels\": 1e9", "megapixels: is 1000000000: give millions of pixels"),
        ("\"partitions\": 16", "\"partitions\": 0", "workers.partitions: is 0: give partitions, as --partitions"),
        ("\"cores\": 2", "\"cores\": 99999", "redis.cores: is 99999: give the machine's cores, a whole number from 1"),
        ("\"redis\": {", "\"all\": {", "has \"all\" and machines of single roles"),
        ("\"models\": [{", "\"modells\": [{", "\"models\" is missing: give a list"),
        ("\"load\"", "\"loads\"", "\"load\" is missing: give {\"interactive\""),
        ("{\"models\"", "[\"models\"", "is no JSON: byte 9"),
    ]) func whatMakesNoSenseIsNamed(part: String, other: String, words: String) throws {
        let text = PlanFixture.usual.replacing(part, with: other)
        #expect(text != PlanFixture.usual)
        let error = try #require(complaint(text))
        #expect(error.description.contains(words), "\(error)")
        #expect(!error.remedy.isEmpty && error.place.hasPrefix("plan.json"))
    }

    @Test(arguments: [
        ("encode.json", "[]", "encode.json: is no object"),
        ("encode.json", "{\"part\":\"encode\"}", "encode.json: names no model"),
        ("encode.json", "{\"model\":\"tiny\"}", "holds no figures that a plan can use: give what kirie bench encode"),
        ("encode.json", "\"nonsense", "encode.json: is no JSON"),
        ("encode.json", #"{"part":"encode","model":"tiny","threads":1}"#, "lacks min_ms, median_ms, max_ms or threads"),
        (
            "encode.json", #"{"part":"encode","model":"tiny","threads":1,"min_ms":5,"median_ms":3,"max_ms":9}"#,
            "has times that cannot be: min 5.0, median 3.0, max 9.0 ms"
        ),
        (
            "encode.json", #"{"part":"encode","model":"tiny","threads":1,"min_ms":-5,"median_ms":3,"max_ms":9}"#,
            "has times that cannot be"
        ),
        (
            "decode.json", #"{"part":"decode","model":"vit_b","threads":1,"min_ms":1,"median_ms":3,"max_ms":9}"#,
            "is of the model vit_b, and the files before it are of tiny: give each model an entry of its own"
        ),
        (
            "decode.json", #"{"part":"encode","model":"tiny","threads":1,"min_ms":1,"median_ms":3,"max_ms":9}"#,
            "no file has the figures of kirie bench decode: add what kirie bench decode --json prints"
        ),
        (
            "decode.json",
            #"{"part":"decode","model":"tiny","threads":1,"streams":2,"min_ms":1,"median_ms":3,"max_ms":9}"#,
            "is of several --streams"
        ),
        ("decode.json", #"{"model":"tiny","click":{"one_decoder":{}}}"#, "lacks decode_ms, wait_ms or service_ms"),
    ]) func figuresThatAreNoneAreNamed(file: String, text: String, words: String) throws {
        var files = PlanFixture.files
        files[file] = text
        let error = try #require(complaint(PlanFixture.usual, files: files))
        #expect(error.description.contains(words), "\(error)")
        #expect(!error.remedy.isEmpty)
    }

    @Test func targetsThatNobodyCanMeetAreRefusedWithTheReason() throws {
        func search(_ target: Plan.Target, _ text: String = PlanFixture.usual) throws -> PlanError {
            var plan = try PlanFixture.plan(text)
            plan.targets = [target]
            var sizing = Sizing(Forecaster(plan, seed: 1, replications: 2, jobs: 500))
            do throws(PlanError) {
                _ = try sizing.cheapest()
            } catch { return error }
            throw PlanFixture.Missing(path: "an error")
        }
        // One encode takes 200 ms.
        let slow = try search(Plan.Target(lane: .interactive, percentile: 95, milliseconds: 100))
        #expect(slow.place == "interactive p95 ≤ 100 ms")
        #expect(slow.reason.contains("cannot be met by any number of machines"), "\(slow)")
        #expect(slow.reason.contains("one encode takes 200 ms") && slow.remedy.contains("warms"), "\(slow)")
        let prompt = try search(Plan.Target(lane: .interactive, percentile: 50, milliseconds: 1, jobs: .seen))
        #expect(prompt.reason.contains("one prompt takes 2 ms"), "\(prompt)")
        let nobody = try search(Plan.Target(lane: .bulk, percentile: 95, milliseconds: 1000))
        #expect(nobody.description.contains("nothing comes into that lane"), "\(nobody)")
        // One machine has only so many cores.
        let machine = PlanFixture.usual.replacing(PlanFixture.machines, with: #""machines": {"all": {"cores": 1}}"#)
            .replacing("345600", with: "3456000")
        let small = try search(Plan.Target(lane: .interactive, percentile: 95, milliseconds: 5000), machine)
        #expect(small.reason.contains("one machine of 1 cores does not carry this load"), "\(small)")
    }
}

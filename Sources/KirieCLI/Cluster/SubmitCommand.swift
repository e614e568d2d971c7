import ArgumentParser
import Clients
import Cluster
import Imaging
import Segmentation
import Terminals

struct SubmitCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "submit",
        abstract: "Hand jobs to the cluster: one picture, or a file of thousands.",
        discussion: """
            kirie submit photo.jpg --point 840,520 --wait -o masks
            kirie submit a.jpg b.jpg --box 100,80,640,420 --wait > answers.jsonl
            kirie submit --jobs jobs.jsonl --wait -o masks > answers.jsonl

            A jobs file holds a JSON object a line:
              {"id":"a1","image":"photos/a.jpg","prompts":[{"points":[[500,375]]}]}
              {"id":"a2","image":"b.jpg","prompts":[{"box":[9,9,99,99]}],"meta":{"n":4}}
            From Python:
              import glob, json
              for f in sorted(glob.glob("photos/*.jpg")):
                  prompts = [{"points": [[500, 375]], "labels": [1]}]
                  print(json.dumps({"image": f, "prompts": prompts}))
            From a shell:
              for f in photos/*.jpg; do
                jq -nc --arg f "$f" '{image: $f, prompts: [{box: [9, 9, 200, 200]}]}'
              done | kirie submit --jobs - --wait

            One JSON line a job goes to standard output: {"id":…,"state":"queued"} at once, or with --wait the answer
            when it is there. Each says where its job came from, as "path" and "line", and gives back the line's own
            "meta", any JSON of up to 16 KiB. A job with an id may be submitted again: it is waited for and not done
            twice. An id is 1 to 128 of A-Z a-z 0-9 . _ : @ / + -, so the name of a file is none in general.
            A box is clipped to the picture. A prompt that makes no sense is answered with an error in its place, among
            the answer's "errors", and the others of its job with masks.
            -o DIR names masks by their pictures: DIR/a-1.png; d1/x.jpg and d2/x.jpg make DIR/d1/x-1.png and
            DIR/d2/x-1.png; in a jobs file the number of the line stands between, DIR/a-LINE-1.png.
            Exit status: 0 all is well, 1 a line, a job or a prompt failed, 2 usage, 75 the cluster was full: submit the
            jobs whose state is "refused" again later, or use --when-full wait.
            """)

    enum LaneArgument: String, ExpressibleByArgument, CaseIterable {
        case interactive, bulk
        var lane: Lane { self == .interactive ? .interactive : .bulk }
    }

    enum OutputArgument: String, ExpressibleByArgument, CaseIterable {
        case rle, polygon, png
        var output: JobLine.Output {
            switch self {
            case .rle: .runLengths
            case .polygon: .polygons
            case .png: .png
            }
        }
    }

    enum FullnessArgument: String, ExpressibleByArgument, CaseIterable {
        case refuse, wait
    }

    @Argument(help: "PNG, JPEG, WebP or TIFF files, or folders of them; the prompts are the same for each.")
    var images: [String] = []

    @Option(name: .long, help: ArgumentHelp("A file of job lines, - for standard input.", valueName: "file.jsonl|-"))
    var jobs: String?

    @OptionGroup var prompt: PromptOptions

    @Flag(name: .long, help: "Everything that is in the pictures; with the flags of `kirie everything`.")
    var everything = false

    @OptionGroup var instances: InstancesOption

    @OptionGroup(visibility: .hidden) var everythingOptions: EverythingOptions

    @Option(
        name: .long,
        help: ArgumentHelp("Rows of the model's low-resolution logits, which --mask becomes.", visibility: .hidden))
    var maskSide = PromptOptions.publishedMaskSide

    @Flag(name: .long, help: "Wait for the jobs, and print each answer as it comes.")
    var wait = false

    @Option(
        name: .long,
        help: ArgumentHelp(
            "interactive goes first. Default: interactive for one picture, else bulk; a job line's own lane wins.",
            valueName: "interactive|bulk"))
    var lane: LaneArgument?

    @OptionGroup var pictures: PictureOptions

    @OptionGroup var model: ModelChoice

    @Option(
        name: .long, help: ArgumentHelp("The jobs expire so many seconds from now.", valueName: "seconds"),
        transform: DecimalNumber.argument)
    var ttl: Double?

    @Option(name: .long, help: ArgumentHelp("How answers give masks.", valueName: "rle|polygon|png"))
    var output: OutputArgument = .rle

    @Option(
        name: .customLong("polygon-tolerance"),
        help: ArgumentHelp(
            "With --output polygon: how far a point that is left out may be from the outline.", valueName: "pixels"))
    var tolerance: Double?

    @Option(
        name: .customLong("polygon-points"),
        help: ArgumentHelp(
            "With --output polygon: the most points of a mask's outlines; the tolerance grows until it is kept.",
            valueName: "n"))
    var mostPoints: Int?

    @Option(
        name: .customShort("o"),
        help: ArgumentHelp("With --wait: the masks as PNG files in this folder.", valueName: "dir"))
    var folder: String?

    @Option(name: .long, help: "When the cluster is full: refuse (exit status 75), or wait until it takes the jobs.")
    var whenFull: FullnessArgument = .refuse

    @OptionGroup var replication: ReplicationOptions

    @OptionGroup var tenant: TenantOption

    @OptionGroup var redis: RedisOptions

    func validate() throws {
        if let ttl, !(ttl >= 0.001 && ttl <= 1e9) {
            throw ValidationError("--ttl takes seconds, from 0.001 to 1e9.")
        }
        if folder != nil, !wait { throw ValidationError("-o writes answers, which only --wait brings: add --wait.") }
        if folder != nil, output == .polygon {
            throw ValidationError("-o writes masks, and --output polygon asks for outlines: use rle or png.")
        }
        if tolerance != nil || mostPoints != nil, output != .polygon {
            throw ValidationError("--polygon-tolerance and --polygon-points go with --output polygon.")
        }
        if let tolerance, !JobLine.Outlines.tolerances.contains(tolerance) {
            throw ValidationError("--polygon-tolerance takes pixels, from 0 to 10000.")
        }
        if let mostPoints, !JobLine.Outlines.mostPoints.contains(mostPoints) {
            throw ValidationError("--polygon-points takes a number from 4 to 1000000.")
        }
        guard (1...1024).contains(maskSide) else { throw ValidationError("--mask-side takes 1 to 1024.") }
        if jobs != nil {
            guard images.isEmpty, !prompt.isAny, !prompt.multimask, !everything, output == .rle else {
                throw ValidationError(
                    "With --jobs, pictures, prompts, multimask and output stand in the job lines.")
            }
        } else {
            guard !images.isEmpty else { throw ValidationError("Give a picture, or --jobs FILE.") }
            if everything {
                guard !prompt.isAny, !prompt.multimask else {
                    throw ValidationError("--everything takes the place of prompts: give one or the other.")
                }
            } else {
                try prompt.requireAny()
            }
        }
        if jobs == nil, !everything { _ = try everythingOptions.tile(for: prompt) }
        if jobs != nil, everythingOptions.tile != .off {
            throw ValidationError("With --jobs, tile stands in the job lines.")
        }
        if !everything, everythingOptions.isAny { throw ValidationError("Those flags go with --everything.") }
    }

    func run() async throws {
        // What can be said against the input is said before anything is submitted.
        let images = try await PictureSearch().pictures(named: self.images)
        let source: JobSource =
            if let jobs {
                .file(try JobLineReader(jobs), name: jobs == "-" ? "standard input" : jobs)
            } else {
                .images(images)
            }
        let masks = try folder.map { try MaskFiles(folder: $0, limit: pictures.size.limit) }
        let broker = replication.applied(to: try await redis.submitter(for: tenant))
        let report = SubmissionReport(waits: wait)
        let submission = SubmissionRun(
            broker,
            settings: SubmissionRun.Settings(
                defaults: JobIntake.Defaults(
                    model: try await model.resolve(broker),
                    lane: lane?.lane ?? (jobs == nil && images.count == 1 ? .interactive : .bulk),
                    timeToLive: ttl.map { .milliseconds(Int64(max(1, ($0 * 1000).rounded()))) }),
                waits: wait, whenFull: whenFull == .wait ? .wait : .refuse),
            masks: masks, images: images, files: PictureFiles(decoder: pictures.decoder), tell: report.tell)
        do {
            try await Interruption.handling { try await submission.run(source, prompts: prompts) }
        } catch let interruption as Interruption {
            try await report.sayHowToGoOn("interrupted", submission.openJobs)
            throw ExitCode(interruption.exitCode)
        } catch {
            // What is on its way is said even where standard output is what failed.
            try? await report.sayHowToGoOn("stopped", submission.openJobs)
            throw error
        }
        report.summarize(source)
        let code = report.exitCode
        if code != 0 { throw ExitCode(code) }
    }

    /// The job line of a picture that was named on the command line.
    @Sendable
    private func prompts(_ path: String, _ width: Int, _ height: Int) throws -> JobLine {
        var line = JobLine(
            image: .path(path),
            prompts: everything
                ? []
                : try prompt.given(
                    of: path, width: width, height: height, maskSide: maskSide, limit: pictures.size.limit),
            everything: everything ? try everythingOptions.parameters() : nil, multimask: prompt.multimask,
            instances: instances.number, output: output.output,
            outlines: JobLine.Outlines(tolerance: tolerance ?? 0, mostPoints: mostPoints))
        line.origin.path = path
        line.tile = everything ? nil : try everythingOptions.tile(for: prompt)
        return line
    }
}

package import Cluster
import Redis
package import Segmentation

/// Makes jobs of job lines: finds and hashes the picture, checks each prompt against it, gives the job a name.
///
/// What is wrong is said before anything is sent, with the line and the field that it is in.
package struct JobIntake: Sendable {
    /// What a line may leave out.
    package struct Defaults: Sendable {
        /// For which model.
        package let model: ModelIdentifier
        /// The lane of lines that name none.
        package let lane: Lane
        /// After which jobs expire whose lines do not say it; nil for never.
        package let timeToLive: Duration?
        /// Whose jobs they are; nil for the broker's tenant.
        package let tenant: Tenant?

        /// Defaults of all their parts.
        package init(model: ModelIdentifier, lane: Lane, timeToLive: Duration? = nil, tenant: Tenant? = nil) {
            self.model = model
            self.lane = lane
            self.timeToLive = timeToLive
            self.tenant = tenant
        }
    }

    /// The job line of a picture that was named by hand: its path, columns, rows.
    package typealias Prompts = @Sendable (String, Int, Int) throws -> JobLine

    private let defaults: Defaults
    private let files: PictureFiles
    private let readsPaths: Bool

    /// An intake that has its pictures read by `files`.
    ///
    /// With `readsPaths` false, lines that name files are refused: they come from elsewhere.
    package init(_ defaults: Defaults, files: PictureFiles, readsPaths: Bool = true) {
        self.defaults = defaults
        self.files = files
        self.readsPaths = readsPaths
    }

    /// The job of a line.
    package func request(_ place: JobPlace, _ line: JobLine) async throws(UnusableJob) -> JobRequest {
        if line.tenant != nil, !readsPaths {
            throw UnusableJob(
                id: line.id, place: place, origin: line.origin, field: "tenant",
                reason: "the API key says whose a job is: leave it out")
        }
        let picture: Picture?
        do {
            switch line.image {
            case .path where !readsPaths:
                throw UnusableJob(
                    id: line.id, place: place, origin: line.origin, field: "image",
                    reason: "a picture is {\"base64\":…} or {\"sha256\":…} here, never a path")
            case .path(let path): picture = try await files.picture(at: path)
            case .bytes(let bytes): picture = try await files.picture(in: bytes, named: "the picture")
            case .digest: picture = nil
            }
        } catch let error as UnusableJob {
            throw error
        } catch {
            throw UnusableJob(id: line.id, place: place, origin: line.origin, field: "image", reason: "\(error)")
        }
        return try request(place, line, picture)
    }

    /// The job of a picture that was named by hand; `prompts` is asked, with its size, what is to be cut out of it.
    package func request(path: String, _ prompts: Prompts) async throws(UnusableJob) -> JobRequest {
        let place = JobPlace.image(path)
        let (line, picture): (JobLine, Picture)
        do {
            picture = try await files.picture(at: path)
            line = try prompts(path, picture.width, picture.height)
        } catch {
            throw UnusableJob(place: place, origin: JobOrigin(path: path), field: nil, reason: "\(error)")
        }
        return try request(place, line, picture)
    }

    /// The job of a line whose picture is in the cluster; `size`: of that picture, where it is known.
    package func request(_ line: JobLine, size: (width: Int, height: Int)?) throws(UnusableJob) -> JobRequest {
        try request(.request, line, nil, size: size)
    }

    /// A job, unless nothing can be done for any of its prompts.
    private func request(
        _ place: JobPlace, _ line: JobLine, _ picture: Picture?, size known: (width: Int, height: Int)? = nil
    ) throws(UnusableJob) -> JobRequest {
        var faults = line.faults.sorted { $0.key < $1.key }.map { FittedPrompts.Remark(prompt: $0.key, text: $0.value) }
        if let size = picture.map({ ($0.width, $0.height) }) ?? known {
            // The mask's size and words are the model's business, and the model is where the workers are.
            let fitted = FittedPrompts(
                line.prompts, known: line.faults, width: size.0, height: size.1, maskSide: nil,
                takesText: true)
            if fitted.isHopeless, line.everything == nil, let first = fitted.faults.first {
                throw UnusableJob(
                    id: line.id, place: place, origin: line.origin, field: "prompts[\(first.prompt)]",
                    reason: first.text)
            }
            faults = fitted.faults
        }
        guard let digest = picture?.digest ?? line.digest else {
            throw UnusableJob(id: line.id, place: place, origin: line.origin, field: "image", reason: "is missing")
        }
        let job = Job(
            id: line.id ?? Job.makeIdentifier(), lane: line.lane ?? defaults.lane, image: digest, model: defaults.model,
            timeToLive: line.timeToLive ?? defaults.timeToLive,
            line: RedisBytes(line.encoded(for: digest)), tenant: line.tenant ?? defaults.tenant)
        return JobRequest(place: place, line: line, picture: picture, job: job, faults: faults)
    }
}

extension JobLine {
    /// The digest of a picture that is in the cluster.
    package var digest: ImageDigest? { if case .digest(let digest) = image { digest } else { nil } }
}

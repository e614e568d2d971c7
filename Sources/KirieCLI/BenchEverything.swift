import ArgumentParser
import Benchmarks
import Imaging
import SegmentAnything
import Segmentation
import Tensors
import Terminals

extension BenchCommand {
    /// Times everything mode on a picture.
    struct Everything: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Time everything mode on a picture, and the fast way beside the plain one.",
            discussion: """
                kirie bench everything photo.jpg --runs 3 --json
                kirie bench everything photo.jpg --random mobile --pred-iou-thresh 0 --stability-score-thresh 0

                The encode of the whole picture is left out of the times.
                """)

        @Argument(help: "A PNG, JPEG, WebP or TIFF file.")
        var image: String

        @OptionGroup var options: Options
        @OptionGroup var pictures: PictureOptions
        @OptionGroup var everything: EverythingOptions

        @Flag(name: .long, help: "Leave the fast way out.")
        var plainOnly = false

        func run() throws {
            let picture = try pictures.decoder.read(
                try pictures.decoder.contents(ofFile: image), named: image
            ).image
            let timing: EverythingTiming
            let parameters = try everything.parameters()
            let pool = options.model.makePool()
            if let random = options.random, let geometry = random.published {
                let precision = options.model.precision(for: geometry)
                timing = EverythingTiming(
                    encoder: try SamModel.randomEncoder(geometry, precision: precision),
                    decoder: try SamModel.randomDecoder(geometry, precision: precision), model: random.rawValue,
                    parameters: parameters, pool: pool)
            } else {
                let (name, sam) = try options.model.open()
                let precision = options.model.precision(for: sam)
                timing = EverythingTiming(
                    encoder: try sam.imageEncoder(precision: precision),
                    decoder: try sam.promptDecoder(precision: precision), model: name,
                    parameters: parameters.resolved(by: sam.everythingDefaults), pool: pool)
            }
            let figures = try timing.measure(picture, runs: options.runs, measuresFast: !plainOnly)
            if options.json {
                try StandardOutput.print(json: figures)
                return
            }
            var text =
                "\(figures.model) \(figures.precision), \(figures.width) x \(figures.height), \(figures.points) points: "
                + "\(figures.masks) masks in \(figures.median_s) s, peak \(figures.peak_rss_mb) MB\n"
            if let fast = figures.fast {
                text +=
                    "fast: \(fast.masks) masks in \(fast.median_s) s, \(fast.times) times; of the plain way's masks "
                    + "\(fast.area_found) by area and \(fast.masks_found) by number\n"
            }
            try StandardOutput.print(Array(text.utf8))
        }
    }
}

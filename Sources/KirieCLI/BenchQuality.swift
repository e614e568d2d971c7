import ArgumentParser
import Benchmarks
import Evaluation
import Tensors
import Terminals

extension BenchCommand {
    /// Holds a precision's masks against those of fp32.
    struct Quality: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Compare a precision's masks with those of fp32, on labelled pictures.",
            discussion: """
                kirie bench quality data --model vit_b --json

                For every object: a box, a click with its three masks, and clicks that correct, the same for both. The
                figure is the mean IoU of each mask with its counterpart.
                """)

        @Argument(help: "A folder of images/ and masks/, or of such folders, as `kirie eval` takes it.")
        var directory: String

        @OptionGroup var pictures: PictureOptions
        @OptionGroup var model: ModelOptions

        @Option(name: .long, help: "Correcting clicks after the first.")
        var corrections = 3

        @Flag(name: .long, help: "Print one JSON object on standard output and nothing else.")
        var json = false

        func validate() throws {
            if !(0...100).contains(corrections) { throw ValidationError("--corrections takes a number from 0 to 100.") }
        }

        func run() throws {
            let sets = try DataSet.all(below: directory)
            let (name, sam) = try model.open()
            let quality = try PrecisionQuality(
                sam, name: name, precision: model.precision(for: sam), corrections: corrections,
                pictures: pictures.decoder, pool: model.makePool())
            let figures = try quality.measure(sets, notes: PictureOptions.complain) { set in
                var bar = ProgressBar(set.name, total: set.pictures.count)
                return { bar.show($0) }
            }
            if json {
                try StandardOutput.print(json: figures)
            } else {
                let rows = figures.sets.sorted { $0.key < $1.key } + [(key: "all", value: figures.all)]
                for (name, row) in rows {
                    try StandardOutput.print(Array("\(name): mean IoU \(row.mean_iou), \(row.masks) masks\n".utf8))
                }
            }
        }
    }
}

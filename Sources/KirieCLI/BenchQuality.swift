import ArgumentParser
import Evaluation
import FoundationEssentials
import SegmentAnything
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
            let precision = model.precision(for: sam)
            let agreement = Agreement(
                exact: (try sam.imageEncoder(precision: .float32), try sam.promptDecoder(precision: .float32)),
                other: (try sam.imageEncoder(precision: precision), try sam.promptDecoder(precision: precision)),
                corrections: corrections, pictures: pictures.decoder, pool: model.makePool())
            var report = Report(model: name, precision: precision.rawValue)
            for set in sets {
                var bar = ProgressBar(set.name, total: set.pictures.count)
                let (mean, masks) = try agreement.measure(set, notes: PictureOptions.complain) { bar.show($0) }
                report.sets[set.name] = Report.Row(mean_iou: mean, masks: masks)
            }
            let masks = report.sets.values.reduce(0) { $0 + $1.masks }
            let sum = report.sets.values.reduce(0) { $0 + $1.mean_iou * Double($1.masks) }
            report.all = Report.Row(mean_iou: sum / Double(max(1, masks)), masks: masks)
            if json {
                let encoder = JSONEncoder()
                encoder.outputFormatting = [.sortedKeys]
                try StandardOutput.print(Array(try encoder.encode(report)) + [UInt8(ascii: "\n")])
            } else {
                let rows = report.sets.sorted { $0.key < $1.key } + [(key: "all", value: report.all)]
                for (name, row) in rows {
                    try StandardOutput.print(Array("\(name): mean IoU \(row.mean_iou), \(row.masks) masks\n".utf8))
                }
            }
        }

        private struct Report: Encodable {
            struct Row: Encodable {
                var mean_iou = 0.0
                var masks = 0
            }
            let model: String
            let precision: String
            var sets: [String: Row] = [:]
            var all = Row()
        }
    }
}

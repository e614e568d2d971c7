import ArgumentParser
import Evaluation
import SegmentAnything
import Segmentation
import Tensors
import Terminals
import TextMatching

struct EvalCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "eval",
        abstract: "Measure a model on labelled pictures: images/NAME.jpg beside masks/NAME.png, 0 void, 1…N objects.",
        discussion: """
            kirie eval data --json

            Below DIR lie sets, or DIR is one; a set's heldout/ folder is taken where it has one. Every figure is the mean
            IoU over the objects of a set: one centre click (the mask with the highest predicted IoU), the best of its
            three masks, a tight box, three and five corrective clicks; noc90 is the number of clicks to 90 %.
            """)

    @Argument(help: "A directory of data sets, or one data set.")
    var directory: String

    @OptionGroup var pictures: PictureOptions
    @OptionGroup var model: ModelOptions

    @Option(name: .long, help: "Clicks for each object; noc90 takes 20.")
    var clicks = 20

    @Flag(
        name: .long,
        help: ArgumentHelp(
            "Measure texts instead: of each picture's categories, as the set's segments.json names them, the mask that the "
                + "word picks."))
    var text = false

    @OptionGroup var textModel: TextModelOption

    @Flag(name: .long, help: "Print one JSON object on standard output and nothing else.")
    var json = false

    func validate() throws {
        if clicks < 1 || clicks > 100 { throw ValidationError("--clicks takes a number from 1 to 100.") }
    }

    func run() throws {
        let sets = try DataSet.all(below: directory)
        if text { return try runTexts(sets) }
        let (name, sam) = try model.open()
        let evaluation = Evaluation(
            encoder: try sam.imageEncoder(precision: model.precision(for: sam)),
            decoder: try sam.promptDecoder(precision: model.precision(for: sam)), clicks: clicks,
            pictures: pictures.decoder, pool: model.makePool())
        var rows: [(name: String, row: Evaluation.Row)] = []
        for set in sets {
            var bar = ProgressBar(set.name, total: set.pictures.count)
            rows.append((set.name, try evaluation.measure(set, notes: PictureOptions.complain) { bar.show($0) }))
        }
        let mean = Evaluation.Row(meanOf: rows.map(\.row))
        if json {
            let report = Report(
                model: name, precision: model.precision(for: sam).rawValue,
                sets: Dictionary(uniqueKeysWithValues: rows.map { ($0.name, $0.row) }), mean: mean)
            try StandardOutput.print(json: report)
        } else {
            try StandardOutput.print(Array(Self.table(rows + [("mean over sets", mean)]).utf8))
        }
    }

    private func runTexts(_ sets: [DataSet]) throws {
        let (name, sam) = try model.open()
        let pool = model.makePool()
        let matcher = try textModel.open(pool: pool)
        let evaluation = TextEvaluation(
            generator: AutomaticMaskGenerator(
                encoder: try sam.imageEncoder(precision: model.precision(for: sam)),
                decoder: try sam.promptDecoder(precision: model.precision(for: sam)),
                parameters: .forTexts,
                defaults: sam.everythingDefaults), matcher: matcher, pictures: pictures.decoder, pool: pool)
        var rows: [String: TextEvaluation.Row] = [:]
        for set in sets {
            guard let file = set.pictures.first?.image,
                let categories = try SegmentCategories(
                    ofSetIn: file.split(separator: "/", omittingEmptySubsequences: false).dropLast(2).joined(
                        separator: "/"))
            else { continue }
            var bar = ProgressBar(set.name, total: set.pictures.count)
            rows[set.name] = try evaluation.measure(set, categories: categories) { bar.show($0) }
        }
        guard !rows.isEmpty else {
            throw ValidationError("\(directory): no set has a segments.json that names its categories.")
        }
        if json { return try StandardOutput.print(json: TextReport(model: name, text_model: matcher.name, sets: rows)) }
        for (set, row) in rows.sorted(by: { $0.key < $1.key }) {
            try StandardOutput.print(
                Array(
                    ("\(set): \(row.pairs) pairs, found \(Self.rounded(row.found)) of \(Self.rounded(row.reachable)) "
                        + "that a candidate has; of the best candidate's IoU \(Self.rounded(row.ofBest)), "
                        + "\(Self.rounded(row.ofBestWhereFound)) where found\n").utf8))
        }
    }

    private static func rounded(_ value: Double) -> Double { (value * 1000).rounded() / 1000 }

    private struct TextReport: Encodable {
        let model: String
        let text_model: String
        let sets: [String: TextEvaluation.Row]
    }

    private struct Report: Encodable {
        let model: String
        let precision: String
        let sets: [String: Evaluation.Row]
        let mean: Evaluation.Row
    }

    private static func table(_ rows: [(name: String, row: Evaluation.Row)]) -> String {
        func cell(_ text: String) -> String { String(repeating: " ", count: max(0, 10 - text.count)) + text }
        func number(_ value: Double?, digits: Int = 3) -> String {
            guard let value else { return cell("-") }
            var scale = 1
            for _ in 0..<digits { scale *= 10 }
            let whole = Int((value * Double(scale)).rounded())
            let fraction = String(whole % scale)
            return cell("\(whole / scale)." + String(repeating: "0", count: digits - fraction.count) + fraction)
        }
        let width = (rows.map(\.name.count).max() ?? 0) + 1
        func line(_ name: String, _ cells: [String]) -> String {
            name + String(repeating: " ", count: width - name.count) + cells.joined() + "\n"
        }
        let head = ["click", "best", "box", "clicks3", "clicks5", "noc90", "instances"].map(cell)
        return line("", head)
            + rows.map { name, row in
                line(
                    name,
                    [
                        number(row.click), number(row.best), number(row.box), number(row.clicks3),
                        number(row.clicks5), number(row.noc90, digits: 2), cell("\(row.instances)"),
                    ])
            }.joined()
    }
}

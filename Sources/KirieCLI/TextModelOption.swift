import ArgumentParser
import Platform
import Tensors
import TextMatching

/// With what texts are matched.
struct TextModelOption: ParsableArguments {
    @Option(
        name: .customLong("text-model"),
        help: ArgumentHelp(
            "What tells which mask a text means: kirie-words (nouns, offline), or a CLIP model's name, file or folder. "
                + "Default: $KIRIE_TEXT_MODEL, else kirie-words.", valueName: "model"))
    var model: String?

    /// The model that was named, or that of the environment, or the shipped one.
    var name: String { model ?? Environment["KIRIE_TEXT_MODEL"] ?? WordsMatcher.shippedName }

    /// Refuses what has no use.
    func check(isUsed: Bool, goesWith flags: String, _ cluster: ClusterChoice) throws {
        guard model != nil else { return }
        guard isUsed else { throw ValidationError("--text-model goes with \(flags).") }
        guard cluster.redis == nil else { throw ValidationError("With --redis the workers' own --text-model holds.") }
    }

    func open(pool: ThreadPool) throws -> any TextMatcher {
        try TextModels.open(
            path: try ModelLocation.path(of: name), name: ModelLocation.displayName(name), pool: pool)
    }
}

/// How many masks a text has.
struct InstancesOption: ParsableArguments {
    @Option(
        name: .long,
        help: ArgumentHelp(
            "Of a text: all that it means, or so many at most. Default: the best one.", valueName: "n|all"),
        transform: { text in
            if text == "all" { return .all }
            guard let number = DecimalNumber.readWhole(text), (1...10_000).contains(number) else {
                throw ValidationError("a number from 1 to 10000, or all, is expected")
            }
            return number == 1 ? .best : .top(number)
        })
    var instances: TextSelection.Count?

    /// As a job line has it; nil for one.
    var number: Int? {
        switch instances {
        case nil, .best: nil
        case .top(let count): count
        case .all: .max
        }
    }
}

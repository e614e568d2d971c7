import ArgumentParser

/// How often something is looked at, and how it is shown.
struct WatchOptions: ParsableArguments {
    @Flag(name: .long, help: "Look again and again; on a terminal the view is drawn in place, and q ends it.")
    var watch = false

    @Flag(name: .long, help: "Print one JSON object; with --watch one each time.")
    var json = false

    @Option(
        name: .long, help: ArgumentHelp("With --watch: between two looks.", valueName: "seconds"),
        transform: DecimalNumber.argument)
    var interval = 1.0

    func validate() throws {
        guard interval >= 0.1, interval <= 86_400 else {
            throw ValidationError("--interval takes 0.1 to 86400 seconds.")
        }
    }
}

import ArgumentParser
import Imaging
import Platform
import Terminals

/// How pictures are read.
struct PictureOptions: ParsableArguments {
    @OptionGroup var size: PictureLimitOptions

    @Option(
        name: .long,
        help: ArgumentHelp(
            "Of 16-bit pictures: the samples that are black and white; full for all 16 bits; auto shows the bits that "
                + "are in use where the upper ones are empty, and says so.", valueName: "min,max|full|auto"),
        transform: { text in
            guard let levels = Levels(text) else {
                throw ValidationError("auto, full or min,max is expected, such as 0,4095; both from 0 to 65535.")
            }
            return levels
        })
    var levels: Levels = .auto

    /// What reads them.
    var decoder: ImageDecoder { ImageDecoder(limit: size.limit, levels: levels) }

    /// Says on standard error what is to be said of a picture.
    static func complain(of notes: [ImageNote], in file: String) {
        for note in notes { Terminal.complain("kirie: \(file): \(note)") }
    }
}

/// How large pictures may be.
struct PictureLimitOptions: ParsableArguments {
    /// Where the default comes from, for workers and for whole machines.
    static let variable = "KIRIE_MAX_PIXELS"

    @Option(
        name: .customLong("max-pixels"),
        help: ArgumentHelp(
            "Refuse pictures of more pixels, before memory is taken. Default: $KIRIE_MAX_PIXELS, else 100000000.",
            valueName: "n"))
    var most: Int?

    func validate() throws {
        if let most, !PixelLimit.range.contains(most) {
            throw ValidationError("--max-pixels takes a number from 1 to \(PixelLimit.range.upperBound).")
        }
    }

    /// The option, else the environment, else the standard.
    var limit: PixelLimit { most.map { PixelLimit(pixels: $0) } ?? Self.usual }

    /// What the environment says, else the standard.
    static var usual: PixelLimit {
        guard let pixels = Environment[variable].flatMap({ Int($0) }), PixelLimit.range.contains(pixels) else {
            return .standard
        }
        return PixelLimit(pixels: pixels)
    }

    /// Refuses a default that is no number of pixels.
    static func checkEnvironment() throws {
        guard let text = Environment[variable] else { return }
        guard let pixels = Int(text), PixelLimit.range.contains(pixels) else {
            throw ValidationError(
                "\(variable) takes a number from 1 to \(PixelLimit.range.upperBound), not '\(text)'.")
        }
    }
}

import ArgumentParser
import Exporting
import Imaging
import SegmentAnything
import Segmentation
import Terminals
import Workers

/// Where masks go.
struct OutputOptions: ParsableArguments {
    @Option(
        name: .shortAndLong,
        help: ArgumentHelp(
            "The mask as PNG (255 on the object), or everything as JSON. Several masks become OUT-1.png, OUT-2.png, …",
            valueName: "out.png|.json"))
    var output: String?

    @Option(
        name: .long, help: ArgumentHelp("The picture with masks and prompts drawn over it.", valueName: "out.png"))
    var overlay: String?

    @Flag(name: .long, help: "Print one JSON object on standard output and nothing else.")
    var json = false

    func validate() throws {
        if let output, !output.hasSuffix(".png"), !output.hasSuffix(".json") {
            throw ValidationError("-o takes a name that ends in .png or .json.")
        }
        if let overlay, !overlay.hasSuffix(".png") {
            throw ValidationError("--overlay takes a name that ends in .png.")
        }
        if let output, output == overlay {
            throw ValidationError("-o and --overlay name the same file.")
        }
    }

    /// Refuses outputs that cannot be written, before the work, for as many masks as there will be.
    func check(masks count: Int) throws {
        for name in names(count) { try StagedFiles.check(name) }
        if let overlay { try StagedFiles.check(overlay) }
    }

    /// The files that `-o` makes of so many masks.
    private func names(_ count: Int) -> [String] {
        guard let output else { return [] }
        if output.hasSuffix(".json") || count == 1 { return [output] }
        return (0..<count).map { "\(output.dropLast(4))-\($0 + 1).png" }
    }

    /// Writes the masks of everything mode, numbered by their order.
    func write(everything answer: Answer, masks: [MaskCandidate], image: Image) throws {
        let files = StagedFiles()
        var written: [String] = []
        if let output, output.hasSuffix(".json") {
            try files.stage(try answer.line, to: output)
            written.append(output)
        } else {
            for (name, mask) in zip(names(masks.count), masks) {
                try files.stage(try PNGWriter.encode(mask: mask.encoding.mask.gray, named: name), to: name)
                written.append(name)
            }
        }
        if let overlay {
            let drawn = MaskFolder.overlay(of: masks, on: image)
            try files.stage(try PNGWriter.encode(drawn, named: overlay), to: overlay)
            written.append(overlay)
        }
        if json {
            try StandardOutput.print(try answer.line)
        } else {
            Terminal.complain("\(masks.count) masks")
        }
        try files.commit()
        if !json {
            for name in written { Terminal.complain("wrote \(name)") }
        }
    }

    /// What a command ends with whose answer is written: failure where a prompt could not be answered.
    func end(_ prompts: FittedPrompts) throws {
        if !prompts.faults.isEmpty { throw ExitCode(1) }
    }

    /// Writes what was asked for and says where it is; masks in the order prompt, score.
    ///
    /// Files are numbered by their prompts, whether all of those could be answered or not. The masks are those of the
    /// prompts that could be used, in their order. What the command has written so far is in `files`, all of which gets
    /// its name here, after the answer went out.
    func write(
        _ answer: Answer, masks: [[Mask]], prompts: FittedPrompts, image: Image?,
        files: StagedFiles = StagedFiles()
    ) throws {
        let flat = masks.flatMap { $0 }
        let each = masks.first?.count ?? 1
        let all = names((prompts.usable.count + prompts.faults.count) * each)
        var written =
            all.count > 1 ? prompts.usable.flatMap { all[$0.index * each..<($0.index + 1) * each] } : all
        if let output, output.hasSuffix(".json") {
            try files.stage(try answer.line, to: output)
        } else {
            for (name, mask) in zip(written, flat) {
                try files.stage(try PNGWriter.encode(mask: mask.gray, named: name), to: name)
            }
        }
        if let overlay, let image {
            // The best mask of each prompt: three readings of one click on top of each other are no picture.
            let best = masks.compactMap(\.first)
            let drawn = MaskOverlay(masks: best.map(\.gray), markers: prompts.usable.flatMap(\.prompt.markers))
                .drawn(on: image)
            try files.stage(try PNGWriter.encode(drawn, named: overlay), to: overlay)
            written.append(overlay)
        }
        if json {
            try StandardOutput.print(try answer.line)
        } else {
            for cutout in answer.masks {
                try StandardOutput.print(
                    Array(
                        "prompt \(cutout.prompt)  score \(cutout.score.rounded(digits: 3))  stability \(cutout.stability_score.rounded(digits: 3))  area \(cutout.area)  box \(cutout.bbox)\n"
                            .utf8))
            }
        }
        try files.commit()
        if !json {
            for name in written { Terminal.complain("wrote \(name)") }
        }
    }
}

extension Float {
    fileprivate func rounded(digits: Int) -> String {
        var scale: Float = 1
        for _ in 0..<digits { scale *= 10 }
        return "\((self * scale).rounded() / scale)"
    }
}

extension Prompt {
    fileprivate var markers: [MaskOverlay.Marker] {
        let clicks = points.map { point in
            point.label == .foreground
                ? MaskOverlay.Marker.foregroundPoint(x: point.x, y: point.y) : .backgroundPoint(x: point.x, y: point.y)
        }
        return clicks + (box.map { [.box(x0: $0.x0, y0: $0.y0, x1: $0.x1, y1: $0.y1)] } ?? [])
    }
}

extension Answer {
    /// The line that is printed.
    var line: [UInt8] {
        get throws { try encoded() + [UInt8(ascii: "\n")] }
    }
}

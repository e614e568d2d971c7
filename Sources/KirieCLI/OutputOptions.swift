import ArgumentParser
import Imaging
import SegmentAnything
import Segmentation

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
    }

    /// Writes what was asked for and says where it is; masks in the order prompt, score.
    func write(_ answer: Answer, masks: [[PredictedMask]], prompts: [Prompt], image: Image?) throws {
        let flat = masks.flatMap { $0 }
        if let output {
            if output.hasSuffix(".json") {
                try FileOutput.write(try answer.json, to: output)
                say("wrote \(output)")
            } else {
                for (index, predicted) in flat.enumerated() {
                    let name = flat.count == 1 ? output : "\(output.dropLast(4))-\(index + 1).png"
                    try PNGWriter.write(mask: predicted.mask.gray, to: name)
                    say("wrote \(name)")
                }
            }
        }
        if let overlay, let image {
            // The best mask of each prompt: three readings of one click on top of each other are no picture.
            let best = masks.compactMap(\.first)
            try PNGWriter.write(
                MaskOverlay(masks: best.map(\.mask.gray), markers: prompts.flatMap(\.markers)).drawn(on: image),
                to: overlay)
            say("wrote \(overlay)")
        }
        if json {
            try FileOutput.print(try answer.json)
        } else {
            for cutout in answer.masks {
                try FileOutput.print(
                    Array(
                        "prompt \(cutout.prompt)  score \(cutout.score.rounded(digits: 3))  stability \(cutout.stability_score.rounded(digits: 3))  area \(cutout.area)  box \(cutout.bbox)\n"
                            .utf8))
            }
        }
    }

    private func say(_ text: String) {
        if !json { Terminal.complain(text) }
    }
}

extension Float {
    fileprivate func rounded(digits: Int) -> String {
        var scale: Float = 1
        for _ in 0..<digits { scale *= 10 }
        return "\((self * scale).rounded() / scale)"
    }
}

extension Mask {
    /// The mask as the picture room takes it: 1 on the object.
    var gray: GrayImage { GrayImage(width: width, height: height, pixels: pixels) }
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

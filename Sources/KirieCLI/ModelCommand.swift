import ArgumentParser
import Checkpoints
import Platform
import SegmentAnything
import Tensors
import Terminals

struct ModelCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "model", abstract: "List, fetch, inspect and convert models.",
        discussion: "kirie model fetch vit_b && kirie model info vit_b",
        subcommands: [List.self, Fetch.self, Info.self, Convert.self, Draw.self])

    struct List: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "The models that Kirie knows, and where they are.", discussion: "kirie model list")

        func run() throws {
            let catalog = try Self.catalog()
            let directory = ModelCatalog.directory(environment: Environment.all)
            let width = catalog.models.map(\.name.count).max() ?? 0
            for model in catalog.models {
                let size = model.parts.contains { $0.bytes == nil } ? "not told" : ByteText.of(model.bytes)
                let here = (try? ModelLocation.path(of: model.name)) != nil
                let line =
                    "\(model.name.padding(width)) \(size.padding(8)) "
                    + "\(here ? "here      " : "to fetch  ") \(model.licence.padding(11)) \(model.description)\n"
                try StandardOutput.print(Array(line.utf8))
            }
            if let directory { Terminal.complain("fetched models live in \(directory)") }
        }

        static func catalog() throws -> ModelCatalog {
            guard let manifest = ModelLocation.manifest else {
                throw MissingModel(
                    name: "list", remedy: "set KIRIE_WEIGHTS to the directory that holds manifest.json")
            }
            return try ModelCatalog(manifest: manifest)
        }
    }

    struct Fetch: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Download a published model and check its hash.",
            discussion: """
                kirie model fetch vit_b

                A download that was cut off goes on where it stopped.
                """)

        @Argument(help: "A name from `kirie model list`.")
        var name: String

        func run() throws {
            let model = try List.catalog().model(named: name)
            guard let directory = ModelCatalog.directory(environment: Environment.all) else {
                throw MissingModel(name: name, remedy: "set KIRIE_MODELS to the directory where it is to live")
            }
            for part in model.parts {
                var receiving = ProgressBar("fetching \(part.file)", total: part.bytes ?? 0, unit: ByteText.of)
                var verifying = ProgressBar("checking \(part.file)", total: part.bytes ?? 0, unit: ByteText.of)
                _ = try part.fetch(into: directory) { progress in
                    switch progress {
                    case .received(let bytes): receiving.show(bytes)
                    case .verified(let bytes): verifying.show(bytes)
                    case .pinned(let sha256):
                        Terminal.complain(
                            "kirie: no hash of \(part.file) is published: what came has the SHA-256 \(sha256), which is "
                                + "written to \(part.pin(in: directory)) and asked of every later fetch")
                    }
                }
            }
            let path = model.path(in: directory)
            try StandardOutput.print(Array("\(path)\n".utf8))
        }
    }

    struct Info: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "A checkpoint's geometry, size and fingerprint.",
            discussion: "kirie model info sam_vit_b_01ec64.pth")

        @Argument(help: "A checkpoint file, a folder that holds one, an index of shards, or a model's name.")
        var file: String

        @OptionGroup var imageSize: ImageSizeOption

        func run() throws {
            let sam = try ModelFamilies.open(path: try ModelLocation.path(of: file), imageSize: imageSize.pixels)
            let checkpoint = sam.checkpoint
            let text = """
                file: \(checkpoint.path)
                format: \(checkpoint.format.rawValue), \(sam.layoutName) names
                size: \(checkpoint.byteCount) bytes
                parameters: \(checkpoint.parameterCount)
                \(sam.summary)
                fingerprint: \(try sam.fingerprint())

                """
            try StandardOutput.print(Array(text.utf8))
        }
    }

    struct Draw: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Write a published geometry with drawn weights, to measure workers without its checkpoint.",
            discussion: """
                kirie model draw mobile -o drawn.safetensors

                The work is that of the real model; the masks mean nothing.
                """)

        @Argument(
            help: ArgumentHelp(
                "One of \(BenchCommand.Geometry.allValueStrings.joined(separator: ", ")).", valueName: "geometry"))
        var geometry: BenchCommand.Geometry

        @Option(name: .shortAndLong, help: ArgumentHelp("The new file.", valueName: "out.safetensors"))
        var output: String

        func validate() throws {
            guard output.hasSuffix(".safetensors") else {
                throw ValidationError("-o takes a name that ends in .safetensors.")
            }
        }

        func run() throws {
            guard let published = geometry.published else { throw ValidationError("\(geometry) is not published.") }
            try StagedFiles.check(output)
            try DrawnModel.write(published, to: output)
            Terminal.complain("wrote \(output)")
        }
    }

    struct Convert: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Write a checkpoint as safetensors, under the published names.",
            discussion: """
                kirie model convert sam_vit_b_01ec64.pth -o sam_vit_b.safetensors --type fp16
                kirie model convert vit_b --lora cells/ -o cells.safetensors
                """)

        enum StoredType: String, ExpressibleByArgument, CaseIterable {
            case fp32
            case fp16

            var elementType: ElementType { self == .fp32 ? .float32 : .float16 }
        }

        @Argument(help: "A checkpoint file, a folder that holds one, an index of shards, or a model's name.")
        var file: String

        @OptionGroup var imageSize: ImageSizeOption

        @Option(name: .shortAndLong, help: ArgumentHelp("The new file.", valueName: "out.safetensors"))
        var output: String

        @Option(name: .long, help: "How numbers are stored: fp32 or fp16.")
        var type: StoredType = .fp32

        @Option(
            name: .long,
            help: ArgumentHelp(
                """
                What a fine-tuning with PEFT's LoRA saved, folded into the weights: its folder, or \
                adapter_model.safetensors with adapter_config.json beside it.
                """, valueName: "adapter"))
        var lora: String?

        func validate() throws {
            guard output.hasSuffix(".safetensors") else {
                throw ValidationError("-o takes a name that ends in .safetensors.")
            }
        }

        func run() throws {
            let sam = try ModelFamilies.open(path: try ModelLocation.path(of: file), imageSize: imageSize.pixels)
            try StagedFiles.check(output)
            let checkpoint = sam.checkpoint
            let folding = try folding(into: sam)
            var entries: [SafetensorsWriter.Entry] = []
            for name in checkpoint.names {
                entries.append(
                    try folding?.entry(name, as: type.elementType)
                        ?? .init(try checkpoint.stored(name), named: name, as: type.elementType))
            }
            try SafetensorsWriter.write(entries, metadata: sam.metadata, to: output)
            if let folding, let lora { Terminal.complain("folded \(lora) into \(folding.count) tensors") }
            Terminal.complain("wrote \(output)")
        }

        private func folding(into model: any SegmentationModel) throws -> AdapterFolding? {
            guard let lora else { return nil }
            guard let model = model as? SamModel else {
                throw ValidationError("--lora goes into models of Segment Anything's family.")
            }
            return try AdapterFolding(try LowRankAdapter(path: lora), into: model)
        }
    }
}

extension String {
    fileprivate func padding(_ width: Int) -> String {
        self + String(repeating: " ", count: max(0, width - count))
    }
}

import Checkpoints
import Foundation
import NeuralNetworks
import SegmentAnything
import Segmentation
import Tensors

/// A repeatable source of randomness: SplitMix64.
struct SeededGenerator: RandomNumberGenerator {
    private var state: UInt64

    init(seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var bits = (state ^ (state >> 30)) &* 0xbf58_476d_1ce4_e5b9
        bits = (bits ^ (bits >> 27)) &* 0x94d0_49bb_1331_11eb
        return bits ^ (bits >> 31)
    }
}

/// Draws the sizes of small models: odd ones, one of each, and now and then one that is wide in a single place.
struct RandomGeometry {
    private var generator: SeededGenerator

    init(seed: UInt64) { generator = SeededGenerator(seed: seed) }

    private mutating func number(_ range: ClosedRange<Int>) -> Int { Int.random(in: range, using: &generator) }

    private mutating func one<Element>(of elements: [Element]) -> Element { elements[number(0...elements.count - 1)] }

    private mutating func happens(oneIn count: Int) -> Bool { number(1...count) == 1 }

    /// A head, whole vectors or not; rarely one wider than 512.
    private mutating func headSize() -> Int {
        happens(oneIn: 8)
            ? one(of: [511, 513, 520, 640, 1024])
            : one(of: [1, 2, 3, 5, 7, 8, 12, 16, 17, 20, 24, 31, 32, 33, 48, 64, 80, 96])
    }

    /// So many that there are eight features at least: a norm over fewer leaves signs of them, which tell nothing of what
    /// was lost.
    private mutating func headCount(of headSize: Int) -> Int {
        headSize > 100 ? 1 : max(number(1...5), (8 + headSize - 1) / headSize)
    }

    /// A ViT, a TinyViT, an EfficientNet-Lite or a Hiera with its decoder.
    mutating func next() -> SamGeometry {
        let channels = happens(oneIn: 6) ? 256 : 32 * number(1...4)
        let encoder =
            switch number(0...4) {
            case 0: vit(channels)
            case 1: tinyViT(channels)
            case 2: hiera(channels)
            case 3: repViT(channels)
            default: efficientNetLite(channels)
            }
        let (kind, grid) = encoder
        var decoder = MaskDecoder.Configuration(
            channels: channels, grid: grid, crossAttentionDim: 16 * number(1...9), mlpDim: number(1...150),
            depth: one(of: [1, 1, 2, 2, 2, 3, 4]), maskTokenCount: 4, iouHeadDepth: number(1...4),
            iouHeadHidden: number(1...70))
        if case .efficientNetLite = kind { decoder.takesSkips = true }
        var prompts = PromptConventions()
        var isOfSegmentAnything2 = false
        if case .hiera = kind { isOfSegmentAnything2 = true }
        if case .repViT = kind { isOfSegmentAnything2 = true }
        if isOfSegmentAnything2 {
            decoder.isSegmentAnything2 = true
            // Random masks are near the bound, where a last bit decides.
            decoder.stability = nil
            (prompts.padsBoxes, prompts.hasPointTable) = (true, happens(oneIn: 2))
        }
        if case .vit(let vit) = kind, !vit.globalBlocks.isEmpty { decoder.isHighQuality = happens(oneIn: 3) }
        return SamGeometry(encoder: kind, decoder: decoder, maskChannels: number(4...21), prompts: prompts)
    }

    private mutating func hiera(_ channels: Int) -> (SamGeometry.Encoder, grid: Int) {
        let size = 32 * number(1...4)
        let windows = [one(of: [2, 4, 8, size / 4]), 2 * number(1...6), 2 * number(1...8), number(1...9)]
        var (dims, heads, depths): ([Int], [Int], [Int]) = ([], [], [])
        for _ in 0..<4 {
            let headSize = headSize()
            var headCount = headCount(of: headSize)
            // A stage begins where tokens become wider or narrower.
            if headSize * headCount == dims.last { headCount += 1 }
            dims.append(headSize * headCount)
            heads.append(headCount)
            depths.append(number(1...3))
        }
        let blocks = depths.reduce(0, +)
        return (
            .hiera(
                HieraConfiguration(
                    imageSize: size, dims: dims, depths: depths, headCounts: heads,
                    hiddenDims: (0..<4).map { _ in number(1...130) }, windowSizes: windows,
                    globalBlocks: Set((0..<blocks).filter { _ in happens(oneIn: 3) }),
                    positionGrid: [number(1...9), number(1...9)], isFused: !happens(oneIn: 4), outChannels: channels)),
            size / 16
        )
    }

    private mutating func repViT(_ channels: Int) -> (SamGeometry.Encoder, grid: Int) {
        let size = 32 * number(1...4)
        let dims = (0..<4).map { _ in one(of: [8, 9, 12, 17, 24, 33, 48]) }
        return (
            .repViT(
                RepViT.Configuration(
                    imageSize: size, dims: [2 * number(4...14)] + dims.dropFirst(),
                    blocks: (0..<4).map { _ in
                        (0..<number(1...3)).map { _ in
                            .init(hidden: number(1...90), squeezed: happens(oneIn: 2) ? number(1...20) : nil)
                        }
                    }, halvings: (0..<3).map { _ in (number(1...90), number(1...90)) }, isFused: !happens(oneIn: 4),
                    outChannels: channels)), size / 16
        )
    }

    private mutating func vit(_ channels: Int) -> (SamGeometry.Encoder, grid: Int) {
        var (grid, patch) = (0, 0)
        while !(32...130).contains(grid * patch) {
            (grid, patch) = (number(1...20), one(of: [1, 2, 3, 4, 5, 7, 8, 13, 16, 32]))
        }
        let headSize = headSize()
        let headCount = headCount(of: headSize)
        let depth = number(1...3)
        let window = number(1...grid)
        var vit = ImageEncoderViT.Configuration(
            imageSize: grid * patch, patchSize: patch, embedDim: headSize * headCount, depth: depth,
            headCount: headCount, mlpDim: number(1...200), windowSize: window,
            globalBlocks: Set((0..<depth).filter { _ in happens(oneIn: 2) }), outChannels: channels)
        if happens(oneIn: 3) {
            let isApart = happens(oneIn: 2)
            vit.prunedBlocks = (0..<depth).map { _ in
                .init(
                    headCount: headCount, headSize: number(1...min(headSize, 40)), mlpDim: number(1...200),
                    isApart: isApart)
            }
        }
        return (.vit(vit), grid)
    }

    private mutating func tinyViT(_ channels: Int) -> (SamGeometry.Encoder, grid: Int) {
        let stages = number(2...4)
        var dims = [2 * number(4...40)]
        var heads = [0]
        var windows = [0]
        for _ in 1..<stages {
            let headSize = headSize()
            let headCount = headCount(of: headSize)
            dims.append(headSize * headCount)
            heads.append(headCount)
            windows.append(number(1...9))
        }
        let strides = (1..<stages).map { _ in number(1...2) }
        let step = strides.reduce(4, *)
        let grid = number((32 + step - 1) / step...max((32 + step - 1) / step, 112 / step))
        return (
            .tinyViT(
                TinyViT.Configuration(
                    imageSize: grid * step, embedDims: dims, depths: (0..<stages).map { _ in number(1...2) },
                    headCounts: heads, windowSizes: windows, strides: strides,
                    hiddenDims: (0..<stages).map { _ in number(1...130) }, outChannels: channels)), grid
        )
    }

    private mutating func efficientNetLite(_ channels: Int) -> (SamGeometry.Encoder, grid: Int) {
        // Four halvings, with blocks before and between them.
        let strides =
            (0..<4).flatMap { _ in [Int](repeating: 1, count: number(0...2)) + [2] } + [1, 1].prefix(number(0...2))
        let stem = number(1...40)
        var (inputs, blocks) = (stem, [EfficientNetLite.Configuration.Block]())
        for stride in strides {
            // Half of those that may add their input to the answer do.
            let outputs = happens(oneIn: 2) ? inputs : number(8...60)
            let isWidened = !happens(oneIn: 4)
            blocks.append(
                .init(
                    hidden: isWidened ? number(1...130) : inputs, isWidened: isWidened, size: one(of: [3, 5]),
                    stride: stride, outputs: outputs))
            inputs = outputs
        }
        let size = 32 * number(1...4)
        return (
            .efficientNetLite(
                EfficientNetLite.Configuration(
                    imageSize: size, stem: stem, blocks: blocks, neckWidth: number(8...70), outChannels: channels)),
            size / 16
        )
    }

    /// The same with one number that no model may have, and what it is called.
    mutating func spoiled(_ geometry: SamGeometry) -> SamGeometry {
        var geometry = geometry
        switch number(0...7) {
        case 0: geometry.maskChannels = number(0...3)
        case 1: geometry.decoder.depth = 9
        case 2: geometry.decoder.iouHeadDepth = 17
        case 3: geometry.decoder.maskTokenCount = one(of: [1, 3, 5, 16])
        case 4: geometry.decoder.crossAttentionDim += number(1...15)
        default:
            switch geometry.encoder {
            case .vit(var vit):
                vit.prunedBlocks = []
                (vit.embedDim, vit.headCount) = one(of: [(1025, 1), (2050, 2), (16_384, 1), (8200, 100)])
                geometry.encoder = .vit(vit)
            case .tinyViT(var tiny):
                let last = tiny.embedDims.count - 1
                switch number(0...3) {
                case 0: tiny.windowSizes[last] = one(of: [65, 128])
                case 1: (tiny.embedDims[last], tiny.headCounts[last]) = (1025, 1)
                case 2: tiny.imageSize += 1
                default: tiny.embedDims[0] -= 1
                }
                geometry.encoder = .tinyViT(tiny)
            case .efficientNetLite(var lite):
                let last = lite.blocks.count - 1
                switch number(0...3) {
                case 0: lite.imageSize += one(of: [1, 16])
                case 1: lite.blocks[last].size = one(of: [1, 2, 4, 7])
                case 2: lite.blocks[0].stride = 3 - lite.blocks[0].stride
                default: lite.imageSize = 4128
                }
                geometry.encoder = .efficientNetLite(lite)
            case .repViT(var repViT):
                repViT.imageSize = one(of: [repViT.imageSize + 16, repViT.imageSize + 1, 16_384])
                geometry.encoder = .repViT(repViT)
            case .hiera(var hiera):
                switch number(0...4) {
                case 0: hiera.imageSize += one(of: [1, 16])
                case 1: hiera.headCounts[number(0...3)] = one(of: [0, -1, 4096])
                case 2: hiera.windowSizes[number(1...2)] = one(of: [0, 3, 66])
                case 3: hiera.globalBlocks = [one(of: [-1, hiera.depths.reduce(0, +)])]
                default: hiera.imageSize = 16_384
                }
                geometry.encoder = .hiera(hiera)
            }
        }
        return geometry
    }
}

/// Files of models with drawn weights.
enum RandomCheckpoint {
    /// Writes a model; drawn numbers, or zeros, which compress to nothing on most disks.
    static func write(_ geometry: SamGeometry, seed: UInt64, to path: String) throws {
        let weights = RandomWeights(seed: seed)
        let entries = PublishedTensors(geometry).shapes.map { name, shape in
            SafetensorsWriter.Entry(name, weights.tensor(name, shape: shape))
        }
        try SafetensorsWriter.write(entries, metadata: metadata(of: geometry), to: path)
    }

    /// Drawn features as the model's decoder takes them.
    static func features(_ geometry: SamGeometry, seed: UInt64, width: Int, height: Int) -> ImageFeatures {
        let weights = RandomWeights(seed: seed)
        return ImageFeatures(
            geometry.decoder.featureShapes.enumerated().map { index, map in
                FeatureMap(map.name, weights.tensor(index == 0 ? "embedding" : map.name, shape: map.shape))
            }, preprocessing: geometry.preprocessing,
            frame: geometry.preprocessing.frame(width: width, height: height))
    }

    /// What the tensors of that model do not say.
    static func metadata(of geometry: SamGeometry) -> [String: String] {
        switch geometry.encoder {
        case .vit: [:]
        case .tinyViT(let tiny): ["kirie.image_size": "\(tiny.imageSize)", "kirie.strides": "\(tiny.strides)"]
        case .efficientNetLite(let lite):
            [
                "kirie.encoder": "efficientnet-lite", "kirie.image_size": "\(lite.imageSize)",
                "kirie.block_strides": "\(lite.blocks.map(\.stride))",
            ]
        case .repViT(let repViT):
            [
                "kirie.image_size": "\(repViT.imageSize)", "kirie.dynamic_multimask": "[]",
                "kirie.fpn_top_down_levels": repViT.isFused ? "[2, 3]" : "[3]",
            ]
        case .hiera(let hiera):
            [
                "kirie.image_size": "\(hiera.imageSize)", "kirie.windows": "\(hiera.windowSizes)",
                "kirie.global_blocks": "\(hiera.globalBlocks.sorted())", "kirie.heads": "\(hiera.headCounts)",
                "kirie.fpn_top_down_levels": hiera.isFused ? "[2, 3]" : "[3]", "kirie.dynamic_multimask": "[]",
            ]
        }
    }
}

/// What a Hiera and the neck behind it are made of; every list has one entry per stage.
///
/// Ryali et al., "Hiera: A Hierarchical Vision Transformer without the Bells-and-Whistles", 2023,
/// <https://arxiv.org/abs/2306.00989>; as the image encoder of SAM 2: Ravi et al., "SAM 2", 2024,
/// <https://arxiv.org/abs/2408.00714>, appendix D.1.
package struct HieraConfiguration: Sendable, Hashable {
    /// Stages: maps of strides 4, 8, 16 and 32.
    package static let stageCount = 4
    /// Pixels along a side of the first stage's tokens.
    package static let patchStride = 4
    /// Pixels along a side of what is projected to a token.
    package static let patchSize = 7

    /// S.
    package var imageSize: Int
    /// Features per token.
    package var dims: [Int]
    /// Blocks.
    package var depths: [Int]
    package var headCounts: [Int]
    /// Features inside the blocks' MLPs.
    package var hiddenDims: [Int]
    /// Side of the windows; a stage's first block has the windows of the stage before.
    package var windowSizes: [Int]
    /// Blocks, counted through, that look at everything.
    package var globalBlocks: Set<Int>
    /// Rows and columns of the position embedding that is scaled to the first stage's grid.
    package var positionGrid: [Int]
    /// Whether the map of stride 16 has that of stride 32 added.
    package var isFused: Bool
    /// C, the embedding's channels.
    package var outChannels: Int

    package init(
        imageSize: Int, dims: [Int], depths: [Int], headCounts: [Int], hiddenDims: [Int], windowSizes: [Int],
        globalBlocks: Set<Int>, positionGrid: [Int], isFused: Bool = true, outChannels: Int
    ) {
        self.imageSize = imageSize
        self.dims = dims
        self.depths = depths
        self.headCounts = headCounts
        self.hiddenDims = hiddenDims
        self.windowSizes = windowSizes
        self.globalBlocks = globalBlocks
        self.positionGrid = positionGrid
        self.isFused = isFused
        self.outChannels = outChannels
    }

    /// One block.
    package struct Block: Sendable {
        /// Counted through all stages.
        package let index: Int
        package let stage: Int
        /// Tokens along a side of what comes in.
        package let grid: Int
        /// Side of its windows; the grid's for one that looks at everything.
        package let window: Int
        package let inputs: Int
        package let outputs: Int
        /// Whether it is a stage's first, of which a quarter as many tokens come out.
        package let pools: Bool
        /// Whether its answer is its stage's.
        package let isLast: Bool
    }

    /// Tokens along a side at each stage.
    package var grids: [Int] { (0..<Self.stageCount).map { imageSize / (Self.patchStride << $0) } }

    /// All blocks in their order.
    package var blocks: [Block] {
        var blocks: [Block] = []
        for (stage, depth) in depths.enumerated() {
            for index in 0..<depth {
                let isFirst = stage > 0 && index == 0
                let before = isFirst ? stage - 1 : stage
                blocks.append(
                    Block(
                        index: blocks.count, stage: stage, grid: grids[before],
                        window: globalBlocks.contains(blocks.count) ? grids[before] : windowSizes[before],
                        inputs: dims[before], outputs: dims[stage], pools: isFirst, isLast: index == depth - 1))
            }
        }
        return blocks
    }
}

import NeuralNetworks
import Tensors

/// A Hiera's blocks, run a few windows at a time.
///
/// The blocks are cut into runs. Those of one run have windows over the same part of the picture, so that a group of units goes
/// through all of them before the next group does, from the picture's pixels on in the first run. A run pools at most once, so
/// that enough tokens are left for the weights that are read for them. From the third stage on each block is a run of its own,
/// over the whole grid. Between runs there is one map in fp32.
///
/// ```text
/// SAM 2.1 base+:  patches, stages 1 and 2      1024 units of 8 × 8 tokens, then 4 × 4
///                 pooling to stage 3           1024 units of 4 × 4
///                 the rest of stage 3          the whole grid, block by block
///                 pooling to stage 4           25 units of up to 14 × 14
///                 the rest of stage 4          the whole grid
/// ```
struct HieraTrunk: Sendable {
    /// What is made of the tokens that a stage gives.
    ///
    /// It gets the stage, how many tokens there are, the tokens (rows, dim) in fp32, and a function that copies as many rows
    /// to their places in a map of the stage's grid.
    typealias Output = (
        _ stage: Int, _ rows: Int, _ tokens: Features,
        _ write: (_ rows: Features, _ map: Features, _ width: Int) -> Void
    ) -> Void

    /// Blocks that go together.
    private struct Run: Sendable {
        let blocks: [HieraBlock]
        /// Tokens along a side of what comes in and of what goes out.
        let grid: Int
        let nextGrid: Int
        let units: [MaskUnit]
    }

    /// Tokens that go through a run together, as far as units are not larger; a quarter of them is a product's block of rows.
    private static let tokensAtOnce = 4 * LinearProduct.blockRows

    private let configuration: HieraConfiguration
    private let type: ElementType
    private let patchEmbedding: Linear
    /// (tokens, dim).
    private let positions: Tensor
    private let runs: [Run]

    /// Reads `image_encoder.trunk.*`.
    init(_ weights: some WeightSource, _ configuration: HieraConfiguration, precision: Precision) throws {
        self.configuration = configuration
        type = precision.elementType
        let (dim, grid) = (configuration.dims[0], configuration.grids[0])
        let names = TensorNames.Hiera.self
        let side = HieraConfiguration.patchSize
        patchEmbedding = Linear(
            weight: try weights.tensor(TensorNames.weight(names.patches), shape: [dim, 3, side, side])
                .reshaped(to: [dim, 3 * side * side]),
            bias: try weights.tensor("\(names.patches).bias", shape: [dim]), input: precision.elementType)
        let window = configuration.windowSizes[0]
        positions = HieraPositions.embedding(
            try weights.tensor(names.positions, shape: [1, dim] + configuration.positionGrid),
            window: try weights.tensor(names.windowPositions, shape: [1, dim, window, window]), grid: grid)
        let blocks = try configuration.blocks.map { block in
            try HieraBlock(
                weights, TensorNames.part(block.index, of: names.blocks), block,
                headCount: configuration.headCounts[block.stage], hidden: configuration.hiddenDims[block.stage],
                precision: precision)
        }
        runs = Self.runs(of: blocks)
    }

    private static func runs(of blocks: [HieraBlock]) -> [Run] {
        var groups: [[HieraBlock]] = []
        // Rows of the picture, in the finest tokens, that a window of the last block covers.
        func extent(_ block: HieraBlock) -> Int { block.sizes.window * (blocks[0].sizes.grid / block.sizes.grid) }
        for block in blocks {
            let hasPooled = groups.last?.contains { $0.sizes.pools } ?? false
            if let last = groups.last?.last, !last.isWhole, !block.isWhole, extent(last) == extent(block),
                !(hasPooled && block.sizes.pools)
            {
                groups[groups.count - 1].append(block)
            } else {
                groups.append([block])
            }
        }
        return groups.map { group in
            let (first, grid) = (group[0].sizes, group[0].sizes.grid)
            return Run(
                blocks: group, grid: grid, nextGrid: group.reduce(grid) { $1.sizes.pools ? $0 / 2 : $0 },
                units: MaskUnit.units(side: first.window, grid: grid))
        }
    }

    /// Takes a picture (3, S, S) through all blocks.
    func callAsFunction(_ image: Tensor, pool: ThreadPool, _ output: Output) {
        let sizes = runs.map { $0.nextGrid * $0.nextGrid * ($0.blocks.last?.sizes.outputs ?? 0) }
        // The first run may be a block that takes the whole grid; then its tokens are there before it.
        let first = configuration.grids[0] * configuration.grids[0] * configuration.dims[0]
        let largest = max(sizes.max() ?? 0, runs[0].blocks[0].isWhole ? first : 0)
        Scratch.withFloats(2 * largest) { memory in
            var (x, y) = (memory, memory + largest)
            var hasTokens = false
            for (index, run) in runs.enumerated() {
                let (inputs, outputs) = (run.blocks[0].sizes.inputs, run.blocks.last?.sizes.outputs ?? 0)
                if let whole = run.blocks.first, whole.isWhole {
                    let tokens = Features(x, stride: inputs)
                    if !hasTokens { embed(image, to: tokens, pool: pool) }
                    whole(whole: tokens, pool: pool)
                    if whole.sizes.isLast { self.output(of: whole, tokens, pool: pool, output) }
                } else {
                    let (from, to) = (Features(x, stride: inputs), Features(y, stride: outputs))
                    go(
                        run, from: hasTokens ? from : nil, image: image, to: index + 1 < runs.count ? to : nil,
                        pool: pool, output)
                    swap(&x, &y)
                }
                hasTokens = true
            }
        }
    }

    /// A run of blocks, a group of units at a time; the tokens of the first one come from the picture, and nobody asks for
    /// those of the last.
    private func go(
        _ run: Run, from: Features?, image: Tensor, to: Features?, pool: ThreadPool, _ output: Output
    ) {
        let side = run.blocks[0].sizes.window
        let unitsAtOnce = max(1, Self.tokensAtOnce / (side * side))
        let groups = (run.units.count + unitsAtOnce - 1) / unitsAtOnce
        let widest = run.blocks.map(\.sizes).reduce(0) { max($0, max($1.inputs, $1.outputs)) }
        pool.parallel(groups) { index in
            var units = Array(run.units[index * unitsAtOnce..<min(run.units.count, (index + 1) * unitsAtOnce)])
            var tokens = units.reduce(0) { $0 + $1.count }
            Scratch.withFloats(2 * tokens * widest) { memory in
                let memories = [memory, memory + tokens * widest]
                var x = Features(memories[0], stride: run.blocks[0].sizes.inputs)
                if let from {
                    Self.each(units, x) { unit, tokens in
                        unit.copy(width: x.stride, grid: run.grid, map: from, tokens: tokens, toMap: false)
                    }
                } else {
                    Self.each(units, x) { embedPatches(image, $0, $1) }
                }
                var grid = run.grid
                for block in run.blocks {
                    x = block(units, x: x, spare: Features(x.floats == memory ? memories[1] : memory, stride: 0))
                    if block.sizes.pools {
                        (units, grid, tokens) = (units.map(\.halved), grid / 2, tokens / 4)
                    }
                    guard block.sizes.isLast else { continue }
                    output(block.sizes.stage, tokens, x) { rows, map, width in
                        Self.each(units, rows) { unit, rows in
                            unit.copy(width: width, grid: grid, map: map, tokens: rows, toMap: true)
                        }
                    }
                }
                if let to {
                    Self.each(units, x) { unit, tokens in
                        unit.copy(width: x.stride, grid: grid, map: to, tokens: tokens, toMap: true)
                    }
                }
            }
        }
    }

    /// Calls `body` with each unit and its rows, which lie one after the other.
    private static func each(_ units: [MaskUnit], _ rows: Features, _ body: (MaskUnit, Features) -> Void) {
        var first = 0
        for unit in units {
            body(unit, rows.from(row: first))
            first += unit.count
        }
    }

    /// What is made of a stage whose last block takes the whole grid.
    private func output(of block: HieraBlock, _ tokens: Features, pool: ThreadPool, _ output: Output) {
        let grid = block.sizes.grid
        pool.parallelRows(grid * grid) { range in
            output(block.sizes.stage, range.count, tokens.from(row: range.lowerBound)) { rows, map, width in
                map.from(row: range.lowerBound).floats.update(from: rows.floats, count: range.count * width)
            }
        }
    }

    // MARK: patches

    /// All tokens of the first stage.
    private func embed(_ image: Tensor, to tokens: Features, pool: ThreadPool) {
        let grid = configuration.grids[0]
        pool.parallelRows(grid, block: 1) { rows in
            let unit = MaskUnit(row: rows.lowerBound, column: 0, rows: rows.count, columns: grid)
            embedPatches(image, unit, tokens.from(row: rows.lowerBound * grid))
        }
    }

    /// Gathers the patches of a unit's tokens, projects them and adds their positions.
    private func embedPatches(_ image: Tensor, _ unit: MaskUnit, _ y: Features) {
        let (size, stride) = (HieraConfiguration.patchSize, HieraConfiguration.patchStride)
        let (side, grid, dim) = (configuration.imageSize, configuration.grids[0], configuration.dims[0])
        let depth = 3 * size * size
        Scratch.withFloats(unit.count * depth) { patches in
            image.withUnsafeBufferPointer { image in
                guard let image = image.baseAddress else { return }
                for token in 0..<unit.count {
                    let top = (unit.row + token / unit.columns) * stride - size / 2
                    let left = (unit.column + token % unit.columns) * stride - size / 2
                    // What lies outside the picture is zero.
                    let columns = max(0, -left)..<min(size, side - left)
                    for line in 0..<3 * size {
                        let target = patches + token * depth + line * size
                        let row = top + line % size
                        if row < 0 || row >= side {
                            target.update(repeating: 0, count: size)
                            continue
                        }
                        let source = image + (line / size * side + row) * side + left
                        if columns.count < size { target.update(repeating: 0, count: size) }
                        for column in columns { target[column] = source[column] }
                    }
                }
            }
            positions.withUnsafeBufferPointer { positions in
                guard let positions = positions.baseAddress else { return }
                for row in 0..<unit.rows {
                    y.from(row: row * unit.columns).floats.update(
                        from: positions + ((unit.row + row) * grid + unit.column) * dim, count: unit.columns * dim)
                }
            }
            let patches = Features(patches, stride: depth)
            guard type != .float32 else {
                return patchEmbedding.product(rows: unit.count, x: patches, y: y, accumulate: true)
            }
            Scratch.withFeatures(rows: unit.count, columns: depth, type: type) { narrowed in
                patches.write(rows: unit.count, columns: depth, to: narrowed)
                patchEmbedding.product(rows: unit.count, x: narrowed, y: y, accumulate: true)
            }
        }
    }
}

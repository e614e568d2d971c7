public import Segmentation
package import Tensors

/// Which cells of the embedding's grid a pixel of the picture lies in, by axis.
struct GridPlaces: Sendable {
    /// By grid column, its first column of the picture; one more for the end.
    private let columns: [Int]
    /// By grid row, its first row of the picture; one more for the end.
    private let rows: [Int]
    private let grid: Int

    /// - Parameters:
    ///   - frame: how the picture was brought to the model.
    ///   - size: S, the model's.
    ///   - grid: g, rows and columns of the embedding.
    init(_ frame: ImageFrame, size: Int, grid: Int) {
        self.grid = grid
        func starts(_ original: Int, _ input: Int) -> [Int] {
            (0...grid).map { cell in
                let edge = Double(cell) * Double(size) / Double(grid) * Double(original) / Double(input)
                return min(original, Int(edge.rounded()))
            }
        }
        columns = starts(frame.originalWidth, frame.inputWidth)
        rows = starts(frame.originalHeight, frame.inputHeight)
    }

    /// The pixels of each cell, g x g, rows first.
    var cellAreas: [Int] {
        (0..<grid * grid).map {
            (rows[$0 / grid + 1] - rows[$0 / grid]) * (columns[$0 % grid + 1] - columns[$0 % grid])
        }
    }

    /// How many pixels of a mask lie in each cell, g x g, rows first.
    func areas(of mask: RunLengthEncoding) -> [Int] {
        var areas = [Int](repeating: 0, count: grid * grid)
        var cellColumn = 0
        let height = mask.height
        mask.forEachRun { start, end in
            var position = start
            while position < end {
                let (column, top) = position.quotientAndRemainder(dividingBy: height)
                let stop = min(end, (column + 1) * height)
                while columns[cellColumn + 1] <= column { cellColumn += 1 }
                let bottom = top + stop - position
                var cell = rows.partitionIndex { $0 > top } - 1
                var row = top
                while row < bottom {
                    let next = min(bottom, rows[cell + 1])
                    areas[cell * grid + cellColumn] += next - row
                    row = next
                    cell += 1
                }
                position = stop
            }
        }
        return areas
    }
}

extension [Int] {
    /// The first index whose number fulfils a condition that all behind it do, too.
    fileprivate func partitionIndex(where isBehind: (Int) -> Bool) -> Int {
        var (low, high) = (0, count)
        while low < high {
            let middle = (low + high) / 2
            if isBehind(self[middle]) { high = middle } else { low = middle + 1 }
        }
        return low
    }
}

extension SamDecoder.PreparedImage {
    /// What the encoder saw in masks; see ``PreparedImage/pooledFeatures(of:)``.
    public func pooledFeatures(of masks: [RunLengthEncoding]) -> [[Float]]? {
        let places = GridPlaces(frame, size: decoder.preprocessing.size, grid: decoder.featureShapes[0].shape[3])
        let channels = tiles.channels
        func pooled(_ areas: [Int]) -> [Float] {
            var sums = [Float](repeating: 0, count: channels)
            var total = 0
            tiles.tensor.withUnsafeBufferPointer { features in
                for (cell, area) in areas.enumerated() where area > 0 {
                    total += area
                    let (tile, lane) = (cell / ImageTiles.width, cell % ImageTiles.width)
                    let start = tile * tiles.tileSize + lane
                    for channel in 0..<channels {
                        sums[channel] += Float(area) * features[start + channel * ImageTiles.width]
                    }
                }
            }
            return total == 0 ? sums : sums.map { $0 / Float(total) }
        }
        let mean = pooled(places.cellAreas)
        return masks.map { mask in
            let areas = places.areas(of: mask)
            guard areas.contains(where: { $0 > 0 }) else { return [Float](repeating: 0, count: channels) }
            let vector = zip(pooled(areas), mean).map { $0 - $1 }
            let length = vector.reduce(0) { $0 + $1 * $1 }.squareRoot()
            return length == 0 ? vector : vector.map { $0 / length }
        }
    }
}

extension PreparedImage {
    /// The masks that look like the examples of the parameters, the most similar first; all of them where there are none.
    ///
    /// - Parameters:
    ///   - masks: of everything mode.
    ///   - parameters: with the examples.
    ///   - pool: the threads that share the work.
    /// - Returns: masks with their similarity.
    /// - Throws: ``EverythingFault`` for an example that is not in the picture, and for a model without such features.
    package func ranked(
        _ masks: [MaskCandidate], by parameters: EverythingParameters, pool: ThreadPool
    ) throws(EverythingFault) -> [MaskCandidate] {
        guard !parameters.like.isEmpty else { return masks }
        func features(_ exemplars: [Exemplar], _ name: String) throws(EverythingFault) -> [[Float]] {
            var found: [RunLengthEncoding] = []
            for (index, exemplar) in exemplars.enumerated() {
                do throws(PromptError) {
                    let (prompt, _) = try exemplar.prompt.fitted(width: width, height: height, maskSide: nil)
                    found += try predict([prompt], multimask: false, pool: pool)[0].prefix(1).map(\.encoding)
                } catch {
                    throw EverythingFault(parameter: "\(name)[\(index)]", reason: "\(error)")
                }
            }
            guard let pooled = pooledFeatures(of: found) else {
                throw EverythingFault(parameter: name, reason: "this model's features cannot be compared")
            }
            return pooled
        }
        let (like, unlike) = (try features(parameters.like, "like"), try features(parameters.unlike, "unlike"))
        let seen = pooledFeatures(of: masks.map(\.encoding)) ?? []
        func most(_ others: [[Float]], _ vector: [Float]) -> Float? {
            others.map { zip($0, vector).reduce(0) { $0 + $1.0 * $1.1 } }.max()
        }
        return zip(masks, seen).compactMap { mask, vector in
            guard let similarity = most(like, vector), similarity >= parameters.likeThreshold,
                similarity > most(unlike, vector) ?? -2
            else { return nil }
            var mask = mask
            mask.similarity = similarity
            return mask
        }.sorted { $0.similarity ?? 0 > $1.similarity ?? 0 }
    }
}

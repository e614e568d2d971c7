/// What masks as runs have to do with each other; none of it makes pixels.
extension RunLengthEncoding {
    /// Calls `body` with the first position of each run on the object and the one after its last.
    ///
    /// Positions count down the columns: row r of column c is c · height + r.
    package func forEachRun(_ body: (_ start: Int, _ end: Int) -> Void) {
        var position = 0
        var isObject = false
        for count in counts {
            let end = position + Int(count)
            if isObject, count > 0 { body(position, end) }
            position = end
            isObject.toggle()
        }
    }

    /// Whether the pixel at a position, counted down the columns, is on the object.
    package func contains(_ position: Int) -> Bool {
        var end = 0
        for (index, count) in counts.enumerated() {
            end += Int(count)
            if position < end { return index % 2 == 1 }
        }
        return false
    }

    /// The mask in a larger picture, its upper left pixel in column `x` and row `y`.
    ///
    /// - Precondition: it lies in the picture.
    public func placed(x: Int, y: Int, width: Int, height: Int) -> RunLengthEncoding {
        precondition(
            x >= 0 && y >= 0 && x + self.width <= width && y + self.height <= height,
            "a mask of \(self.width) x \(self.height) at (\(x), \(y)) is not in a picture of \(width) x \(height)")
        if self.width == width, self.height == height { return self }
        var runs = RunCollector(height: height, width: width)
        let rows = self.height
        forEachRun { start, end in
            var position = start
            while position < end {
                let (column, row) = position.quotientAndRemainder(dividingBy: rows)
                let stop = min(end, (column + 1) * rows)
                let first = (x + column) * height + y + row
                runs.append(first, first + stop - position)
                position = stop
            }
        }
        return runs.encoding
    }

    /// The part of the mask that lies in a rectangle, of that rectangle's size.
    public func cropped(to box: PixelBox) -> RunLengthEncoding {
        var runs = RunCollector(height: box.height, width: box.width)
        forEachRun { start, end in
            var position = max(start, box.x0 * height)
            let end = min(end, box.x1 * height)
            while position < end {
                let (column, row) = position.quotientAndRemainder(dividingBy: height)
                let stop = min(end, (column + 1) * height)
                let (top, bottom) = (max(row, box.y0), min(stop - column * height, box.y1))
                if top < bottom {
                    let first = (column - box.x0) * box.height - box.y0
                    runs.append(first + top, first + bottom)
                }
                position = stop
            }
        }
        return runs.encoding
    }

    /// Pixels that both masks have.
    ///
    /// - Precondition: they are of the same size.
    public func intersectionArea(_ other: RunLengthEncoding) -> Int {
        precondition(width == other.width && height == other.height, "masks of different sizes")
        var area = 0
        counts.withUnsafeBufferPointer { first in
            other.counts.withUnsafeBufferPointer { second in
                var (a, b, endA, endB, position) = (0, 0, 0, 0, 0)
                while a < first.count, b < second.count {
                    let (nextA, nextB) = (endA + Int(first[a]), endB + Int(second[b]))
                    let next = min(nextA, nextB)
                    if a % 2 == 1, b % 2 == 1 { area += next - position }
                    position = next
                    if nextA == next { (a, endA) = (a + 1, nextA) }
                    if nextB == next { (b, endB) = (b + 1, nextB) }
                }
            }
        }
        return area
    }

    /// Pixels that both masks have over those that either has; 0 for two empty ones.
    public func intersectionOverUnion(_ other: RunLengthEncoding) -> Double {
        let shared = intersectionArea(other)
        let all = area + other.area - shared
        return all == 0 ? 0 : Double(shared) / Double(all)
    }

    /// The pixels that either mask has.
    ///
    /// - Precondition: they are of the same size.
    public func union(_ other: RunLengthEncoding) -> RunLengthEncoding {
        precondition(width == other.width && height == other.height, "masks of different sizes")
        var ranges: [(Int, Int)] = []
        forEachRun { ranges.append(($0, $1)) }
        other.forEachRun { ranges.append(($0, $1)) }
        ranges.sort { $0.0 < $1.0 }
        var runs = RunCollector(height: height, width: width)
        for range in ranges { runs.append(range.0, range.1) }
        return runs.encoding
    }
}

/// Makes an encoding of runs on the object that come in the order of their starts, and may touch or overlap.
package struct RunCollector {
    private let height: Int
    private let width: Int
    private var counts: [UInt32] = []
    /// Where the runs so far end.
    private var position = 0

    /// No run yet.
    package init(height: Int, width: Int) {
        self.height = height
        self.width = width
    }

    /// Adds the positions from `start` up to and without `end`.
    package mutating func append(_ start: Int, _ end: Int) {
        guard start < end else { return }
        if start <= position, !counts.isEmpty, counts.count % 2 == 0 {
            guard end > position else { return }
            counts[counts.count - 1] += UInt32(end - position)
        } else {
            counts.append(UInt32(start - position))
            counts.append(UInt32(end - start))
        }
        position = end
    }

    /// The mask of all runs.
    package var encoding: RunLengthEncoding {
        let rest = height * width - position
        return RunLengthEncoding(
            height: height, width: width, canonicalCounts: rest > 0 || counts.isEmpty ? counts + [UInt32(rest)] : counts
        )
    }
}

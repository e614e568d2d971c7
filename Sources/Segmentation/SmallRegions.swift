/// Connected regions of a mask, found on its runs.
package struct ConnectedRegions {
    /// A part of one column: rows from `top` up to and without `bottom`.
    private struct Segment {
        let column: Int
        let top: Int
        let bottom: Int
    }

    private let height: Int
    private let segments: [Segment]
    /// By segment, its region.
    private let regions: [Int]
    /// By region, its pixels.
    package let areas: [Int]

    /// The regions of a mask, or of what is beside it, pixels that touch at a corner being connected.
    package init(of mask: RunLengthEncoding, beside isInverted: Bool = false) {
        height = mask.height
        var segments: [Segment] = []
        func add(_ start: Int, _ end: Int) {
            var position = start
            while position < end {
                let (column, row) = position.quotientAndRemainder(dividingBy: mask.height)
                let stop = min(end, (column + 1) * mask.height)
                segments.append(Segment(column: column, top: row, bottom: row + stop - position))
                position = stop
            }
        }
        if isInverted {
            var last = 0
            mask.forEachRun { start, end in
                add(last, start)
                last = end
            }
            add(last, mask.height * mask.width)
        } else {
            mask.forEachRun(add)
        }
        var sets = DisjointSets(count: segments.count)
        // Both columns' segments are in order, so two indices that only go up see all that touch.
        var (before, current) = (0, 0)
        while current < segments.count {
            let column = segments[current].column
            while before < current, segments[before].column < column - 1 { before += 1 }
            var first = before
            while current < segments.count, segments[current].column == column {
                let segment = segments[current]
                while first < segments.count, segments[first].column == column - 1, segments[first].bottom < segment.top
                {
                    first += 1
                }
                var other = first
                while segments[other].column == column - 1, segments[other].top <= segment.bottom {
                    sets.join(other, current)
                    other += 1
                }
                current += 1
            }
        }
        var numbers: [Int: Int] = [:]
        var regions: [Int] = []
        var areas: [Int] = []
        for (index, segment) in segments.enumerated() {
            let root = sets.root(index)
            let region = numbers[root] ?? areas.count
            if region == areas.count {
                numbers[root] = region
                areas.append(0)
            }
            regions.append(region)
            areas[region] += segment.bottom - segment.top
        }
        self.segments = segments
        self.regions = regions
        self.areas = areas
    }

    /// The runs of some regions, in order.
    package func runs(where isWanted: (_ region: Int) -> Bool) -> [(start: Int, end: Int)] {
        let wanted = areas.indices.map(isWanted)
        return zip(segments, regions).compactMap { segment, region in
            wanted[region]
                ? (segment.column * height + segment.top, segment.column * height + segment.bottom) : nil
        }
    }
}

/// Sets of numbers that are joined one by one.
package struct DisjointSets {
    private var parents: [Int]

    /// Each number from 0 up to and without `count` in a set of its own.
    package init(count: Int) { parents = Array(0..<count) }

    /// The number that stands for the set of a number.
    package mutating func root(_ number: Int) -> Int {
        var root = number
        while parents[root] != root { root = parents[root] }
        var next = number
        while parents[next] != root { (next, parents[next]) = (parents[next], root) }
        return root
    }

    /// Makes one set of those of two numbers.
    package mutating func join(_ first: Int, _ second: Int) {
        let (a, b) = (root(first), root(second))
        if a != b { parents[max(a, b)] = min(a, b) }
    }
}

extension RunLengthEncoding {
    /// `remove_small_regions`: the mask with small holes filled.
    ///
    /// - Parameter area: holes of fewer pixels are small.
    /// - Returns: the mask; nil where there is no small hole.
    public func fillingHoles(below area: Int) -> RunLengthEncoding? {
        let holes = ConnectedRegions(of: self, beside: true)
        guard holes.areas.contains(where: { $0 < area }) else { return nil }
        var ranges = holes.runs { holes.areas[$0] < area }
        forEachRun { ranges.append(($0, $1)) }
        ranges.sort { $0.start < $1.start }
        return Self(ranges, height: height, width: width)
    }

    /// `remove_small_regions`: the mask with small islands removed; the largest one stays if all are small.
    ///
    /// - Parameter area: islands of fewer pixels are small.
    /// - Returns: the mask; nil where there is no small island.
    public func removingIslands(below area: Int) -> RunLengthEncoding? {
        let islands = ConnectedRegions(of: self)
        guard islands.areas.contains(where: { $0 < area }) else { return nil }
        let largest = islands.areas.max().flatMap { islands.areas.firstIndex(of: $0) }
        let isLarge = islands.areas.contains { $0 >= area }
        return Self(
            islands.runs { isLarge ? islands.areas[$0] >= area : $0 == largest }, height: height, width: width)
    }

    private init(_ ranges: [(start: Int, end: Int)], height: Int, width: Int) {
        var runs = RunCollector(height: height, width: width)
        for range in ranges { runs.append(range.start, range.end) }
        self = runs.encoding
    }
}

/// A set of pixels within a rectangle of a picture, and what clicks are placed by.
package struct Region: Sendable, Hashable {
    /// The rectangle's upper left corner in the picture.
    package let left: Int
    package let top: Int
    /// The rectangle's columns and rows.
    package let width: Int
    package let height: Int
    /// `height * width` bytes, row-major: 1 in the region.
    package let pixels: [UInt8]

    package init(left: Int, top: Int, width: Int, height: Int, pixels: [UInt8]) {
        self.left = left
        self.top = top
        self.width = width
        self.height = height
        self.pixels = pixels
    }

    /// The pixel that lies farthest from the region's outside, by Euclidean distance; ties go to the first in raster
    /// order.
    ///
    /// What is beyond the rectangle is outside, and so is what is beyond the picture. The distances are exact:
    /// Felzenszwalb and Huttenlocher, "Distance Transforms of Sampled Functions", 2012,
    /// <https://doi.org/10.4086/toc.2012.v008a019>.
    package var farthestInterior: (x: Int, y: Int) {
        // Squared distances to the nearest pixel outside, with a frame of outside pixels around the rectangle.
        let (columns, rows) = (width + 2, height + 2)
        let far = Double((columns + rows) * (columns + rows))
        var squares = [Double](repeating: 0, count: columns * rows)
        for y in 0..<height {
            for x in 0..<width where pixels[y * width + x] != 0 { squares[(y + 1) * columns + x + 1] = far }
        }
        var line = [Double](repeating: 0, count: max(columns, rows))
        for x in 0..<columns {
            for y in 0..<rows { line[y] = squares[y * columns + x] }
            Self.lowerEnvelope(&line, count: rows)
            for y in 0..<rows { squares[y * columns + x] = line[y] }
        }
        var best = (distance: -1.0, x: 0, y: 0)
        for y in 0..<rows {
            for x in 0..<columns { line[x] = squares[y * columns + x] }
            Self.lowerEnvelope(&line, count: columns)
            for x in 0..<columns where line[x] > best.distance { best = (line[x], x - 1, y - 1) }
        }
        return (left + best.x, top + best.y)
    }

    /// f(i) becomes the least (i − j)² + f(j): the lower envelope of parabolas.
    private static func lowerEnvelope(_ f: inout [Double], count: Int) {
        var places = [Int](repeating: 0, count: count)
        var starts = [Double](repeating: 0, count: count + 1)
        var last = 0
        starts[0] = -.infinity
        starts[1] = .infinity
        for q in 1..<max(1, count) {
            func crossing(_ p: Int) -> Double {
                (f[q] + Double(q * q) - f[p] - Double(p * p)) / Double(2 * (q - p))
            }
            var start = crossing(places[last])
            while start <= starts[last] {
                last -= 1
                start = crossing(places[last])
            }
            last += 1
            places[last] = q
            starts[last] = start
            starts[last + 1] = .infinity
        }
        let old = f
        var index = 0
        for q in 0..<count {
            while starts[index + 1] < Double(q) { index += 1 }
            let distance = q - places[index]
            f[q] = Double(distance * distance) + old[places[index]]
        }
    }

    /// The largest region of 8-connected pixels among those that `isIn` names; of equal ones the first in raster
    /// order; nil where there is none.
    package static func largest(width: Int, height: Int, isIn: (Int) -> Bool) -> (area: Int, region: Region)? {
        var component = [Int32](repeating: 0, count: width * height)
        for index in component.indices where isIn(index) { component[index] = -1 }
        var best: (area: Int, label: Int32, box: (Int, Int, Int, Int))?
        var label: Int32 = 0
        var stack: [Int] = []
        for start in component.indices where component[start] == -1 {
            label += 1
            component[start] = label
            stack.append(start)
            var area = 0
            var box = (width, height, -1, -1)
            while let index = stack.popLast() {
                let (x, y) = (index % width, index / width)
                area += 1
                box = (min(box.0, x), min(box.1, y), max(box.2, x), max(box.3, y))
                for ny in max(0, y - 1)...min(height - 1, y + 1) {
                    for nx in max(0, x - 1)...min(width - 1, x + 1) where component[ny * width + nx] == -1 {
                        component[ny * width + nx] = label
                        stack.append(ny * width + nx)
                    }
                }
            }
            if area > best?.area ?? 0 { best = (area, label, box) }
        }
        guard let best else { return nil }
        let (left, top, right, bottom) = best.box
        var pixels: [UInt8] = []
        for y in top...bottom {
            for x in left...right { pixels.append(component[y * width + x] == best.label ? 1 : 0) }
        }
        return (
            best.area,
            Region(left: left, top: top, width: right - left + 1, height: bottom - top + 1, pixels: pixels)
        )
    }
}

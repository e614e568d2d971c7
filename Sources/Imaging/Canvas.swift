/// A point of an outline in pixels, the corner of pixel (0, 0) at the origin.
struct OutlinePoint: Sendable, Hashable {
    var x: Double
    var y: Double
}

/// The pixels of an overlay while it is drawn; lines are antialiased by their distance to each pixel's middle.
struct Canvas {
    private let width: Int
    private let height: Int
    private var pixels: [UInt8]
    /// Scratch: the distance of each pixel to the lines being drawn, infinite between two strokes.
    private var distances: [Float] = []

    init(_ image: Image) {
        width = image.width
        height = image.height
        pixels = image.pixels
    }

    var image: Image { Image(width: width, height: height, pixels: pixels) }

    /// Mixes `amount` of its colour into each mask's pixels, later masks over earlier ones, and darkens the rest.
    mutating func tint(
        _ masks: [(layer: MaskOverlay.Layer, color: MaskOverlay.Color)], amount: Double, dimming: Double
    ) {
        guard !masks.isEmpty || dimming > 0 else { return }
        var owners = [Int32](repeating: -1, count: width * height)
        for (index, entry) in masks.enumerated() {
            let mask = entry.layer.mask()
            mask.pixels.withUnsafeBufferPointer { pixels in
                for row in 0..<mask.height {
                    let target = (entry.layer.y + row) * width + entry.layer.x
                    for column in 0..<mask.width where pixels[row * mask.width + column] != 0 {
                        owners[target + column] = Int32(index)
                    }
                }
            }
        }
        let share = Int((min(max(amount, 0), 1) * 256).rounded())
        let rest = Int(((1 - min(max(dimming, 0), 1)) * 256).rounded())
        let colors = masks.map { [Int($0.color.red), Int($0.color.green), Int($0.color.blue)] }
        pixels.withUnsafeMutableBufferPointer { pixels in
            for (position, owner) in owners.enumerated() {
                for channel in 0..<3 {
                    let old = Int(pixels[3 * position + channel])
                    let new = owner < 0 ? old * rest : old * (256 - share) + colors[Int(owner)][channel] * share
                    pixels[3 * position + channel] = UInt8(truncatingIfNeeded: (new + 128) >> 8)
                }
            }
        }
    }

    /// Draws closed lines, once for each layer: half the line's width, its colour, and how opaque it is.
    mutating func stroke(
        _ outlines: [[OutlinePoint]], _ layers: [(halfWidth: Double, color: MaskOverlay.Color, opacity: Double)]
    ) {
        if distances.isEmpty { distances = [Float](repeating: .infinity, count: width * height) }
        let reach = (layers.map(\.halfWidth).max() ?? 0) + 1
        var touched = (left: width, top: height, right: 0, bottom: 0)
        for outline in outlines {
            for (index, start) in outline.enumerated() {
                let end = outline[index + 1 == outline.count ? 0 : index + 1]
                let columns = Self.range(min(start.x, end.x) - reach, max(start.x, end.x) + reach, width)
                let rows = Self.range(min(start.y, end.y) - reach, max(start.y, end.y) + reach, height)
                guard !columns.isEmpty, !rows.isEmpty else { continue }
                measure(from: start, to: end, columns, rows)
                touched = (
                    min(touched.left, columns.lowerBound), min(touched.top, rows.lowerBound),
                    max(touched.right, columns.upperBound), max(touched.bottom, rows.upperBound)
                )
            }
        }
        guard touched.left < touched.right, touched.top < touched.bottom else { return }
        for y in touched.top..<touched.bottom {
            for x in touched.left..<touched.right where distances[y * width + x] < .infinity {
                let distance = Double(distances[y * width + x])
                for layer in layers {
                    let coverage = min(max(layer.halfWidth + 0.5 - distance, 0), 1)
                    blend(layer.color, at: y * width + x, layer.opacity * coverage)
                }
                distances[y * width + x] = .infinity
            }
        }
    }

    /// Draws a click: a disc with a white ring on a soft shadow.
    mutating func point(_ x: Double, _ y: Double, _ color: MaskOverlay.Color, _ unit: Double) {
        let (centerX, centerY) = (x + 0.5, y + 0.5)
        let (disc, ring, shadow) = (6 * unit, 8.5 * unit, 13 * unit)
        for row in Self.range(centerY - shadow, centerY + shadow, height) {
            for column in Self.range(centerX - shadow, centerX + shadow, width) {
                let (dx, dy) = (Double(column) + 0.5 - centerX, Double(row) + 0.5 - centerY)
                let distance = (dx * dx + dy * dy).squareRoot()
                let position = row * width + column
                let fade = min(max((shadow - distance) / (shadow - ring), 0), 1)
                blend(.shadow, at: position, 0.4 * fade * fade)
                blend(.white, at: position, min(max(ring + 0.5 - distance, 0), 1))
                blend(color, at: position, min(max(disc + 0.5 - distance, 0), 1))
            }
        }
    }

    /// Lowers the distances to that of the line from `start` to `end`.
    private mutating func measure(
        from start: OutlinePoint, to end: OutlinePoint, _ columns: Range<Int>, _ rows: Range<Int>
    ) {
        let (dx, dy) = (end.x - start.x, end.y - start.y)
        let scale = dx * dx + dy * dy > 0 ? 1 / (dx * dx + dy * dy) : 0
        distances.withUnsafeMutableBufferPointer { distances in
            for row in rows {
                for column in columns {
                    let (px, py) = (Double(column) + 0.5 - start.x, Double(row) + 0.5 - start.y)
                    let along = min(max((px * dx + py * dy) * scale, 0), 1)
                    let (rx, ry) = (px - along * dx, py - along * dy)
                    let distance = Float((rx * rx + ry * ry).squareRoot())
                    if distance < distances[row * width + column] { distances[row * width + column] = distance }
                }
            }
        }
    }

    private mutating func blend(_ color: MaskOverlay.Color, at position: Int, _ opacity: Double) {
        guard opacity > 0 else { return }
        func mix(_ old: UInt8, _ new: UInt8) -> UInt8 {
            UInt8(min(max(Double(old) + (Double(new) - Double(old)) * opacity + 0.5, 0), 255))
        }
        pixels[3 * position] = mix(pixels[3 * position], color.red)
        pixels[3 * position + 1] = mix(pixels[3 * position + 1], color.green)
        pixels[3 * position + 2] = mix(pixels[3 * position + 2], color.blue)
    }

    /// The pixels that lie between two coordinates; none where a coordinate is not a number.
    private static func range(_ lower: Double, _ upper: Double, _ limit: Int) -> Range<Int> {
        guard lower <= upper else { return 0..<0 }
        let first = Int(min(max(lower.rounded(.down), 0), Double(limit)))
        return first..<max(first, Int(min(max(upper.rounded(.up), 0), Double(limit))))
    }
}

extension ObjectGrid {
    /// The boundaries as smooth closed lines through the middles of the pixels' sides, in pixels of the mask.
    ///
    /// Two moving averages over five sides take the staircase out of slanted edges; a ring of few sides stays as it is.
    func smoothOutlines() -> [[OutlinePoint]] {
        tracedRings().map { ring in
            var points = ring.cracks.map { crack in
                OutlinePoint(
                    x: Double(crack.start.x + crack.end.x) / 2 + Double(left),
                    y: Double(crack.start.y + crack.end.y) / 2 + Double(top))
            }
            guard points.count >= 16 else { return points }
            for _ in 0..<2 {
                points = points.indices.map { index in
                    var sum = OutlinePoint(x: 0, y: 0)
                    for offset in -2...2 {
                        let neighbor = points[(index + offset + points.count) % points.count]
                        sum.x += neighbor.x
                        sum.y += neighbor.y
                    }
                    return OutlinePoint(x: sum.x / 5, y: sum.y / 5)
                }
            }
            return stride(from: 0, to: points.count, by: 2).map { points[$0] }
        }
    }
}

import Imaging
import Testing

@Suite("Overlays")
struct OverlayTests {
    private let gray = Image(width: 120, height: 90, pixels: [UInt8](repeating: 100, count: 120 * 90 * 3))

    private func square(_ columns: Range<Int>, _ rows: Range<Int>) -> GrayImage {
        GrayImage(
            width: 120, height: 90,
            pixels: (0..<(120 * 90)).map { columns.contains($0 % 120) && rows.contains($0 / 120) ? 255 : 0 })
    }

    private func pixel(_ image: Image, _ x: Int, _ y: Int) -> [Int] {
        (0..<3).map { Int(image.pixels[3 * (y * image.width + x) + $0]) }
    }

    @Test("the inside is tinted, the outside left alone or dimmed, the edge drawn")
    func regions() {
        var overlay = MaskOverlay(masks: [square(30..<70, 20..<60)])
        let drawn = overlay.drawn(on: gray)
        let color = MaskOverlay.Color.palette[0]
        let tinted = [color.red, color.green, color.blue].map { 100 * 0.55 + Double($0) * 0.45 }
        #expect(zip(pixel(drawn, 50, 40), tinted).allSatisfy { abs(Double($0) - $1) <= 1.5 })
        #expect(pixel(drawn, 10, 10) == [100, 100, 100])
        #expect(pixel(drawn, 30, 40) != pixel(drawn, 50, 40))
        overlay.dimming = 0.5
        #expect(pixel(overlay.drawn(on: gray), 10, 10) == [50, 50, 50])
        #expect(MaskOverlay(masks: []).drawn(on: gray) == gray)
    }

    @Test("of two masks the smaller is on top, and their colours differ")
    func stacking() {
        let overlay = MaskOverlay(masks: [square(50..<60, 40..<50), square(10..<110, 10..<80)])
        let drawn = overlay.drawn(on: gray)
        #expect(pixel(drawn, 55, 45) == pixel(MaskOverlay(masks: [overlay.masks[0]]).drawn(on: gray), 55, 45))
        #expect(pixel(drawn, 55, 45) != pixel(drawn, 20, 20))
    }

    @Test("points are green or red in a white ring, boxes white; outside the picture nothing breaks")
    func markers() {
        let drawn = MaskOverlay(
            masks: [],
            markers: [
                .foregroundPoint(x: 30, y: 30), .backgroundPoint(x: 80, y: 30), .box(x0: 10, y0: 60, x1: 100, y1: 80),
                .foregroundPoint(x: -1e300, y: 5), .backgroundPoint(x: .nan, y: 5),
                .box(x0: -50, y0: .infinity, x1: 9, y1: 9),
            ]
        ).drawn(on: gray)
        let (green, red) = (pixel(drawn, 30, 30), pixel(drawn, 80, 30))
        #expect(green[1] > green[0] && green[1] > green[2])
        #expect(red[0] > red[1] && red[0] > red[2])
        #expect(pixel(drawn, 37, 30).allSatisfy { $0 > 240 })
        #expect(pixel(drawn, 50, 60).allSatisfy { $0 > 240 })
        #expect(pixel(drawn, 50, 70) == [100, 100, 100])
    }

    @Test("the outermost pixels can be an object")
    func borders() {
        let whole = square(0..<120, 0..<90)
        #expect(MaskOverlay(masks: [whole]).drawn(on: gray) != gray)
        let dot = square(119..<120, 89..<90)
        #expect(MaskOverlay(masks: [dot]).drawn(on: gray) != gray)
    }
}

package import Imaging

/// The outlines that `cv2.findContours(mask, RETR_EXTERNAL, CHAIN_APPROX_SIMPLE)` finds: those of regions that lie in no
/// hole of another, through the centres of their pixels.
package enum OuterContours {
    /// The outlines, one for each region.
    package static func of(_ mask: GrayImage) -> [[PixelVertex]] {
        let polygons = Polygon.tracing(mask, .pixelCenters)
        // Something can lie in a hole only where there are holes, and something beside them.
        guard polygons.count > 1, polygons.contains(where: { !$0.holes.isEmpty }) else {
            return polygons.map(\.exterior)
        }
        let regions = Polygon.tracing(mask).map { Polygon(exterior: $0.exterior) }
        let filled = GrayImage(covering: regions, width: mask.width, height: mask.height)
        return Polygon.tracing(filled, .pixelCenters).map(\.exterior)
    }
}

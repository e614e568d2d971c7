extension SAMGeometry {
    /// The geometry as names and values, for people.
    public var lines: [(String, String)] {
        var lines: [(String, String)] = []
        switch imageEncoder {
        case .vit(let vit):
            lines += [
                ("image encoder", "ViT"), ("image size", "\(vit.imageSize)"), ("patch size", "\(vit.patchSize)"),
                ("width", "\(vit.embedDim)"), ("depth", "\(vit.depth)"), ("heads", "\(vit.headCount)"),
                ("mlp width", "\(vit.mlpDim)"), ("window", "\(vit.windowSize)"),
                ("global blocks", vit.globalBlocks.sorted().map(String.init).joined(separator: " ")),
            ]
        case .tinyViT(let tiny):
            func join(_ numbers: [Int]) -> String { numbers.map(String.init).joined(separator: " ") }
            lines += [
                ("image encoder", "TinyViT"), ("image size", "\(tiny.imageSize)"), ("widths", join(tiny.embedDims)),
                ("depths", join(tiny.depths)), ("heads", join(Array(tiny.headCounts.dropFirst()))),
                ("windows", join(Array(tiny.windowSizes.dropFirst()))), ("strides", join(tiny.strides)),
            ]
        }
        lines += [
            ("embedding", "\(channels) x \(grid) x \(grid)"), ("decoder depth", "\(maskDecoder.depth)"),
            ("decoder mlp width", "\(maskDecoder.mlpDim)"),
        ]
        return lines
    }
}

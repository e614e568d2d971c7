/// A JPEG file without what libjpeg warns of and no pixel depends on, and what was done to it.
struct JPEGRepair {
    private let original: UnsafeRawBufferPointer
    private let header: JPEGHeader
    /// What is cut out of the file, and what is put in.
    private var copy: [UInt8]?
    /// Whether the file has its end mark.
    let hadEnd: Bool
    private let isComplete: Bool
    private var strayCount: Int
    /// Where the last bytes were cut out: warnings come in the order of the file, so what is before has none.
    private var lastCut = 0

    /// Takes out what can be seen without decoding: bytes between segments, values that do not exist, a missing end.
    init(_ bytes: UnsafeRawBufferPointer, _ header: JPEGHeader) {
        original = bytes
        self.header = header
        let scans = JPEGScans(bytes, from: header.firstScan)
        hadEnd = scans.hasEnd
        isComplete = scans.areComplete(components: header.components)
        let stray = header.stray + scans.stray
        strayCount = stray.reduce(0) { $0 + $1.count }
        guard !stray.isEmpty || !header.patches.isEmpty || !hadEnd else { return }
        var file = Array(bytes)
        for patch in header.patches { file[patch.offset] = patch.value }
        if !hadEnd { file += [0xFF, 0xD9] }
        for range in stray.reversed() { file.removeSubrange(range) }
        copy = file
    }

    /// Whether the file has to be shown to the decoder otherwise than it is.
    var isNeeded: Bool { copy != nil }

    /// The file for the decoder.
    var file: [UInt8] { copy ?? Array(original) }

    /// Whether nothing is missing behind the last scan: the end mark is there, or no coefficient lacks a bit.
    var hasEveryScan: Bool { hadEnd || isComplete }

    /// How many stray bytes a warning speaks of; nil for any other warning.
    ///
    /// Behind a scan there may be up to seven more, which the decoder had read ahead; a few such alone it does not notice.
    static func strayBytes(in warning: String) -> (count: Int, marker: UInt8)? {
        // "Corrupt JPEG data: 102 extraneous bytes before marker 0xd9"
        let words = warning.split(separator: " ")
        guard words.count >= 6, words[words.count - 5] == "extraneous", words[words.count - 4] == "bytes",
            let count = Int(words[words.count - 6]), count > 0, let code = words.last, code.hasPrefix("0x"),
            let marker = UInt8(code.dropFirst(2), radix: 16)
        else { return nil }
        return (count, marker)
    }

    /// Where the bytes of a warning may stand: behind the data of a scan that such a marker follows.
    func places(of warning: String) -> [Range<Int>] {
        guard let (count, marker) = Self.strayBytes(in: warning) else { return [] }
        return file.withUnsafeBytes { file in
            JPEGScans(file, from: header.firstScan - header.stray.reduce(0) { $0 + $1.count }).scans
                .filter { $0.marker == marker && $0.data.count >= count && $0.data.upperBound >= lastCut }
                .map { ($0.data.upperBound - count)..<$0.data.upperBound }
        }
    }

    /// The file without those bytes.
    func without(_ place: Range<Int>) -> JPEGRepair {
        var other = self
        var file = file
        file.removeSubrange(place)
        other.copy = file
        other.strayCount += place.count
        other.lastCut = place.lowerBound
        return other
    }

    /// What is to be said of the file.
    var notes: [ImageNote] {
        var notes: [ImageNote] = []
        if strayCount > 0 {
            notes.append(
                ImageNote(
                    .strayBytes,
                    "at least \(strayCount) bytes that belong to nothing stand among those of the picture; they were left "
                        + "out"))
        }
        if !hadEnd { notes.append(ImageNote(.missingEnd, "the file ends without an end mark; every pixel is there")) }
        if !header.patches.isEmpty {
            notes.append(ImageNote(.oddMetadata, "its JFIF version or its Adobe colour transform does not exist"))
        }
        return notes
    }
}

import Foundation
import Platform
import Testing

/// Names beside names.
@Suite struct TemporaryNameTests {
    private static let names = [
        "a.png", String(repeating: "n", count: 245) + ".png", String(repeating: "n", count: 255),
        // Characters of two, three and four bytes, which are never cut in two.
        String(repeating: "é", count: 127), String(repeating: "切", count: 85), String(repeating: "🐟", count: 63),
        String(repeating: "e\u{301}", count: 85),
    ]

    @Test(arguments: names) func fitsWhereTheTargetFits(name: String) {
        #expect(name.utf8.count <= 255)
        for target in ["/tmp/\(name)", name, "./\(name)"] {
            let first = TemporaryName.unique(beside: target, ending: "partial")
            // The temporary file of a temporary file, as staged outputs have it.
            let second = TemporaryName.unique(beside: first, ending: "staged")
            let part = TemporaryName.lasting(beside: target, ending: "part")
            for path in [first, second, part] {
                let last = path.split(separator: "/").last.map(String.init) ?? ""
                #expect(last.utf8.count <= 255 && !last.isEmpty && path != target)
                #expect(path.hasPrefix(target.dropLast(name.count)), "beside the target")
                #expect(!last.unicodeScalars.contains("\u{FFFD}"))
            }
            #expect(first != TemporaryName.unique(beside: target, ending: "partial"))
            #expect(part == TemporaryName.lasting(beside: target, ending: "part"), "a later process finds it")
        }
    }

    @Test func longNamesThatBeginAlikeHaveCompanionsOfTheirOwn() {
        let head = String(repeating: "n", count: 250)
        #expect(
            TemporaryName.lasting(beside: head + "aaaaa", ending: "part")
                != TemporaryName.lasting(beside: head + "bbbbb", ending: "part"))
        #expect(TemporaryName.lasting(beside: "/m/sam.pth", ending: "part") == "/m/sam.pth.part")
    }
}

import Foundation
import Imaging
import Testing

@Suite("Pictures are found in folders, each once")
struct PictureFinderTests {
    private func make(_ names: [String], in directory: String) throws {
        for name in names {
            let url = URL(fileURLWithPath: "\(directory)/\(name)")
            try FileManager.default.createDirectory(
                at: url.deletingLastPathComponent(), withIntermediateDirectories: true)
            try Data("x".utf8).write(to: url)
        }
    }

    private func names(_ findings: PictureFinder.Findings, below directory: String) -> [String] {
        findings.paths.map { String($0.dropFirst(directory.count + 1)) }
    }

    @Test("by the endings of all formats that are read, in any case")
    func endings() throws {
        try Fixtures.withDirectory { directory in
            let wanted = ImageDecoder.fileExtensions.flatMap { ending in
                [
                    "low.\(ending)", "UP.\(ending.uppercased())",
                    "Mix.\(ending.prefix(1).uppercased())\(ending.dropFirst())",
                ]
            }
            try make(wanted + ["notes.txt", "jpg", ".hidden.jpg", "a.jpg.bak", "below/deep/b.PNG"], in: directory)
            var finder = PictureFinder()
            let found = try finder.pictures(below: directory)
            #expect(Set(names(found, below: directory)) == Set(wanted + ["below/deep/b.PNG"]))
            #expect(found.notes.isEmpty && found.faults.isEmpty)
        }
    }

    @Test("links in a circle end, and many ways to a file are one")
    func loops() throws {
        try Fixtures.withDirectory { directory in
            try make(["a.jpg", "below/b.jpg"], in: directory)
            for (link, target) in [
                ("latest", "."), ("current", "."), ("below/up", ".."), ("below/self", "../below"), ("c.jpg", "a.jpg"),
            ] {
                try FileManager.default.createSymbolicLink(atPath: "\(directory)/\(link)", withDestinationPath: target)
            }
            try FileManager.default.linkItem(atPath: "\(directory)/a.jpg", toPath: "\(directory)/hard.jpg")
            var finder = PictureFinder()
            #expect(names(try finder.pictures(below: directory), below: directory) == ["a.jpg", "below/b.jpg"])
            // What was found is not found again, and that is not the same as nothing.
            let again = try finder.pictures(below: "\(directory)/below")
            #expect(again.paths.isEmpty && !again.isEmpty)
            #expect(finder.picture(at: "\(directory)/hard.jpg").paths.isEmpty)
        }
    }

    @Test("what is no file is passed over with a word, and so is what is too deep or cannot be read")
    func special() throws {
        try Fixtures.withDirectory { directory in
            try make(["a.jpg"], in: directory)
            #expect(mkfifo("\(directory)/x.jpg", 0o600) == 0 && mkfifo("\(directory)/other", 0o600) == 0)
            try FileManager.default.createSymbolicLink(
                atPath: "\(directory)/gone.png", withDestinationPath: "nowhere.png")
            try FileManager.default.createSymbolicLink(
                atPath: "\(directory)/zero.png", withDestinationPath: "/dev/zero")
            let deep = String(repeating: "d/", count: PictureFinder.deepest + 1)
            try make(["\(deep)z.jpg", "\(deep.dropLast(2))y.jpg"], in: directory)
            var finder = PictureFinder()
            let found = try finder.pictures(below: directory)
            #expect(names(found, below: directory) == ["a.jpg", "\(deep.dropLast(2))y.jpg"])
            #expect(
                found.notes.count == 2 && found.notes.contains { $0.contains("x.jpg: skipped: it is a named pipe") })
            #expect(found.notes.contains { $0.contains("zero.png: skipped: it is a device") })
            #expect(found.faults.contains { $0.contains("gone.png") } && found.faults.contains { $0.contains("deep") })
            #expect(throws: ImageError.self) { try finder.pictures(below: "\(directory)/none") }
        }
    }

    @Test("a name that is not UTF-8 is found, and its file opened")
    func foreignNames() throws {
        try Fixtures.withDirectory { directory in
            var path = Array("\(directory)/p".utf8).map { CChar(bitPattern: $0) }
            path += [CChar(bitPattern: 0xE9)] + ".jpg".utf8.map { CChar(bitPattern: $0) } + [0]
            let descriptor = open(path, O_CREAT | O_WRONLY, 0o600)
            #expect(descriptor >= 0)
            close(descriptor)
            var finder = PictureFinder()
            let found = try finder.pictures(below: directory)
            #expect(found.paths.count == 1 && found.faults.isEmpty)
            // It is there, with nothing in it.
            let error = #expect(throws: ImageError.self) {
                try ImageDecoder().decode(file: try #require(found.paths.first))
            }
            #expect(error?.code == .empty)
        }
    }
}

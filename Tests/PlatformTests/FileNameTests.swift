import Glibc
import Platform
import Testing

@Suite("File names are bytes")
struct FileNameTests {
    @Test("every name comes back as the bytes that it is, and no two become one")
    func roundTrip() {
        let names: [[UInt8]] = [
            Array("plain.png".utf8), Array("日本語.png".utf8), [0x63, 0xE9, 0x2E], [0xFF], [0xC3], [0xC3, 0x28],
            [0xED, 0xA0, 0x80], [0xF0, 0x9F, 0x98], [0xC0, 0xAF], [0xF8, 0x88, 0x80, 0x80, 0x80],
            [0x80, 0xC3, 0xA9, 0xFE],
            // A name that has one of our own scalars in it.
            Array("\u{10FEE9}".utf8), Array("a\u{10FE80}b".utf8), [],
        ]
        for name in names { #expect(FileName.bytes(of: FileName.text(of: name)) == name) }
        #expect(Set(names.map { FileName.text(of: $0) }).count == names.count)
        #expect(FileName.text(of: Array("日本語.png".utf8)) == "日本語.png")
        #expect(FileName.text(of: [0x63, 0xE9]).unicodeScalars.map(\.value) == [0x63, 0x10FEE9])

        let seed: UInt64 = 7
        print("file names: seed \(seed)")
        var state = seed
        for _ in 0..<2000 {
            let name = (0..<Int(state >> 61)).map { _ -> UInt8 in
                state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
                return UInt8(truncatingIfNeeded: state >> 40)
            }
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            #expect(FileName.bytes(of: FileName.text(of: name)) == name)
        }
    }

    @Test("a file of such a name is made, found in its folder, renamed and removed")
    func files() throws {
        var template = Array("/tmp/kirie-names-XXXXXX".utf8CString)
        let folder = try #require(mkdtemp(&template).map { String(cString: $0) })
        let latin = FileName.text(of: Array("caf".utf8) + [0xE9] + Array(".png".utf8))
        let path = "\(folder)/\(latin)"
        let descriptor = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
        #expect(descriptor >= 0)
        close(descriptor)
        // By its bytes it is there, by what a string's UTF-8 would be it is not.
        let bytes = Array(folder.utf8CString.dropLast()) + [0x2F, 0x63, 0x61, 0x66, -23, 0x2E, 0x70, 0x6E, 0x67, 0]
        #expect(Glibc.access(bytes, F_OK) == 0)
        #expect(Glibc.access(path, F_OK) != 0 && access(path, R_OK) == 0)
        var status = stat()
        #expect(stat(path, &status) == 0 && status.st_size == 0)
        let directory = try #require(opendir(folder))
        var names: [String] = []
        while let entry = readdir(directory) {
            names.append(withUnsafeBytes(of: &entry.pointee.d_name) { FileName.text(of: $0.prefix { $0 != 0 }) })
        }
        closedir(directory)
        #expect(names.contains(latin))
        #expect(resolvedPath(path)?.hasSuffix(latin) == true)
        #expect(rename(path, path + "2") == 0 && resolvedPath(path) == nil)
        #expect(unlink(path + "2") == 0 && rmdir(folder) == 0)
    }
}

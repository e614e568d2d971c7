import Foundation
import Platform
import Testing

/// Files that are there whole or not at all, and files that are opened for reading.
@Suite struct AtomicFileTests {
    private func withDirectory(_ body: (String) throws -> Void) throws {
        let directory = NSTemporaryDirectory() + "kirie-files-\(UUID().uuidString)"
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: directory) }
        try body(directory)
    }

    private func write(_ text: String, to path: String) throws(FileFault) {
        var file = try AtomicFile(replacing: path)
        try file.write(Array(text.utf8))
        try file.commit()
    }

    @Test func aNameOfAnyLengthThatTheFileSystemTakes() throws {
        try withDirectory { directory in
            for count in [1, 200, 245, 255] {
                let name = String(repeating: "n", count: count)
                try write("\(count)", to: "\(directory)/\(name)")
                #expect(try String(contentsOfFile: "\(directory)/\(name)", encoding: .utf8) == "\(count)")
            }
            let fault = #expect(throws: FileFault.self) {
                try write("x", to: "\(directory)/\(String(repeating: "n", count: 256))")
            }
            #expect(fault?.reason == .system(ENAMETOOLONG))
            #expect(try FileManager.default.contentsOfDirectory(atPath: directory).count == 4, "nothing is left")
        }
    }

    @Test func aLinkStaysAndWhatIsGivenUpLeavesNothing() throws {
        try withDirectory { directory in
            try write("old", to: "\(directory)/a")
            try FileManager.default.createSymbolicLink(atPath: "\(directory)/link", withDestinationPath: "a")
            try write("new", to: "\(directory)/link")
            #expect(try String(contentsOfFile: "\(directory)/a", encoding: .utf8) == "new")
            func giveUp() throws {
                var file = try AtomicFile(replacing: "\(directory)/a")
                try file.write(Array("half".utf8))
            }
            try giveUp()
            #expect(try String(contentsOfFile: "\(directory)/a", encoding: .utf8) == "new")
            #expect(try FileManager.default.contentsOfDirectory(atPath: directory).sorted() == ["a", "link"])
            #expect(throws: FileFault.self) { try write("x", to: directory) }
        }
    }

    @Test func whatIsNoFileIsRefusedWithoutWaiting() throws {
        try withDirectory { directory in
            let pipe = "\(directory)/pipe"
            #expect(mkfifo(pipe, 0o600) == 0)
            let socketPath = "\(directory)/s"
            let descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
            defer { close(descriptor) }
            var address = sockaddr_un()
            address.sun_family = sa_family_t(AF_UNIX)
            withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: socketPath.utf8) }
            let bound = withUnsafePointer(to: &address) { pointer in
                pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    bind(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
                }
            }
            #expect(bound == 0)
            for (path, word) in [
                (pipe, "a named pipe"), (socketPath, "a socket"), ("/dev/zero", "a device"),
                (directory, "a directory"), ("\(directory)/none", "No such file"),
            ] {
                let fault = #expect(throws: FileFault.self) { close(try InputFile.open(path)) }
                #expect(fault?.clause.contains(word) == true, "\(path): \(fault?.clause ?? "")")
                #expect(fault?.remedy.isEmpty == false)
            }
        }
    }

    @Test func aPipeThatAShellLaidIsRead() throws {
        let pipe = Pipe()
        try pipe.fileHandleForWriting.write(contentsOf: Data("hello".utf8))
        let descriptor = try InputFile.open("/dev/fd/\(pipe.fileHandleForReading.fileDescriptor)")
        defer { close(descriptor) }
        var bytes = [UInt8](repeating: 0, count: 16)
        #expect(read(descriptor, &bytes, bytes.count) == 5)
        #expect(fcntl(descriptor, F_GETFL) & O_NONBLOCK == 0, "a writer may take its time")
    }
}

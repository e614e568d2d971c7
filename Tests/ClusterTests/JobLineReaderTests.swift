import Cluster
import Foundation
import Testing

@Suite struct JobLineReaderTests {
    private func entries(_ text: String, limit: Int = 100, lines: Int = 3) async throws -> [[JobLineReader.Entry]] {
        let path = NSTemporaryDirectory() + UUID().uuidString
        try Data(text.utf8).write(to: URL(fileURLWithPath: path))
        defer { try? FileManager.default.removeItem(atPath: path) }
        let reader = try JobLineReader(path, limit: limit, batchLines: lines)
        var batches: [[JobLineReader.Entry]] = []
        while let batch = try await reader.next() { batches.append(batch) }
        return batches
    }

    private func line(_ number: Int, _ text: String) -> JobLineReader.Entry {
        .line(number: number, text: Array(text.utf8))
    }

    @Test func linesAreNumberedAndBlankOnesLeftOut() async throws {
        let found = try await entries("a\n\n  \r\nbb\r\nccc\nd")
        #expect(found == [[line(1, "a"), line(4, "bb\r"), line(5, "ccc")], [line(6, "d")]])
        for text in ["", "\n\n"] { #expect(try await entries(text).isEmpty) }
        #expect(try await entries("\u{FEFF}a\n") == [[line(1, "a")]])
    }

    @Test func longLinesAreSkippedAtAnyPlace() async throws {
        // The buffer takes 256 KiB a time: the long line goes over several of them.
        for length in [101, 5000, 262_143, 262_144, 700_001] {
            let long = String(repeating: "x", count: length)
            let found = try await entries("a\n\(long)\nb\n\(long)").flatMap(\.self)
            #expect(
                found == [
                    line(1, "a"), .tooLong(number: 2, bytes: length), line(3, "b"), .tooLong(number: 4, bytes: length),
                ])
        }
        let whole = String(repeating: "x", count: 100)
        #expect(try await entries("\(whole)\n") == [[line(1, whole)]])
    }

    @Test func whatComesThroughAPipeIsHandedOnAtOnce() async throws {
        // As a shell lays it for `--jobs <(…)`.
        let pipe = Pipe()
        let writer = pipe.fileHandleForWriting.fileDescriptor
        let reader = try JobLineReader("/dev/fd/\(pipe.fileHandleForReading.fileDescriptor)")
        #expect(reader.byteCount == nil)
        write(writer, "a\nb\nha", 6)
        #expect(try await reader.next() == [line(1, "a"), line(2, "b")])
        write(writer, "lf\n", 3)
        #expect(try await reader.next() == [line(3, "half")])
        let waiting = Task { try await reader.next() }
        waiting.cancel()
        await #expect(throws: JobFileError.self) { try await waiting.value }
    }

    @Test func whatIsNoFileIsRefusedWithoutWaiting() throws {
        let path = NSTemporaryDirectory() + UUID().uuidString
        #expect(mkfifo(path, 0o600) == 0)
        defer { unlink(path) }
        for (path, words) in [
            (path, "is a named pipe, not a regular file: give it as standard input: --jobs - <"),
            ("/dev/zero", "a device"),
            ("/tmp", "is a directory"), ("/nowhere", "No such file"),
        ] {
            let error = #expect(throws: JobFileError.self) { try JobLineReader(path) }
            #expect(error?.file == path && error?.reason.contains(words) == true, "\(error.map { "\($0)" } ?? "")")
        }
    }
}

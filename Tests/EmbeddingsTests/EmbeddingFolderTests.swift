import Embeddings
import Foundation
import Glibc
import Platform
import Segmentation
import Testing

/// Records as files of a folder: whole or not at all, bounded, the least used go first, several at once.
@Suite struct EmbeddingFolderTests {
    /// A folder that is gone with the test.
    private final class Place {
        let path = NSTemporaryDirectory() + "kirie-folder-\(UUID().uuidString)"
        deinit { try? FileManager.default.removeItem(atPath: path) }

        /// All files but the lock.
        var files: [String] {
            (FileManager.default.enumerator(atPath: path)?.compactMap { $0 as? String } ?? [])
                .filter { $0.contains("/") }.map { "\(path)/\($0)" }
        }

        func file(of key: EmbeddingKey) -> String {
            files.first { $0.contains(key.image.hexadecimal) } ?? ""
        }
    }

    private static func record(_ number: Int) throws -> EmbeddingRecord {
        try Sample.record(Sample.features(channels: 4, grid: 8, seed: UInt64(number)), image: number)
    }

    /// Sets when a file was of use last, in seconds since 1970.
    private static func touch(_ file: String, _ seconds: Int) {
        var times = [timespec(tv_sec: seconds, tv_nsec: 0), timespec(tv_sec: seconds, tv_nsec: 0)]
        utimensat(AT_FDCWD, file, &times, 0)
    }

    @Test func whatIsKeptIsFoundByAnyProcess() throws {
        let place = Place()
        let folder = try EmbeddingFolder("\(place.path)/below/it", byteLimit: 1 << 20)
        let (first, second) = (try Self.record(1), try Self.record(2))
        #expect(folder.record(for: first.key) == nil)
        #expect(try folder.store(first) && folder.store(first))
        let found = try EmbeddingFolder("\(place.path)/below/it/", byteLimit: 1 << 20).record(for: first.key)
        #expect(found?.withUnsafeBytes { Array($0) } == first.withUnsafeBytes { Array($0) })
        #expect(folder.contains([first.key, second.key]) == [true, false])
        #expect(folder.keys() == [first.key])
        #expect(folder.byteCount() == first.byteCount)
    }

    @Test func ofTooManyBytesThoseGoThatWereNotReadForTheLongestTime() throws {
        let place = Place()
        let records = try (1...5).map { try Self.record($0) }
        let folder = try EmbeddingFolder(place.path, byteLimit: 3 * records[0].byteCount)
        for (number, record) in records.prefix(3).enumerated() {
            try folder.store(record)
            Self.touch(place.file(of: record.key), 1000 + number)
        }
        // The oldest was read since.
        #expect(folder.record(for: records[0].key) != nil)
        try folder.store(records[3])
        #expect(folder.contains(records.map(\.key)) == [true, false, true, true, false])
        #expect(folder.byteCount() <= folder.byteLimit)
        // What is there already takes no place of another's.
        try folder.store(records[3])
        #expect(folder.keys().count == 3)
        // A smaller limit holds from the start; what is larger than the folder may be is not kept.
        let small = try EmbeddingFolder(place.path, byteLimit: records[0].byteCount)
        #expect(small.keys().count == 1)
        let tiny = try EmbeddingFolder("\(place.path)-tiny", byteLimit: 10)
        defer { try? FileManager.default.removeItem(atPath: tiny.path) }
        #expect(try !tiny.store(records[4]) && tiny.keys().isEmpty)
    }

    @Test(arguments: [0, 1, 40, 200, -1])
    func whatIsTornOrDamagedIsAbsentAndPutAside(_ length: Int) throws {
        let place = Place()
        let (record, other) = (try Self.record(1), try Self.record(2))
        let folder = try EmbeddingFolder(place.path, byteLimit: 3 * record.byteCount)
        try folder.store(record)
        let file = place.file(of: record.key)
        var bytes = [UInt8](try Data(contentsOf: URL(fileURLWithPath: file)))
        if length >= 0 { bytes = Array(bytes.prefix(length)) } else { bytes[bytes.count - 1] ^= 1 }
        try Data(bytes).write(to: URL(fileURLWithPath: file))
        // Who only reads leaves it where it is.
        guard case .damaged = try EmbeddingFolder(reading: place.path).lookUp(record.key) else {
            Issue.record("it is not found to be damaged")
            return
        }
        #expect(FileManager.default.fileExists(atPath: file))
        #expect(folder.record(for: record.key) == nil)
        #expect(!FileManager.default.fileExists(atPath: file) && folder.keys().isEmpty)
        #expect([UInt8](try Data(contentsOf: URL(fileURLWithPath: "\(file).damaged"))) == bytes)
        guard case .absent = folder.lookUp(record.key) else {
            Issue.record("what was put aside is still looked at")
            return
        }
        // A whole record under another's name is no better.
        try folder.store(other)
        try folder.store(record)
        try Data(contentsOf: URL(fileURLWithPath: place.file(of: other.key))).write(
            to: URL(fileURLWithPath: file))
        #expect(folder.record(for: record.key) == nil)
        #expect(folder.record(for: other.key) != nil)
        // Of what takes room it is the first to go.
        for number in 3...5 { try folder.store(try Self.record(number)) }
        #expect(!FileManager.default.fileExists(atPath: "\(file).damaged"))
        #expect(folder.keys().count == 3 && folder.byteCount() <= folder.byteLimit)
    }

    /// Each byte of a record is looked at: whichever is another, the record is none.
    @Test func aFlippedBitIsFoundWhereverItIs() throws {
        let place = Place()
        let record = try Self.record(1)
        let folder = try EmbeddingFolder(place.path, byteLimit: 1 << 20)
        try folder.store(record)
        let file = place.file(of: record.key)
        let whole = [UInt8](try Data(contentsOf: URL(fileURLWithPath: file)))
        for index in stride(from: 0, to: whole.count, by: max(1, whole.count / 200)) {
            var bytes = whole
            bytes[index] ^= 1 << (index % 8)
            try Data(bytes).write(to: URL(fileURLWithPath: file))
            if let found = folder.record(for: record.key) {
                // What no checksum covers changes nothing of what is answered.
                #expect(found.key == record.key && found.withUnsafeBytes { Array($0) } == whole, "byte \(index)")
            }
        }
    }

    /// What stands in a key can be no way out of the folder, and neither can what somebody put into it.
    @Test func nothingLeadsOutOfTheFolder() throws {
        let place = Place()
        let folder = try EmbeddingFolder("\(place.path)/inside", byteLimit: 1 << 20)
        for text in ["..", ".", "../../../etc/passwd", "a/b", "a+b", "", "a\u{0}b", String(repeating: "m", count: 65)] {
            guard let model = ModelIdentifier(text) else { continue }
            let record = try Self.record(1)
            let key = EmbeddingKey(image: record.key.image, model: model)
            #expect(folder.record(for: key) == nil)
            #expect(!folder.contains([key])[0])
            #expect(!text.contains("/") && !text.contains("+"), "\(text) may stand in a key")
        }
        // A link in a record's place is no record, and what it leads to stays as it is.
        let record = try Self.record(1)
        try folder.store(record)
        let file = place.file(of: record.key)
        let outside = "\(place.path)/outside.kemb"
        try FileManager.default.moveItem(atPath: file, toPath: outside)
        try FileManager.default.createSymbolicLink(atPath: file, withDestinationPath: outside)
        let before = try Data(contentsOf: URL(fileURLWithPath: outside))
        #expect(folder.record(for: record.key) == nil)
        try Data([1, 2, 3]).write(to: URL(fileURLWithPath: outside))
        try folder.store(record)
        #expect(try Data(contentsOf: URL(fileURLWithPath: outside)) == Data([1, 2, 3]))
        #expect(folder.record(for: record.key) != nil && before.count == record.byteCount)
        // Others' files in the folder are neither counted nor removed.
        let stranger = "\(folder.path)/5e/notes.txt"
        try FileManager.default.createDirectory(atPath: "\(folder.path)/5e", withIntermediateDirectories: true)
        try Data(repeating: 1, count: 1 << 21).write(to: URL(fileURLWithPath: stranger))
        let again = try EmbeddingFolder(folder.path, byteLimit: record.byteCount)
        #expect(again.keys() == [record.key] && FileManager.default.fileExists(atPath: stranger))
    }

    /// Two models whose names differ in what stands for a colon have files of their own.
    @Test func eachModelHasItsOwn() throws {
        let place = Place()
        let record = try Self.record(1)
        let folder = try EmbeddingFolder(place.path, byteLimit: 1 << 20)
        try folder.store(record)
        for text in [record.key.model.text.replacing(":", with: "."), record.key.model.text.replacing(":", with: "-")] {
            let model = try #require(ModelIdentifier(text))
            #expect(folder.record(for: EmbeddingKey(image: record.key.image, model: model)) == nil)
        }
        #expect(folder.record(for: record.key) != nil && folder.keys() == [record.key])
    }

    /// A count that somebody left wrong, or did not leave, is counted anew when the folder seems full.
    @Test(arguments: ["", "nonsense", "999999999999", "0"])
    func aCountThatIsWrongIsMended(_ text: String) throws {
        let place = Place()
        let records = try (1...4).map { try Self.record($0) }
        let folder = try EmbeddingFolder(place.path, byteLimit: 3 * records[0].byteCount)
        for record in records.prefix(3) { try folder.store(record) }
        #expect(folder.countedBytes == folder.byteCount())
        try Data(text.utf8).write(to: URL(fileURLWithPath: "\(place.path)/lock"))
        if text == "0" {
            // Too small a count is what nobody leaves; who starts counts.
            _ = try EmbeddingFolder(place.path, byteLimit: folder.byteLimit)
        }
        try folder.store(records[3])
        #expect(folder.keys().count == 3 && folder.countedBytes == folder.byteCount())
    }

    /// Of a folder of many records several go at once, so that not all files are looked at for each that comes.
    @Test func aLargeFolderMakesRoomForSeveral() throws {
        let place = Place()
        let size = try Self.record(0).byteCount
        let folder = try EmbeddingFolder(place.path, byteLimit: 60 * size)
        for number in 0..<61 { try folder.store(try Self.record(number)) }
        #expect(folder.keys().count == 57)
        for number in 61..<64 { try folder.store(try Self.record(number)) }
        #expect(folder.keys().count == 60 && folder.countedBytes == 60 * size)
    }

    @Test func whoHoldsTheLockForeverKeepsNobodyWaitingForever() throws {
        let place = Place()
        let record = try Self.record(1)
        let folder = try EmbeddingFolder(place.path, byteLimit: 1 << 20)
        let holder = Glibc.open("\(place.path)/lock", O_RDWR)
        #expect(holder >= 0 && flock(holder, LOCK_EX) == 0)
        #expect(throws: FileFault.self) { try folder.store(record) }
        #expect(folder.record(for: record.key) == nil && !place.files.contains { $0.hasSuffix(".partial") })
        close(holder)
        #expect(try folder.store(record))
    }

    @Test func whatSomebodyLeftUnfinishedGoesAfterAnHour() throws {
        let place = Place()
        let record = try Self.record(1)
        let folder = try EmbeddingFolder(place.path, byteLimit: 1 << 20)
        try folder.store(record)
        let names = ["old", "new"].map { "\(place.file(of: record.key)).\($0).partial" }
        for name in names { try Data([1, 2, 3]).write(to: URL(fileURLWithPath: name)) }
        Self.touch(names[0], 1000)
        _ = try EmbeddingFolder(place.path, byteLimit: 1 << 20)
        #expect(!FileManager.default.fileExists(atPath: names[0]))
        #expect(FileManager.default.fileExists(atPath: names[1]), "somebody may be writing it")
    }

    @Test func severalWritersKeepTheBound() async throws {
        let place = Place()
        let records = try (0..<40).map { try Self.record($0) }
        let limit = 10 * records[0].byteCount
        try await withThrowingTaskGroup(of: Void.self) { group in
            for writer in 0..<4 {
                group.addTask { [path = place.path] in
                    let folder = try EmbeddingFolder(path, byteLimit: limit)
                    for number in 0..<40 {
                        let record = records[(number * 7 + writer * 11) % 40]
                        try folder.store(record)
                        if let found = folder.record(for: record.key) { #expect(found.key == record.key) }
                        #expect(folder.byteCount() <= limit)
                    }
                }
            }
            try await group.waitForAll()
        }
        let folder = try EmbeddingFolder(place.path, byteLimit: limit)
        #expect(folder.keys().count == 10)
        for key in folder.keys() { #expect(folder.record(for: key) != nil) }
    }

    @Test func aPlaceThatTakesNothingIsSaid() throws {
        #expect(throws: FileFault.self) { try EmbeddingFolder("/proc/kirie", byteLimit: 1) }
        let place = Place()
        try FileManager.default.createDirectory(atPath: place.path, withIntermediateDirectories: true)
        let file = "\(place.path)/file"
        try Data([1]).write(to: URL(fileURLWithPath: file))
        #expect(throws: FileFault.self) { try EmbeddingFolder(file, byteLimit: 1) }
        #expect(throws: FileFault.self) { try EmbeddingFolder(reading: file) }
        #expect(throws: FileFault.self) { try EmbeddingFolder(reading: "\(place.path)/none") }
        #expect(!FileManager.default.fileExists(atPath: "\(place.path)/none"))
    }
}

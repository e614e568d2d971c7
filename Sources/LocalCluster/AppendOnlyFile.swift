import Glibc
import Platform

/// What a file of Redis's append-only log holds, as far as it tells where the log can be gone on with.
///
/// It is a sequence of commands, each `*3\r\n$3\r\nSET\r\n…`; those of a transaction stand between MULTI and EXEC.
struct AppendOnlyFile: Sendable, Equatable {
    /// Where a file ends.
    enum End: Sendable, Equatable {
        /// Behind a whole command, outside of a transaction.
        case whole
        /// Within a command or a transaction, which begins at `offset`; `commands` are those of it that are there.
        case cut(offset: Int, commands: [String], isTransaction: Bool)
        /// What stands at `offset` is no command, and more follows it.
        case damaged(offset: Int)
    }

    /// Of the whole file, in bytes.
    let count: Int
    let end: End
    /// The first transaction that was cut off by an earlier kill and has others behind it; nil for none.
    let halfTransaction: Int?

    /// Reads a file that nobody writes to.
    ///
    /// Values are passed over: it takes a fraction of the time in which Redis loads the file.
    /// - Throws: ``FileFault``: it cannot be read.
    init(path: String) throws(FileFault) {
        let descriptor = try InputFile.open(path)
        defer { close(descriptor) }
        let count = Int(lseek(descriptor, 0, SEEK_END))
        guard count > 0 else {
            guard count == 0 else { throw FileFault(path: path, reason: .system(errno)) }
            self.init(UnsafeRawBufferPointer(start: nil, count: 0))
            return
        }
        guard let memory = mmap(nil, count, PROT_READ, MAP_PRIVATE, descriptor, 0), memory != MAP_FAILED else {
            throw FileFault(path: path, reason: .system(errno))
        }
        defer { munmap(memory, count) }
        self.init(UnsafeRawBufferPointer(start: memory, count: count))
    }

    /// Reads the bytes of a file.
    init(_ bytes: UnsafeRawBufferPointer) {
        var reader = Reader(bytes: bytes)
        count = bytes.count
        end = reader.end()
        halfTransaction = reader.halfTransaction
    }
}

/// Goes through the commands of a file.
private struct Reader {
    /// What stands at a place.
    private enum Piece<Value> {
        case whole(Value)
        /// The file ends before it does.
        case cut
        /// It is none, for what stands at this place.
        case wrong(Int)
    }

    let bytes: UnsafeRawBufferPointer
    private var place = 0
    /// The first words of the command that is read: its name, and mostly a key.
    private var words: [Range<Int>] = []
    private(set) var halfTransaction: Int?

    init(bytes: UnsafeRawBufferPointer) { self.bytes = bytes }

    mutating func end() -> AppendOnlyFile.End {
        /// Where the transaction begins that is read, and its commands.
        var transaction: Int?
        var commands: [String] = []
        while place < bytes.count {
            let start = place
            switch command() {
            case .whole:
                if isNamed("MULTI") {
                    if let transaction, halfTransaction == nil { halfTransaction = transaction }
                    if transaction == nil { transaction = start }
                    commands = [summary]
                } else if isNamed("EXEC") {
                    transaction = nil
                } else if transaction != nil {
                    commands.append(summary)
                }
            case .wrong(let offset) where !isZero(from: offset):
                return .damaged(offset: offset)
            case .cut, .wrong:
                // A length that is too large runs to the end, too, and over all commands that stand there.
                if hasCommand(after: start) { return .damaged(offset: start) }
                let offset = transaction ?? start
                if let half = halfTransaction, half < offset { return .damaged(offset: half) }
                let incomplete = words.isEmpty ? "an incomplete command" : "an incomplete \(summary)"
                return .cut(
                    offset: offset, commands: (transaction == nil ? [] : commands) + [incomplete],
                    isTransaction: transaction != nil)
            }
        }
        guard let transaction else { return .whole }
        if let half = halfTransaction, half < transaction { return .damaged(offset: half) }
        return .cut(offset: transaction, commands: commands, isTransaction: true)
    }

    /// Reads a command, or an annotation, which has no words.
    private mutating func command() -> Piece<Void> {
        words.removeAll(keepingCapacity: true)
        if bytes[place] == UInt8(ascii: "#") {
            guard let line = bytes[place...].firstIndex(of: 0x0A) else { return .cut }
            place = line + 1
            return .whole(())
        }
        let length: Int
        switch number(behind: UInt8(ascii: "*"), at: place) {
        case .whole(let (value, next)): (length, place) = (value, next)
        case .cut: return .cut
        case .wrong(let offset): return .wrong(offset)
        }
        for index in 0..<length {
            switch number(behind: UInt8(ascii: "$"), at: place) {
            case .whole(let (size, next)):
                guard size <= bytes.count - next else { return .cut }
                if index < 2 { words.append(next..<(next + size)) }
                place = next + size
            case .cut: return .cut
            case .wrong(let offset): return .wrong(offset)
            }
            for byte in [0x0D, 0x0A] as [UInt8] {
                guard place < bytes.count else { return .cut }
                guard bytes[place] == byte else { return .wrong(place) }
                place += 1
            }
        }
        return .whole(())
    }

    /// A line such as `$12`: its number, and where the next begins.
    private func number(behind mark: UInt8, at start: Int) -> Piece<(Int, Int)> {
        var place = start
        guard place < bytes.count else { return .cut }
        guard bytes[place] == mark else { return .wrong(place) }
        place += 1
        var value = 0
        let digits = place
        while place < bytes.count, (0x30...0x39).contains(bytes[place]), place - digits < 12 {
            value = value * 10 + Int(bytes[place] - 0x30)
            place += 1
        }
        for byte in [0x0D, 0x0A] as [UInt8] {
            guard place < bytes.count else { return .cut }
            guard bytes[place] == byte, place > digits else { return .wrong(place) }
            place += 1
        }
        return .whole((value, place))
    }

    private func isNamed(_ name: StaticString) -> Bool {
        guard let word = words.first, word.count == name.utf8CodeUnitCount else { return false }
        return zip(bytes[word], UnsafeBufferPointer(start: name.utf8Start, count: word.count))
            .allSatisfy { $0 & 0xDF == $1 }
    }

    /// The command's name and what follows it, where that is short and can be read, as a key can.
    private var summary: String {
        let texts = words.prefix { $0.count <= 100 && bytes[$0].allSatisfy { (0x21...0x7E).contains($0) } }
            .map { String(decoding: bytes[$0], as: UTF8.self) }
        return texts.isEmpty ? "command" : texts.joined(separator: " ")
    }

    /// Whether nothing is left but zeros, which is what a file system may have put where it had not written yet.
    private func isZero(from offset: Int) -> Bool { bytes[offset...].allSatisfy { $0 == 0 } }

    /// Whether a command begins somewhere behind the one at `start`.
    private func hasCommand(after start: Int) -> Bool {
        var place = start + 1
        while let found = bytes[place...].firstIndex(of: UInt8(ascii: "*")) {
            place = found + 1
            if found >= 2, bytes[found - 1] == 0x0A, bytes[found - 2] == 0x0D,
                case .whole(let (_, next)) = number(behind: UInt8(ascii: "*"), at: found),
                case .whole = number(behind: UInt8(ascii: "$"), at: next)
            {
                return true
            }
        }
        return false
    }
}

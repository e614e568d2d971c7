import Glibc
import Platform

/// Finds pictures by how their files end, the case ignored: the one way in which every command looks into folders.
///
/// Only regular files count, each once by device and inode, whatever links lead to it; a folder is entered once, so that
/// links in a circle end.
package struct PictureFinder {
    /// How deep folders are searched.
    package static let deepest = 64

    /// What was found.
    package struct Findings: Sendable, Hashable {
        /// Paths, sorted folder by folder.
        package var paths: [String] = []
        /// What looks like a picture and is no file, and was passed over: a line each.
        package var notes: [String] = []
        /// What could not be looked at, so that pictures may be missing: a line each.
        package var faults: [String] = []
        /// How many pictures and folders had been found before.
        package var repeated = 0

        /// Findings of these paths.
        package init(paths: [String] = [], repeated: Int = 0) {
            self.paths = paths
            self.repeated = repeated
        }

        /// Whether there is no picture here at all.
        package var isEmpty: Bool { paths.isEmpty && repeated == 0 }

        /// Both together.
        package mutating func append(_ more: Findings) {
            paths += more.paths
            notes += more.notes
            faults += more.faults
            repeated += more.repeated
        }
    }

    private struct Identity: Hashable {
        let device: UInt
        let inode: UInt

        init(_ status: stat) {
            device = UInt(status.st_dev)
            inode = UInt(status.st_ino)
        }
    }

    private var files: Set<Identity> = []
    private var folders: Set<Identity> = []

    /// A finder that has found nothing; what it has found once it does not find again.
    package init() {}

    /// What is looked for, in words: `.jpg, .jpeg, .png`.
    package static var kinds: String { ImageDecoder.fileExtensions.map { ".\($0)" }.joined(separator: ", ") }

    /// Whether a file of this name is taken for a picture.
    package static func isPicture(_ name: String) -> Bool {
        guard let dot = name.lastIndex(of: ".") else { return false }
        return ImageDecoder.fileExtensions.contains(name[dot...].dropFirst().lowercased())
    }

    /// The pictures below a folder.
    ///
    /// - Throws: ``ImageError`` where the folder itself cannot be read.
    package mutating func pictures(below folder: String) throws(ImageError) -> Findings {
        var findings = Findings()
        var status = stat()
        guard stat(folder, &status) == 0, let names = Self.names(in: folder) else {
            throw ImageError(
                .unreadable, in: folder, "the folder cannot be read: \(FileFault.text(of: errno))",
                remedy: "Check the path and its permissions")
        }
        if folders.insert(Identity(status)).inserted {
            search(folder, names, depth: 0, into: &findings)
        } else {
            findings.repeated += 1
        }
        return findings
    }

    /// A file that was named itself, unless it was found before.
    ///
    /// What is wrong with it is found when it is read.
    package mutating func picture(at path: String) -> Findings {
        var status = stat()
        if stat(path, &status) != 0 || files.insert(Identity(status)).inserted { return Findings(paths: [path]) }
        return Findings(repeated: 1)
    }

    private mutating func search(_ folder: String, _ names: [String], depth: Int, into findings: inout Findings) {
        for name in names {
            let path = Self.path(name, in: folder)
            var status = stat()
            guard stat(path, &status) == 0 else {
                if Self.isPicture(name) {
                    findings.faults.append("\(path): skipped: it cannot be read: \(FileFault.text(of: errno))")
                }
                continue
            }
            switch status.st_mode & S_IFMT {
            case S_IFDIR: enter(path, Identity(status), depth: depth + 1, into: &findings)
            case _ where !Self.isPicture(name): break
            case S_IFREG where files.insert(Identity(status)).inserted: findings.paths.append(path)
            case S_IFREG: findings.repeated += 1
            default:
                let kind = FileFault.kind(of: status.st_mode) ?? "no regular file"
                findings.notes.append("\(path): skipped: it is \(kind)")
            }
        }
    }

    private mutating func enter(_ folder: String, _ identity: Identity, depth: Int, into findings: inout Findings) {
        guard depth <= Self.deepest else {
            findings.faults.append("\(folder): skipped: more than \(Self.deepest) folders deep")
            return
        }
        guard folders.insert(identity).inserted else {
            findings.repeated += 1
            return
        }
        guard let names = Self.names(in: folder) else {
            findings.faults.append("\(folder): skipped: it cannot be read: \(FileFault.text(of: errno))")
            return
        }
        search(folder, names, depth: depth, into: &findings)
    }

    /// The names in a folder, sorted, without hidden ones; nil with `errno` where it cannot be read.
    package static func names(in folder: String) -> [String]? {
        guard let directory = opendir(folder) else { return nil }
        defer { closedir(directory) }
        var names: [String] = []
        while let entry = readdir(directory) {
            withUnsafeBytes(of: entry.pointee.d_name) { bytes in
                let name = bytes.prefix { $0 != 0 }
                guard name.first != UInt8(ascii: ".") else { return }
                names.append(FileName.text(of: name))
            }
        }
        return names.sorted()
    }

    private static func path(_ name: String, in folder: String) -> String {
        folder.hasSuffix("/") ? "\(folder)\(name)" : "\(folder)/\(name)"
    }
}

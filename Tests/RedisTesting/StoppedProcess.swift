import Glibc
package import Platform

extension ChildProcess {
    /// Stops it with SIGSTOP; returns when each of its threads has stopped, or when it has ended.
    ///
    /// The signal is under way for a while: until then the process goes on, and may send what it is about to send.
    package func stop() async throws {
        signal(SIGSTOP)
        try await eventually("process \(identifier) has stopped") { !self.isRunning || self.hasStopped }
    }

    private var hasStopped: Bool {
        guard let folder = opendir("/proc/\(identifier)/task") else { return false }
        defer { closedir(folder) }
        while let entry = readdir(folder) {
            let name = withUnsafeBytes(of: entry.pointee.d_name) {
                String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self)
            }
            guard name.first?.isNumber == true else { continue }
            guard let file = fopen("/proc/\(identifier)/task/\(name)/stat", "re") else { continue }
            defer { fclose(file) }
            var line = [CChar](repeating: 0, count: 512)
            guard fgets(&line, Int32(line.count), file) != nil else { continue }
            // "<pid> (<name>) <state> …", and a name may have parentheses of its own.
            let text = String(decoding: line.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
            guard let mark = text.lastIndex(of: ")"), text[mark...].hasPrefix(") T") else { return false }
        }
        return true
    }
}

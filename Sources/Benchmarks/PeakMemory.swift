import Foundation

/// The most memory that this process has had in RAM.
enum PeakMemory {
    /// In megabytes of 2^20 bytes, to a tenth; 0 where the system does not tell.
    ///
    /// Not `getrusage`: its figure goes through `execve`, so a program that a large one starts shows the large one's peak.
    static var megabytes: Double {
        guard let status = try? String(contentsOfFile: "/proc/self/status", encoding: .utf8),
            let line = status.split(separator: "\n").first(where: { $0.hasPrefix("VmHWM:") }),
            let kilobytes = line.split(whereSeparator: \.isWhitespace).dropFirst().first.flatMap({ Double($0) })
        else { return 0 }
        return (kilobytes / 1024 * 10).rounded() / 10
    }
}

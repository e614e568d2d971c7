import Checkpoints
import Foundation
import Glibc
import Testing

/// What opening and fingerprinting cost on a file of real size: the one that `KIRIE_LARGE_CHECKPOINT` names.
@Suite struct LargeFileTests {
    /// Kilobytes that are resident now.
    private func resident() -> Int {
        let fields = (try? String(contentsOfFile: "/proc/self/statm", encoding: .utf8))?.split(separator: " ")
        return (fields.flatMap { $0.count > 1 ? Int($0[1]) : nil } ?? 0) * Int(getpagesize()) / 1024
    }

    @Test func fingerprintIsFastAndLeavesNothingResident() throws {
        guard let path = ProcessInfo.processInfo.environment["KIRIE_LARGE_CHECKPOINT"] else {
            return print("skipped: KIRIE_LARGE_CHECKPOINT names no file")
        }
        let clock = ContinuousClock()
        let before = resident()
        var checkpoint: Checkpoint?
        let opening = try clock.measure { checkpoint = try Checkpoint(path: path) }
        let opened = try #require(checkpoint)
        print("open: \(opening), \(opened.tensors.count) tensors, \(resident() - before) KiB resident")
        for threads in [1, 2] {
            let time = try clock.measure { _ = try opened.fingerprint(threads: threads) }
            print("fingerprint, \(threads) threads: \(time), \(opened.byteCount) bytes, \(resident() - before) KiB")
        }
        #expect(resident() - before < 64 << 10)
    }
}

import Foundation
import Tensors
import Testing

/// This test program again, in a process that uses an instruction set at most: a process reads its limit once.
enum InstructionSetProcess {
    /// Runs the tests of a suite and waits for their end, which must be a good one.
    ///
    /// The environment is what such a process is told besides the limit.
    static func run(_ suite: String, within limit: InstructionSet, environment: [String: String]) throws {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath()
        process.arguments = ["--testing-library", "swift-testing", "--filter", suite]
        process.environment = ProcessInfo.processInfo.environment.merging(
            environment.merging([InstructionSet.limitVariable: limit.rawValue]) { $1 }
        ) { $1 }
        // Both streams into one pipe: failures are told on one, a crash on the other.
        let output = Pipe()
        process.standardOutput = output
        process.standardError = output
        try process.run()
        let text = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        process.waitUntilExit()
        try #require(
            process.terminationReason == .exit && process.terminationStatus == 0,
            "the process for \(limit.rawValue) ended with \(process.terminationStatus): \(text.suffix(4000))")
    }
}

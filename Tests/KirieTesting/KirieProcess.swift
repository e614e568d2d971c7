package import Foundation
import Testing

/// The real `kirie` program, run as a user runs it.
package struct KirieProcess {
    package let output: String
    package let complaint: String
    package let status: Int32

    /// The program beside this test bundle in the build directory.
    package static let executable: URL = URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath()
        .deletingLastPathComponent().appendingPathComponent("kirie")

    /// The golden models and pictures of the room below.
    package static let fixtures = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
        .deletingLastPathComponent()
        .appendingPathComponent("SegmentAnythingTests/Fixtures")
    package static let nano = fixtures.appendingPathComponent("nano/sam.pth").path
    package static let wide = fixtures.appendingPathComponent("wide/sam.safetensors").path
    package static let landscape = fixtures.appendingPathComponent("nano/landscape.jpg").path
    package static let portrait = fixtures.appendingPathComponent("wide/portrait.png").path

    /// Where standard output goes.
    package enum Sink {
        /// To the test.
        case test
        /// To a file or a device.
        case file(String)
        /// To a reader that has gone away.
        case nobody
    }

    /// Runs the program to its end, and kills it when it hangs; its model is nano unless the arguments say otherwise.
    ///
    /// The wrapper is a program and its arguments that run the command line given after them.
    package init(
        _ arguments: [String], environment: [String: String] = [:], output sink: Sink = .test, wrapper: [String] = []
    ) throws {
        try #require(
            FileManager.default.isExecutableFile(atPath: Self.executable.path),
            "\(Self.executable.path) is not built: run deploy/test")
        let process = Process()
        let words = wrapper + [Self.executable.path] + arguments
        process.executableURL = URL(fileURLWithPath: words[0])
        process.arguments = Array(words.dropFirst())
        var variables = ProcessInfo.processInfo.environment
        variables["KIRIE_MODEL"] = Self.nano
        process.environment = variables.merging(environment) { $1 }
        let (out, err) = (Pipe(), Pipe())
        var isReading = false
        switch sink {
        case .test:
            process.standardOutput = out
            isReading = true
        case .file(let path): process.standardOutput = try FileHandle(forWritingTo: URL(fileURLWithPath: path))
        case .nobody:
            try out.fileHandleForReading.close()
            process.standardOutput = out
        }
        process.standardError = err
        process.standardInput = FileHandle.nullDevice
        try process.run()
        let identifier = process.processIdentifier
        let deadline = DispatchWorkItem { kill(identifier, SIGKILL) }
        DispatchQueue.global().asyncAfter(deadline: .now() + 900, execute: deadline)
        defer { deadline.cancel() }
        // Both pipes are read at once, so that neither can fill up and stop the program.
        nonisolated(unsafe) var complaint = Data()
        let done = DispatchSemaphore(value: 0)
        DispatchQueue(label: "standard error").async {
            complaint = err.fileHandleForReading.readDataToEndOfFile()
            done.signal()
        }
        let text = isReading ? out.fileHandleForReading.readDataToEndOfFile() : Data()
        done.wait()
        process.waitUntilExit()
        output = String(decoding: text, as: UTF8.self)
        self.complaint = String(decoding: complaint, as: UTF8.self)
        status = process.terminationReason == .exit ? process.terminationStatus : -process.terminationStatus
    }
}

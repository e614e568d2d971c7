import Foundation
import KirieTesting
import Testing

/// Bad input gets an error that says what is wrong and where, and disturbs nothing else.
///
/// A file for each kind of input. What a command is given ends with exit status 1, a message that names the file, and
/// no file left behind; what a cluster is given fails or becomes a dead letter with a reason, once, while the rest goes
/// on. The same damages are tried on both sides. How each parser meets bytes that it does not expect is tested in the
/// room of the parser.
///
/// One after the other: several of them start a cluster of processes.
@Suite(.serialized) struct BadInputTests {
    /// Runs a command that must fail and leave the directory as it was.
    static func expectFailure(
        _ arguments: [String], says words: [String], in directory: TemporaryDirectory,
        sourceLocation: SourceLocation = #_sourceLocation
    ) throws {
        let before = try directory.files
        let run = try KirieProcess(arguments)
        #expect(run.status == 1, "\(run.status): \(run.complaint)", sourceLocation: sourceLocation)
        #expect(run.output.isEmpty, sourceLocation: sourceLocation)
        for word in words {
            #expect(run.complaint.contains(word), "‘\(word)’ in: \(run.complaint)", sourceLocation: sourceLocation)
        }
        #expect(try directory.files == before, sourceLocation: sourceLocation)
    }

    static func bytes(_ path: String) throws -> [UInt8] { Array(try Data(contentsOf: URL(fileURLWithPath: path))) }
}

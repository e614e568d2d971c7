import ArgumentParser
import Cluster
import Glibc
import Platform
import Tensors
import Terminals

/// The `kirie` command.
@main
struct Kirie: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "kirie",
        abstract: "Segment Anything, served: a picture and a prompt in, a mask out.",
        discussion: """
            kirie segment photo.jpg --point 840,520 -o mask.png --overlay overlay.png
            kirie segment photo.jpg --box 100,80,640,420 --json

            Coordinates are pixels of the picture, x to the right, y down.
            Exit status: 0 done, 1 the work failed, 2 usage, 75 come back later.
            """,
        subcommands: [
            SegmentCommand.self, EverythingCommand.self, EncodeCommand.self, DecodeCommand.self, EmbedCommand.self,
            ModelCommand.self, EvalCommand.self, BenchCommand.self, UpCommand.self, GatewayCommand.self,
            EncoderCommand.self, DecoderCommand.self, SubmitCommand.self, WaitCommand.self, StatusCommand.self,
            CancelCommand.self, DeadCommand.self, QueuesCommand.self, WorkersCommand.self, CacheCommand.self,
            TenantsCommand.self,
            PlanCommand.self,
        ])

    static func main() async {
        // A reader that went away ends a write with an error, not the process with a signal.
        signal(SIGPIPE, SIG_IGN)
        Niceness.keep()
        StandardStreams.open()
        let arguments = Array(FileName.arguments.dropFirst())
        CommandLineSecrets.hide()
        do {
            try checkEnvironment()
            try PictureLimitOptions.checkEnvironment()
            var command = try parseAsRoot(arguments)
            if var command = command as? any AsyncParsableCommand {
                try await command.run()
            } else {
                try command.run()
            }
        } catch let code as ExitCode {
            Glibc.exit(code.rawValue)
        } catch {
            switch exitCode(for: error) {
            case .success:
                print(fullMessage(for: error))
                Glibc.exit(0)
            case .validationFailure:
                Terminal.complain(fullMessage(for: error))
                Glibc.exit(2)
            default:
                Terminal.complain("kirie: \(error)")
                Glibc.exit(ErrorReport(of: error).errorClass.exitStatus)
            }
        }
    }
}

extension Kirie {
    /// Refuses what the environment cannot mean, before any work.
    private static func checkEnvironment() throws {
        guard let name = Environment[InstructionSet.limitVariable], InstructionSet(rawValue: name) == nil else {
            return
        }
        let names = InstructionSet.allCases.map(\.rawValue).joined(separator: ", ")
        throw ValidationError("\(InstructionSet.limitVariable) takes one of \(names), not '\(name)'.")
    }
}

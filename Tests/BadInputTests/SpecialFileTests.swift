import Foundation
import KirieTesting
import Testing

extension BadInputTests {
    /// A file that is none, names that are as long as the file system takes them, and outputs that cannot be written.
    @Suite struct SpecialFileTests {
        @Test func noCommandWaitsForAPipe() throws {
            let directory = try TemporaryDirectory()
            let photo = KirieProcess.landscape
            var pipes: [String] = []
            for name in ["x.jpg", "x.png", "x.safetensors", "x.pth", "x.kemb"] {
                pipes.append(directory.file(name))
                #expect(mkfifo(pipes[pipes.count - 1], 0o600) == 0)
            }
            let (picture, mask, logits, weights, embedding) = (pipes[0], pipes[1], pipes[2], pipes[3], pipes[4])
            try FileManager.default.createDirectory(
                atPath: directory.file("set/images"), withIntermediateDirectories: true)
            try FileManager.default.createDirectory(
                atPath: directory.file("set/masks"), withIntermediateDirectories: true)
            try FileManager.default.copyItem(atPath: photo, toPath: directory.file("set/images/a.JPG"))
            #expect(mkfifo(directory.file("set/masks/a.png"), 0o600) == 0)
            let files = try directory.files
            let commands: [(arguments: [String], file: String)] = [
                (["segment", picture, "--point", "5,5"], picture), (["encode", picture, "-o", "/tmp/x.kemb"], picture),
                (["segment", photo, "--point", "5,5", "--mask", mask], mask),
                (["segment", photo, "--point", "5,5", "--mask", logits], logits),
                (["segment", photo, "--point", "5,5", "--model", weights], weights),
                (["decode", embedding, "--point", "5,5"], embedding), (["model", "info", weights], weights),
                (["model", "convert", weights, "-o", directory.file("y.safetensors")], weights),
                (["eval", directory.file("set")], directory.file("set/masks/a.png")),
            ]
            for (arguments, file) in commands {
                let run = try KirieProcess(arguments)
                #expect(run.status == 1 && run.complaint.contains(file), "\(arguments): \(run)")
                #expect(run.complaint.contains("is a named pipe"), "\(arguments): \(run)")
            }
            for device in ["/dev/zero", "/dev/null"] {
                let run = try KirieProcess(["segment", device, "--point", "5,5"])
                #expect(run.status == 1 && run.complaint.contains("is a device"), "\(run)")
            }
            #expect(try directory.files == files)
        }

        @Test func aPictureThroughAPipeOfTheShellIsRead() throws {
            let run = try KirieProcess(
                ["segment", "/dev/stdin", "--point", "5,5", "--json"],
                wrapper: ["/bin/sh", "-c", "cat '\(KirieProcess.landscape)' | \"$0\" \"$@\""])
            #expect(run.status == 0 && run.output.contains("\"masks\""), "\(run)")
        }

        @Test func namesMayBeAsLongAsTheFileSystemTakesThem() throws {
            let directory = try TemporaryDirectory()
            func name(_ ending: String, _ length: Int = 255) -> String {
                directory.file(String(repeating: "n", count: length - ending.utf8.count) + ending)
            }
            let photo = KirieProcess.landscape
            let (mask, overlay, json) = (name(".png"), name(".png", 250), name(".json"))
            let (embedding, tensors, logits) = (name(".kemb"), name(".safetensors"), name(".safetensors", 251))
            let commands = [
                ["segment", photo, "--point", "5,5", "-o", mask, "--overlay", overlay],
                ["segment", photo, "--point", "5,5", "-o", json], ["encode", photo, "-o", embedding],
                ["encode", photo, "-o", tensors], ["decode", embedding, "--point", "5,5", "--logits", logits],
                ["model", "convert", KirieProcess.nano, "-o", name(".safetensors", 252)],
            ]
            for arguments in commands {
                let run = try KirieProcess(arguments)
                #expect(run.status == 0, "\(arguments[0]): \(run.complaint)")
            }
            let accents = directory.file(String(repeating: "é", count: 125) + ".png")
            #expect(try KirieProcess(["segment", photo, "--point", "5,5", "-o", accents]).status == 0)
            #expect(try directory.files.count == 8, "no temporary file is left")
            let long = try KirieProcess(["segment", photo, "--point", "5,5", "-o", name(".png", 256)])
            #expect(long.status == 1 && long.complaint.contains("too long") && long.complaint.contains("shorter name"))
        }

        @Test func outputsThatCannotBeWritten() throws {
            let directory = try TemporaryDirectory()
            let segment = ["segment", KirieProcess.landscape, "--point", "5,5"]
            let nowhere = directory.file("no/such/directory/mask")
            for arguments in [
                segment + ["-o", "\(nowhere).png"], segment + ["-o", "\(nowhere).json"],
                segment + ["--overlay", "\(nowhere).png"],
                ["encode", KirieProcess.landscape, "-o", "\(nowhere).kemb"],
                ["encode", KirieProcess.landscape, "-o", "\(nowhere).safetensors"],
            ] { try expectFailure(arguments, says: [nowhere], in: directory) }
            try FileManager.default.createDirectory(
                atPath: directory.file("folder.png"), withIntermediateDirectories: true)
            try expectFailure(
                segment + ["-o", directory.file("folder.png")], says: [directory.file("folder.png")], in: directory)

            let full = try KirieProcess(segment + ["--json"], output: .file("/dev/full"))
            #expect(full.status == 1 && full.complaint.contains("standard output"))
        }
    }
}

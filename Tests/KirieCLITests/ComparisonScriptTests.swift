import Foundation
import KirieTesting
import Testing

/// What deploy/parity and deploy/compare say before they have any package: their help, and what is wrong or missing.
@Suite struct ComparisonScriptTests {
    private static let deploy = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
        .deletingLastPathComponent().deletingLastPathComponent().appendingPathComponent("deploy")

    private let directory: TemporaryDirectory
    /// A Python 3 that finds no package, whatever this machine has installed.
    private let python: String

    init() throws {
        directory = try TemporaryDirectory()
        python = try directory.write("#!/bin/sh\nexec /usr/bin/python3 -E -S \"$@\"\n".utf8, to: "python3")
        try FileManager.default.setAttributes([.posixPermissions: 0o755], ofItemAtPath: python)
    }

    /// Runs one of the scripts with the program that was built beside this test.
    private func run(_ script: String, _ arguments: [String], _ environment: [String: String] = [:]) throws
        -> KirieProcess
    {
        var variables = ["PYTHON": "", "KIRIE": "", "COLUMNS": "200"]
        variables.merge(environment) { $1 }
        return try KirieProcess(
            arguments, environment: variables,
            wrapper: ["/bin/bash", Self.deploy.appendingPathComponent(script).path, "--kirie"])
    }

    @Test(arguments: [
        ("parity", ["GEOMETRY", "--kirie", "--venv", "--reference", "KIRIE_MAX_ISA", "PyPI"]),
        ("compare", ["--kirie", "--venv", "--work", "--data", "--rounds", "--runs", "--parts", "PyPI"]),
    ]) func theHelpNamesTheOptionsAndNeedsNothing(script: String, words: [String]) throws {
        let run = try run(script, ["--help"], ["PYTHON": python])
        #expect(run.status == 0, "\(run.complaint)")
        #expect(run.output.hasPrefix("usage: deploy/\(script) "))
        for word in words { #expect(run.output.contains(word)) }
    }

    @Test(arguments: [
        ("parity", ["vit_x"], "vit_x is no geometry; there are nano, wide, mobile, vit_b"),
        ("parity", ["--kirie", "/nowhere/kirie"], "/nowhere/kirie is no program\nName a built kirie"),
        ("parity", ["--reference", "/nowhere.py"], "--reference: /nowhere.py is not there"),
        ("compare", ["--parts", "table,tables"], "takes some of table, quality, growth"),
        ("compare", ["--rounds", "0"], "takes a number from 1 to 1000"),
        ("compare", ["--data", "/nowhere"], "--data: /nowhere is no folder"),
        ("compare", ["--peers", "/nowhere.py"], "--peers: /nowhere.py is not there"),
    ]) func wrongArgumentsAreNamed(script: String, arguments: [String], complaint: String) throws {
        let run = try run(script, arguments, ["PYTHON": python])
        #expect(run.status == 2)
        #expect(run.output.isEmpty)
        #expect(run.complaint.contains(complaint), "\(run.complaint)")
    }

    @Test(arguments: ["parity", "compare"]) func missingPackagesAreNamed(script: String) throws {
        let run = try run(script, [], ["PYTHON": python])
        #expect(run.status == 2)
        #expect(run.output.isEmpty)
        let packages = "torch, torchvision, segment-anything, mobilesam-mirror, timm, onnx, onnxruntime, openvino"
        #expect(run.complaint.hasPrefix("deploy/\(script): $PYTHON ("), "\(run.complaint)")
        #expect(run.complaint.contains("has no \(packages)"), "\(run.complaint)")
        #expect(run.complaint.contains("deploy/published/requirements.txt"), "\(run.complaint)")
    }

    @Test(arguments: ["parity", "compare"]) func aMissingPythonIsNamed(script: String) throws {
        let run = try run(script, [], ["PYTHON": "/nowhere/python3"])
        #expect(run.status == 2)
        #expect(run.complaint.contains("/nowhere/python3 is not on the PATH: install Python 3.11"), "\(run.complaint)")
    }

    @Test func aMissingNetworkIsSaid() throws {
        // To pip, an index that it may not ask is as good as no network. A Python without ensurepip does not come so far.
        let run = try run(
            "parity", ["nano", "--venv", directory.file("venv")],
            ["PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "", "PIP_CONFIG_FILE": "/dev/null"])
        #expect(run.status == 2)
        #expect(run.output.isEmpty)
        #expect(
            run.complaint.contains("a network that reaches PyPI")
                || run.complaint.contains("apt-get install python3-venv"), "\(run.complaint)")
    }

    @Test func aFolderOfSomethingElseIsLeftAlone() throws {
        try directory.write("mine".utf8, to: "letter.txt")
        let run = try run("parity", ["--venv", directory.path])
        #expect(run.status == 2)
        #expect(
            run.complaint.contains("\(directory.path) is there and is no virtual environment")
                || run.complaint.contains("apt-get install python3-venv"), "\(run.complaint)")
        #expect(try directory.files == ["letter.txt", "python3"])
    }

    @Test func nothingToRunAndNothingToBuildItWithIsSaid() throws {
        // No kirie is named here: the wrapper drops it. The PATH has what the script itself calls, and no swift.
        for tool in ["dirname", "realpath"] {
            try FileManager.default.createSymbolicLink(
                atPath: directory.file(tool), withDestinationPath: "/usr/bin/\(tool)")
        }
        let script = Self.deploy.appendingPathComponent("parity").path
        let run = try KirieProcess(
            [], environment: ["PATH": directory.path, "PYTHON": "", "KIRIE": ""],
            wrapper: ["/bin/bash", "-c", "exec /bin/bash \"$0\"", script])
        #expect(run.status == 2)
        #expect(run.complaint.contains("no kirie is named, and swift is not on the PATH"), "\(run.complaint)")
        #expect(run.complaint.contains("--kirie PATH"), "\(run.complaint)")
    }

    @Test func tooLittleRoomIsSaid() throws {
        let check = """
            import pathlib, sys
            sys.argv = ["deploy/parity.py"]
            from published import environment
            environment.demand_space(pathlib.Path("/nowhere/at/all"), 1e9, "models", "set $TMPDIR")
            """
        let run = try KirieProcess(
            [], environment: ["PYTHONPATH": Self.deploy.path], wrapper: ["/usr/bin/python3", "-S", "-c", check])
        #expect(run.status == 2)
        #expect(run.complaint.contains("deploy/parity: /nowhere/at/all: models take 1000000000.0 GB, and "))
        #expect(run.complaint.hasSuffix("Make room, or set $TMPDIR.\n"))
    }

    @Test func everyPackageIsPinned() throws {
        let file = Self.deploy.appendingPathComponent("published/requirements.txt")
        let lines = try String(contentsOf: file, encoding: .utf8).split(separator: "\n")
        for line in lines where !line.hasPrefix("#") {
            #expect(line.wholeMatch(of: /[A-Za-z0-9_.-]+==[0-9.]+/) != nil, "\(line)")
        }
    }
}

import Foundation
import Glibc
import Platform
import RedisTesting
import Testing

/// What a program that we start finds open.
@Suite(.serialized) struct InheritanceTests {
    @Test func aChildHasNoDescriptorOfItsParentHoweverHighItsNumber() async throws {
        let held = try HeldDescriptors(count: 1200)
        defer { held.close() }
        let folder = try #require(TemporaryFolder.make("kirie-descriptors"))
        defer { TemporaryFolder.remove(folder) }
        // `ls` lists its own descriptors: the standard ones, and that of the folder that it reads.
        let child = try ChildProcess.start("/bin/ls", ["/proc/self/fd"], .init(output: .file("\(folder)/listing")))
        #expect(await child.waitForExit() == .status(0))
        let listing = try String(contentsOfFile: "\(folder)/listing", encoding: .utf8)
        #expect(listing.split(separator: "\n") == ["0", "1", "2", "3"])
    }

    @Test func theWillHasNoneEither() async throws {
        let held = try HeldDescriptors(count: 1200)
        defer { held.close() }
        let shell = try #require(ProcessWill.startShell())
        defer {
            close(shell.pipeEnd)
            waitpid(shell.identifier, nil, 0)
        }
        // While it starts it opens its libraries; what it inherited it has for ever.
        try await eventually("the shell has the standard ones alone") {
            let open = try FileManager.default.contentsOfDirectory(atPath: "/proc/\(shell.identifier)/fd")
            let name = try String(contentsOfFile: "/proc/\(shell.identifier)/comm", encoding: .utf8)
            return name == "sh\n" && open.compactMap { Int($0) }.sorted() == [0, 1, 2]
        }
    }

    @Test func aPipeIsOurs() throws {
        let ends = try #require(Descriptors.pipe(isNonblocking: true))
        for end in [ends.read, ends.write] {
            #expect(fcntl(end, F_GETFD) & FD_CLOEXEC != 0)
            #expect(fcntl(end, F_GETFL) & O_NONBLOCK != 0)
            close(end)
        }
    }
}

/// Descriptors that a program would inherit, more than 1024 of them.
private struct HeldDescriptors {
    private let descriptors: [Int32]

    init(count: Int) throws {
        var limit = rlimit()
        getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
        // Other tests run beside this one and open files too.
        let wanted = min(limit.rlim_max, rlim_t(count + 4096))
        if limit.rlim_cur < wanted {
            limit.rlim_cur = wanted
            setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
        }
        descriptors = (0..<count).map { _ in open("/dev/null", O_RDONLY) }
        try #require(descriptors.allSatisfy { $0 >= 0 } && descriptors.contains { $0 > 1023 })
    }

    func close() { for descriptor in descriptors { Glibc.close(descriptor) } }
}

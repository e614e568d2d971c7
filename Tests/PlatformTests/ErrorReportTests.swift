import Glibc
import Platform
import Testing

@Suite struct ErrorReportTests {
    private struct Unnamed: Error {}

    @Test func theTextIsPlaceReasonAndRemedy() {
        let report = ErrorReport(.input, "truncated", at: "photo.png", "the file ends", remedy: "copy it again")
        #expect(report.text == "photo.png: the file ends: copy it again")
        #expect(ErrorReport(.ours, "x", "nothing is there").text == "nothing is there")
    }

    @Test func theStatusOfACommandFollowsFromTheClass() {
        let statuses = ErrorClass.allCases.map { ($0, $0.exitStatus) }
        for (errorClass, status) in statuses {
            switch errorClass {
            case .usage: #expect(status == 2)
            case .comeBackLater: #expect(status == 75)
            case .input, .notFound, .ours: #expect(status == 1)
            }
        }
    }

    @Test func aFileThatIsNotThereIsNotFoundAndAnOutputThatCannotBeWrittenIsNoInput() {
        let missing = FileFault(path: "a.png", reason: .system(ENOENT)).report
        #expect(missing.errorClass == .notFound && missing.code == "file-not-found" && missing.place == "a.png")
        #expect(FileFault(path: "a", reason: .directory).report.errorClass == .input)
        #expect(FileFault(path: "a", reason: .system(ENOSPC), work: .writing).report.errorClass == .ours)
    }

    @Test func anErrorWithoutAReportIsAFaultOfOurs() {
        let report = ErrorReport(of: Unnamed())
        #expect(report.errorClass == .ours && report.code == "unexpected" && report.cause is Unnamed)
        #expect(ErrorReport(of: FileFault(path: "a", reason: .directory)).code == "unreadable-file")
    }
}

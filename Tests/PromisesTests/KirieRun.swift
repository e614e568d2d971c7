import Foundation
import Platform
import Segmentation

/// What a run of `kirie` left behind.
struct KirieRun {
    /// A JSON line of `submit`, `wait`, `cancel` or `dead`.
    struct Line: Decodable {
        var id: String?
        var state: String?
        var error: String?
        var field: String?
        var line: Int?
        var known: Bool?
        var retry_after_ms: Int?
        var masks: [Answer.Cutout]?
    }

    let exit: ChildProcess.Exit
    /// The JSON lines, in order; one that was cut off by a kill is left out.
    let lines: [Line]
    /// Everything else that it printed.
    let complaint: String
    /// The JSON lines as they are.
    let json: String

    init(exit: ChildProcess.Exit, file: String) throws {
        self.exit = exit
        let text = try String(contentsOfFile: file, encoding: .utf8)
        let all = text.split(separator: "\n")
        let decoder = JSONDecoder()
        lines = all.filter { $0.hasPrefix("{") }.compactMap { try? decoder.decode(Line.self, from: Data($0.utf8)) }
        json = all.filter { $0.hasPrefix("{") }.joined(separator: "\n")
        complaint = all.filter { !$0.hasPrefix("{") }.joined(separator: "\n")
    }

    /// The lines that name a job.
    var byIdentifier: [String: [Line]] {
        Dictionary(grouping: lines.filter { $0.id != nil }) { $0.id ?? "" }
    }
}

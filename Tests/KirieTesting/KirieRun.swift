import Foundation
package import Platform
package import Segmentation

/// What a run of `kirie` left behind.
package struct KirieRun {
    /// A JSON line of `submit`, `wait`, `cancel` or `dead`.
    package struct Line: Decodable {
        package var id: String?
        package var state: String?
        package var error: String?
        package var field: String?
        package var line: Int?
        package var known: Bool?
        package var retry_after_ms: Int?
        package var masks: [Answer.Cutout]?
    }

    package let exit: ChildProcess.Exit
    /// The JSON lines, in order; one that was cut off by a kill is left out.
    package let lines: [Line]
    /// Everything else that it printed.
    package let complaint: String
    /// The JSON lines as they are.
    package let json: String

    package init(exit: ChildProcess.Exit, file: String) throws {
        self.exit = exit
        let text = try String(contentsOfFile: file, encoding: .utf8)
        let all = text.split(separator: "\n")
        let decoder = JSONDecoder()
        lines = all.filter { $0.hasPrefix("{") }.compactMap { try? decoder.decode(Line.self, from: Data($0.utf8)) }
        json = all.filter { $0.hasPrefix("{") }.joined(separator: "\n")
        complaint = all.filter { !$0.hasPrefix("{") }.joined(separator: "\n")
    }

    /// The lines that name a job.
    package var byIdentifier: [String: [Line]] {
        Dictionary(grouping: lines.filter { $0.id != nil }) { $0.id ?? "" }
    }
}

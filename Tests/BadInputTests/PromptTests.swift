import Foundation
import Imaging
import KirieTesting
import Testing

extension BadInputTests {
    /// A prompt's fault is that prompt's: the others are answered.
    ///
    /// The picture has 301 x 227 pixels.
    @Suite struct PromptTests {
        private let photo = KirieProcess.landscape

        private func object(_ run: KirieProcess) throws -> [String: Any] {
            try #require(try JSONSerialization.jsonObject(with: Data(run.output.utf8)) as? [String: Any])
        }

        private func counts(_ answer: [String: Any]) throws -> [Int: String] {
            var counts: [Int: String] = [:]
            for mask in try #require(answer["masks"] as? [[String: Any]]) {
                let segmentation = try #require(mask["segmentation"] as? [String: Any])
                counts[try #require(mask["prompt"] as? Int)] = segmentation["counts"] as? String
            }
            return counts
        }

        @Test func anUnusablePromptIsNamed() throws {
            let directory = try TemporaryDirectory()
            let small = directory.file("small.png")
            try PNGWriter.write(GrayImage(width: 4, height: 4, pixels: [UInt8](repeating: 255, count: 16)), to: small)
            let cases: [([String], [String])] = [
                (["--point", "302,5"], [KirieProcess.landscape, "point 1", "outside the picture of 301 x 227"]),
                (["--point", "5,5", "--point", "5,-1"], ["point 2"]),
                (["--point", "nan,5"], ["point 1", "finite"]), (["--box", "0,0,inf,5"], ["the box", "finite"]),
                (
                    ["--box", "400,0,900,90", "--box", "9,9,5,20"],
                    ["box 1: ", "wholly outside", "box 2: ", "inverted"]
                ),
                (["--box", "50,50,10,90"], ["empty or inverted"]), (["--box", "50,50,50,90"], ["empty or inverted"]),
                (["--box", "400,0,900,90"], ["wholly outside the picture of 301 x 227"]),
                (["--text", "xylotomy"], ["xylotomy", "vocabulary"]), (["--text", " "], ["empty"]),
                (["--text", String(repeating: "dog ", count: 2000)], ["bytes"]),
                (["--text", "\u{30EC}\u{30E2}\u{30F3}"], ["vocabulary"]),
                (["--point", "5,5", "--mask", small], [small, "4 x 4", "301 x 227"]),
                (["--point", "5,5", "--mask", directory.file("none.png")], [directory.file("none.png")]),
            ]
            for (arguments, words) in cases {
                try expectFailure(
                    ["segment", KirieProcess.landscape, "-o", directory.file("mask.png")] + arguments,
                    says: words,
                    in: directory)
            }
        }

        @Test func aBoxAtTheEdgeIsClippedAndSaid() throws {
            let edge = try KirieProcess(["segment", photo, "--box=-0.3,5,301.0001,100", "--json"])
            #expect(edge.status == 0 && edge.complaint.contains("was clipped to the picture: 0,5,301,100"), "\(edge)")
            let inside = try KirieProcess(["segment", photo, "--box", "0,5,301,100", "--json"])
            let answer = try object(edge)
            #expect(try counts(answer) == counts(try object(inside)))
            let notes = try #require(answer["notes"] as? [[String: Any]])
            #expect(notes.count == 1 && notes[0]["prompt"] as? Int == 0 && notes[0]["note"] is String)
            #expect(try object(inside)["notes"] == nil && answer["errors"] == nil)
            let point = try KirieProcess(["segment", photo, "--point", "-0.5,227.4", "--json"])
            #expect(point.status == 0 && point.complaint.contains("point 1 at (-0.5, 227.4) was moved"), "\(point)")
        }

        @Test func oneWrongBoxLeavesTheOthers() throws {
            let directory = try TemporaryDirectory()
            let boxes = [
                "--box", "20,15,255,160", "--box", "400,2,900,60", "--box", "9,9,2,2", "--box", "2,2,60,227.4",
            ]
            let run = try KirieProcess(["segment", photo, "--json", "-o", directory.file("m.png")] + boxes)
            #expect(run.status == 1, "what is missing is a failure")
            let answer = try object(run)
            let good = try KirieProcess(["segment", photo, "--json", "--box", "20,15,255,160", "--box", "2,2,60,227"])
            let (mixed, alone) = (try counts(answer), try counts(try object(good)))
            #expect(mixed == [0: alone[0], 3: alone[1]].compactMapValues(\.self))
            let errors = try #require(answer["errors"] as? [[String: Any]])
            #expect(errors.map { $0["prompt"] as? Int } == [1, 2])
            #expect((errors[0]["error"] as? String)?.contains("wholly outside") == true)
            #expect(run.complaint.contains("box 2: ") && run.complaint.contains("box 3: "))
            #expect(try directory.files == ["m-1.png", "m-4.png"], "files keep the numbers of their prompts")

            let embedding = directory.file("e.kemb")
            #expect(try KirieProcess(["encode", photo, "-o", embedding]).status == 0)
            let logits = directory.file("l.safetensors")
            let decoded = try KirieProcess(["decode", embedding, "--json", "--logits", logits] + boxes)
            #expect(decoded.status == 1 && FileManager.default.fileExists(atPath: logits), "\(decoded)")
            #expect(try counts(try object(decoded)).keys.sorted() == [0, 3])
        }

        @Test func numbersAreDecimal() throws {
            let expected = try KirieProcess(["segment", photo, "--point", "92,56", "--json"])
            for spelling in ["92, 56", " 92 ,56 ", "+92.,5.6e1", "92,56, 1"] {
                let run = try KirieProcess(["segment", photo, "--point", spelling, "--json"])
                #expect(try run.status == 0 && counts(object(run)) == counts(object(expected)), "\(spelling)")
            }
            let box = try KirieProcess(["segment", photo, "--box", "20, 15, 255, 160", "--json"])
            #expect(box.status == 0, "\(box)")
            for wrong in ["0x10,5", "1_0,5", "5", "5,5,5,5", "5,,5", "5 5", "5,5,0x1", "5,5,1.5", "٣,5", "1e,5"] {
                let run = try KirieProcess(["segment", photo, "--point", wrong])
                #expect(run.status == 2 && run.complaint.contains("Usage:"), "\(wrong): \(run)")
            }
            for arguments in [
                ["wait", "a", "--timeout", "0x1"], ["queues", "--watch", "--interval", "0x1"],
                ["submit", "--jobs", "x", "--ttl", "0x5"], ["segment", photo, "--box", "0x1,2,30,40"],
            ] { #expect(try KirieProcess(arguments).status == 2, "\(arguments)") }
        }

        @Test func labelsAreThoseOfSAM() throws {
            func masks(_ arguments: [String]) throws -> [Int: String] {
                let run = try KirieProcess(["segment", photo, "--json"] + arguments)
                #expect(run.status == 0, "\(arguments): \(run)")
                return try counts(try object(run))
            }
            let box = try masks(["--box", "20,15,255,160", "--point", "60,70,0"])
            #expect(try masks(["--point", "20,15,2", "--point", "60,70,0", "--point", "255,160,3"]) == box)
            #expect(
                try masks(["--point", "20,15,2", "--point", "0,0,-1", "--point", "60,70,0", "--point", "255,160,3"])
                    == box)
            for (arguments, words) in [
                (["--point", "20,15,2"], "no 3"), (["--point", "20,15,3"], "no 2"),
                (["--point", "20,15,2", "--point", "30,30,3", "--box", "1,1,9,9"], "beside a box"),
                (["--point", "20,15,4"], "1 (the object)"), (["--point", "20,15,-1"], "padding"),
            ] {
                let run = try KirieProcess(["segment", photo] + arguments)
                #expect(run.status == 2 && run.complaint.contains(words), "\(arguments): \(run)")
            }
        }
    }
}

import Foundation
import Imaging
import KirieTesting
import Testing

/// How pictures and masks are read, as a user meets it.
@Suite struct PictureTests {
    /// A grey PNG of 16 bits with a disc of 12-bit data in it, without libpng.
    private func dark(_ directory: TemporaryDirectory) throws -> String {
        let (width, height) = (60, 40)
        var rows: [UInt8] = []
        for y in 0..<height {
            rows.append(0)
            for x in 0..<width {
                let isInside = (x - 30) * (x - 30) + (y - 20) * (y - 20) < 150
                let sample = isInside ? 4000 : 300 + 5 * x
                rows += [UInt8(sample >> 8), UInt8(sample & 0xFF)]
            }
        }
        func bigEndian(_ value: UInt32) -> [UInt8] { (0..<4).map { UInt8(truncatingIfNeeded: value >> (24 - 8 * $0)) } }
        func chunk(_ type: String, _ data: [UInt8]) -> [UInt8] {
            let body = Array(type.utf8) + data
            let crc = ~body.reduce(~0 as UInt32) { value, byte in
                (0..<8).reduce(value ^ UInt32(byte)) { value, _ in
                    value & 1 == 1 ? 0xEDB8_8320 ^ (value >> 1) : value >> 1
                }
            }
            return bigEndian(UInt32(data.count)) + body + bigEndian(crc)
        }
        let (size, adler) = (
            UInt16(rows.count),
            rows.reduce((1, 0)) { (($0.0 + UInt32($1)) % 65521, ($0.0 + UInt32($1) + $0.1) % 65521) }
        )
        let stream: [UInt8] =
            [0x78, 1, 1, UInt8(size & 0xFF), UInt8(size >> 8), UInt8(~size & 0xFF), UInt8(~size >> 8)] + rows
            + bigEndian(adler.1 << 16 | adler.0)
        let file: [UInt8] =
            [0x89, 0x50, 0x4E, 0x47, 0x0D, 0x0A, 0x1A, 0x0A]
            + chunk("IHDR", bigEndian(60) + bigEndian(40) + [16, 0, 0, 0, 0]) + chunk("IDAT", stream)
            + chunk("IEND", [])
        return try directory.write(file, to: "dark.png")
    }

    @Test func dataOf12BitsIsSeenAndSaid() throws {
        let directory = try TemporaryDirectory()
        let picture = try dark(directory)
        func masks(_ levels: [String]) throws -> (String, KirieProcess) {
            let run = try KirieProcess(["segment", picture, "--point", "30,20", "--json"] + levels)
            try #require(run.status == 0, "\(run.complaint)")
            let start = try #require(run.output.range(of: "\"masks\""))
            let end = try #require(run.output.range(of: "\"model\""))
            return (String(run.output[start.lowerBound..<end.lowerBound]), run)
        }
        let (seen, automatic) = try masks([])
        #expect(automatic.complaint.contains("\(picture): ") && automatic.complaint.contains("--levels 0,4095"))
        #expect(automatic.output.contains("\"notes\":["))
        let (asked, quiet) = try masks(["--levels", "0,4095"])
        #expect(quiet.complaint.isEmpty && !quiet.output.contains("\"notes\""))
        // The window rounds, the bits are cut: at most a level apart, and far from black.
        let (black, _) = try masks(["--levels", "full"])
        #expect(seen != black && asked != black)
        for levels in ["9", "5,5", "0,70000", "bright"] {
            #expect(try KirieProcess(["segment", picture, "--point", "3,2", "--levels", levels]).status == 2)
        }
    }

    @Test func theLimitThatAnErrorNamesIsAnOption() throws {
        let arguments = ["segment", KirieProcess.landscape, "--point", "150,110"]
        let refused = try KirieProcess(arguments + ["--max-pixels", "68326"])
        #expect(refused.status == 1 && refused.complaint.contains("--max-pixels"))
        #expect(try KirieProcess(arguments + ["--max-pixels", "68327"]).status == 0)
        let variable = ["KIRIE_MAX_PIXELS": "1000"]
        #expect(try KirieProcess(arguments, environment: variable).status == 1)
        #expect(try KirieProcess(arguments + ["--max-pixels", "68327"], environment: variable).status == 0)
        #expect(try KirieProcess(arguments + ["--max-pixels", "0"]).status == 2)
        #expect(try KirieProcess(arguments + ["--max-pixels", "2000000001"]).status == 2)
        let senseless = try KirieProcess(arguments, environment: ["KIRIE_MAX_PIXELS": "many"])
        #expect(senseless.status == 2 && senseless.complaint.contains("KIRIE_MAX_PIXELS"))
    }

    @Test func anyTwoValuesAreAMask() throws {
        let directory = try TemporaryDirectory()
        func mask(_ name: String, _ inside: UInt8) throws -> String {
            let pixels = (0..<(301 * 227)).map { index in
                (100..<200).contains(index % 301) && (80..<150).contains(index / 301) ? inside : 0
            }
            let path = directory.file(name)
            try PNGWriter.write(GrayImage(width: 301, height: 227, pixels: pixels), to: path)
            return path
        }
        func answer(_ mask: String) throws -> KirieProcess {
            try KirieProcess(["segment", KirieProcess.landscape, "--point", "150,110", "--mask", mask])
        }
        let usual = try answer(mask("255.png", 255))
        #expect(usual.status == 0 && usual.complaint.isEmpty)
        for inside in [1, 7, 128] as [UInt8] {
            let other = try answer(mask("\(inside).png", inside))
            #expect(other.output == usual.output && other.complaint.isEmpty, "0 and \(inside)")
        }
        let path = try mask("empty.png", 0)
        let empty = try answer(path)
        #expect(empty.status == 0 && empty.output != usual.output)
        #expect(empty.complaint.contains("\(path): the mask is empty"))
    }

    @Test func fileNamesNeedNotBeUTF8() throws {
        let directory = try TemporaryDirectory()
        // caf\xe9.jpg and its mask, made and named by the shell: Foundation cannot.
        let script = """
            cd "$1" && cp "$2" "$(printf 'caf\\351.jpg')" && shift 2 &&
            "$0" segment "$(printf 'caf\\351.jpg')" --point 150,110 -o "$(printf 'mask\\351.png')" &&
            test -s "$(printf 'mask\\351.png')" && ! "$0" encode "$(printf 'none\\351.png')" -o out.kemb &&
            test "$(ls | wc -l)" = 2 && rm -f ./*
            """
        let run = try KirieProcess(
            [directory.path, KirieProcess.landscape],
            wrapper: ["/bin/sh", "-c", script])
        #expect(run.status == 0, "\(run.complaint)")
    }
}

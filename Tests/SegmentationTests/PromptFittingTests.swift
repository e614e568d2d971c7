import Segmentation
import Testing

/// Prompts at the edge of a picture of 256 x 192, and SAM's own labels.
@Suite struct PromptFittingTests {
    private func fit(_ prompt: Prompt) throws(PromptError) -> (prompt: Prompt, notes: [String]) {
        try prompt.fitted(width: 256, height: 192, maskSide: 4)
    }

    private func box(_ x0: Double, _ y0: Double, _ x1: Double, _ y1: Double) -> Prompt {
        Prompt(box: BoundingBox(x0: x0, y0: y0, x1: x1, y1: y1))
    }

    @Test func boxesAreClippedWithANote() throws {
        let cases: [(given: Prompt, fitted: Prompt)] = [
            (box(-0.3, 5, 100, 100), box(0, 5, 100, 100)), (box(200, 115, 256.0001, 160), box(200, 115, 256, 160)),
            (box(2, 2, 60, 192.4), box(2, 2, 60, 192)), (box(-1e6, -1e6, 1e6, 1e6), box(0, 0, 256, 192)),
            (box(255.9, 0, 300, 1), box(255.9, 0, 256, 1)),
        ]
        for (given, expected) in cases {
            let (fitted, notes) = try fit(given)
            #expect(fitted == expected)
            #expect(notes.count == 1 && notes[0].contains("clipped"))
            // Whoever validates instead of fitting is told the corner.
            #expect(throws: PromptError.self) { try given.validate(width: 256, height: 192, maskSide: 4) }
            try fitted.validate(width: 256, height: 192, maskSide: 4)
        }
        let (same, none) = try fit(box(0, 0, 256, 192))
        #expect(same == box(0, 0, 256, 192) && none.isEmpty)
    }

    @Test func pointsAFractionOutsideAreMovedToTheEdge() throws {
        let (fitted, notes) = try fit(
            Prompt(points: [LabeledPoint(x: -0.5, y: 5), LabeledPoint(x: 3, y: 192.99), LabeledPoint(x: 9, y: 9)]))
        #expect(fitted.points.map(\.x) == [0, 3, 9] && fitted.points.map(\.y) == [5, 192, 9])
        #expect(notes.count == 2 && notes[0].hasPrefix("point 1") && notes[1].hasPrefix("point 2"))
        for (x, y) in [(-1.0, 5.0), (257, 5), (5, -3), (5, 5000)] {
            let error = #expect(throws: PromptError.self) { try fit(Prompt(points: [LabeledPoint(x: x, y: y)])) }
            #expect(error == .outside(part: "point 1", x: x, y: y, width: 256, height: 192))
        }
    }

    @Test func whatCannotBeMeantIsRefused() {
        for outside in [box(256, 0, 300, 50), box(-50, -50, 0, 0), box(0, 192, 10, 200)] {
            let error = #expect(throws: PromptError.self) { try fit(outside) }
            #expect(error?.description.contains("wholly outside the picture of 256 x 192") == true)
        }
        for inverted in [box(10, 10, 10, 20), box(20, 10, 10, 20)] {
            #expect(throws: PromptError.self) { try fit(inverted) }
        }
        for number in [Double.nan, .infinity, -.infinity] {
            #expect(throws: PromptError.notFinite(part: "the box")) { try fit(box(0, 0, number, 10)) }
            #expect(throws: PromptError.notFinite(part: "point 1")) {
                try fit(Prompt(points: [LabeledPoint(x: 1, y: number)]))
            }
        }
    }

    @Test func onePromptsFaultIsNotTheOthers() {
        let prompts = [box(200, 115, 255, 160), box(300, 2, 400, 60), box(2, 2, 60, 192.4), Prompt(text: "a dog")]
        let fitted = FittedPrompts(prompts, known: [:], width: 256, height: 192, maskSide: 4)
        #expect(fitted.usable.map(\.index) == [0, 2] && fitted.usable[1].prompt == box(2, 2, 60, 192))
        #expect(fitted.faults.map(\.prompt) == [1, 3] && fitted.notes.map(\.prompt) == [2])
        #expect(!fitted.isHopeless)
        let known = FittedPrompts([Prompt(), box(0, 0, 9, 9)], known: [0: "why"], width: 9, height: 9, maskSide: 4)
        #expect(known.faults == [FittedPrompts.Remark(prompt: 0, text: "why")] && known.usable.map(\.index) == [1])
        let bad = FittedPrompts(
            (0..<5).map { _ in box(300, 2, 400, 60) }, width: 256, height: 192, maskSide: 4)
        #expect(bad.isHopeless && bad.summary.hasPrefix("prompts[0]: ") && bad.summary.hasSuffix("; and 2 more"))
        #expect(!FittedPrompts([], width: 9, height: 9, maskSide: 4).isHopeless)
    }

    @Test func labelsAreThoseOfSAM() throws {
        let corners = try Prompt(labelled: [(5, 6, 1), (10, 20, 2), (7, 7, -1), (30, 40, 3), (1, 2, 0)])
        #expect(corners.box == BoundingBox(x0: 10, y0: 20, x1: 30, y1: 40))
        #expect(
            corners.points == [LabeledPoint(x: 5, y: 6), LabeledPoint(x: 1, y: 2, label: .background)],
            "padding is dropped")
        #expect(try Prompt(labelled: [(1, 1, -1)]) == Prompt())
        let bad: [([(x: Double, y: Double, label: Int)], BoundingBox?, String)] = [
            ([(1, 1, 2)], nil, "no 3"), ([(1, 1, 3)], nil, "no 2"),
            ([(1, 1, 2), (2, 2, 2), (3, 3, 3)], nil, "2 corners labelled 2"),
            ([(1, 1, 2), (3, 3, 3)], BoundingBox(x0: 0, y0: 0, x1: 1, y1: 1), "beside a box"),
            ([(1, 1, 4)], nil, "the label 4"), ([(1, 1, -2)], nil, "the label -2"),
        ]
        for (points, box, words) in bad {
            let error = #expect(throws: PromptError.self) { try Prompt(labelled: points, box: box) }
            #expect(error?.description.contains(words) == true, "\(error.map { "\($0)" } ?? "")")
            #expect(error?.description.contains("1 (the object)") == true)
        }
    }
}

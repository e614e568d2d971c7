import JSON
import Platform
import Segmentation
import Testing

/// What everything mode does with runs, against the same done with pixels.
@Suite struct MaskGenerationTests {
    /// A mask of blobs.
    private func mask(_ random: inout SplitMix64, width: Int, height: Int) -> Mask {
        var pixels = [UInt8](repeating: 0, count: width * height)
        for _ in 0..<Int.random(in: 0...6, using: &random) {
            let (x, y) = (Int.random(in: 0..<width, using: &random), Int.random(in: 0..<height, using: &random))
            let (w, h) = (
                Int.random(in: 1...max(1, width / 3), using: &random),
                Int.random(in: 1...max(1, height / 3), using: &random)
            )
            let value = UInt8.random(in: 0...2, using: &random) == 0 ? UInt8(0) : 1
            for row in y..<min(height, y + h) {
                for column in x..<min(width, x + w) { pixels[row * width + column] = value }
            }
        }
        for _ in 0..<width / 3 { pixels[Int.random(in: 0..<pixels.count, using: &random)] ^= 1 }
        return Mask(width: width, height: height, pixels: pixels)
    }

    private func places(_ body: (inout SplitMix64, Int, Int) throws -> Void) rethrows {
        let seed: UInt64 = 20_26
        print("seed \(seed)")
        var random = SplitMix64(seed: seed)
        for _ in 0..<60 {
            try body(&random, Int.random(in: 1...40, using: &random), Int.random(in: 1...140, using: &random))
        }
    }

    @Test func geometryOnRunsIsThatOfPixels() {
        places { random, width, height in
            let (a, b) = (mask(&random, width: width, height: height), mask(&random, width: width, height: height))
            let (runsA, runsB) = (RunLengthEncoding(a), RunLengthEncoding(b))
            let shared = zip(a.pixels, b.pixels).count { $0 == 1 && $1 == 1 }
            #expect(runsA.intersectionArea(runsB) == shared)
            #expect(
                runsA.union(runsB)
                    == RunLengthEncoding(
                        Mask(width: width, height: height, pixels: zip(a.pixels, b.pixels).map { max($0, $1) })))
            let all = a.area + b.area - shared
            #expect(runsA.intersectionOverUnion(runsB) == (all == 0 ? 0 : Double(shared) / Double(all)))
            // In a larger picture and back.
            let (x, y) = (Int.random(in: 0...5, using: &random), Int.random(in: 0...70, using: &random))
            let placed = runsA.placed(x: x, y: y, width: width + 7, height: height + 71)
            #expect(placed.area == a.area && placed.width == width + 7 && placed.height == height + 71)
            #expect(placed.cropped(to: PixelBox(x0: x, y0: y, x1: x + width, y1: y + height)) == runsA)
            var pixels = [UInt8](repeating: 0, count: (width + 7) * (height + 71))
            for row in 0..<height {
                for column in 0..<width {
                    pixels[(row + y) * (width + 7) + column + x] = a.pixels[row * width + column]
                }
            }
            #expect(placed == RunLengthEncoding(Mask(width: width + 7, height: height + 71, pixels: pixels)))
            for _ in 0..<10 {
                let position = Int.random(in: 0..<width * height, using: &random)
                #expect(runsA.contains(position) == (a.pixels[position % height * width + position / height] == 1))
            }
        }
    }

    /// `remove_small_regions`, pixel by pixel.
    private func cleaned(_ mask: Mask, below area: Int, holes: Bool) -> Mask? {
        let (width, height) = (mask.width, mask.height)
        var labels = [Int](repeating: 0, count: width * height)
        var sizes: [Int] = []
        for start in mask.pixels.indices where labels[start] == 0 && (mask.pixels[start] == 1) != holes {
            sizes.append(0)
            var open = [start]
            labels[start] = sizes.count
            while let place = open.popLast() {
                sizes[sizes.count - 1] += 1
                let (row, column) = (place / width, place % width)
                for y in max(0, row - 1)...min(height - 1, row + 1) {
                    for x in max(0, column - 1)...min(width - 1, column + 1) {
                        let other = y * width + x
                        guard labels[other] == 0, (mask.pixels[other] == 1) != holes else { continue }
                        labels[other] = sizes.count
                        open.append(other)
                    }
                }
            }
        }
        guard sizes.contains(where: { $0 < area }) else { return nil }
        let largest = sizes.max() ?? 0
        let isLarge = largest >= area
        return Mask(
            width: width, height: height,
            pixels: labels.enumerated().map { place, label in
                if holes { return mask.pixels[place] == 1 || label > 0 && sizes[label - 1] < area ? 1 : 0 }
                return label > 0 && (isLarge ? sizes[label - 1] >= area : sizes[label - 1] == largest) ? 1 : 0
            })
    }

    @Test func smallRegionsGoAsInThePublishedCode() {
        places { random, width, height in
            let mask = mask(&random, width: width, height: height)
            let runs = RunLengthEncoding(mask)
            let area = Int.random(in: 1...60, using: &random)
            #expect(
                runs.fillingHoles(below: area) == cleaned(mask, below: area, holes: true).map { RunLengthEncoding($0) })
            // Where several small islands are the largest, either stays.
            let islands = runs.removingIslands(below: area)
            let expected = cleaned(mask, below: area, holes: false)
            #expect((islands == nil) == (expected == nil))
            if let islands, let expected, ConnectedRegions(of: runs).areas.contains(where: { $0 >= area }) {
                #expect(islands == RunLengthEncoding(expected))
            } else if let islands {
                #expect(islands.area == ConnectedRegions(of: runs).areas.max())
            }
        }
    }

    @Test func suppressionKeepsTheBetterOfTwo() {
        let boxes: [SIMD4<Float>] = [
            [0, 0, 10, 10], [1, 0, 10, 10], [20, 20, 30, 30], [0, 0, 10, 5], [5, 5, 5, 5], [5, 5, 5, 5],
        ]
        let scores: [Float] = [0.5, 0.9, 0.1, 0.8, 0.3, 0.3]
        // 0 lies on 1 (IoU 0.9); 3 has 0.45 / 0.95 in common with it; empty boxes are on nothing, not on each other either.
        #expect(NonMaximumSuppression.kept(boxes: boxes, scores: scores, threshold: 0.7) == [1, 3, 4, 5, 2])
        #expect(NonMaximumSuppression.kept(boxes: boxes, scores: scores, threshold: 0.4) == [1, 4, 5, 2])
        #expect(NonMaximumSuppression.kept(boxes: [], scores: [], threshold: 0.4).isEmpty)
    }

    /// One object over four tiles, found in parts, is one mask; a part whose rest nobody saw is none.
    @Test func whatSeamsCutIsJoined() throws {
        var parameters = EverythingParameters()
        parameters.tiles = .pixels(200)
        parameters.pointsPerSide = 4
        let (width, height) = (500, 400)
        let plan = try MaskGenerationPlan(width: width, height: height, parameters: parameters, modelSize: 64)
        #expect(plan.isTiled && plan.crops.count > 5)
        func rectangle(_ box: PixelBox) -> RunLengthEncoding {
            RunLengthEncoding(emptyHeight: box.height, width: box.width).fillingHoles(below: .max).map {
                $0.placed(x: box.x0, y: box.y0, width: width, height: height)
            } ?? RunLengthEncoding(emptyHeight: height, width: width)
        }
        let (object, lonely) = (
            PixelBox(x0: 60, y0: 50, x1: 420, y1: 330), PixelBox(x0: 480, y0: 10, x1: 498, y1: 390)
        )
        var candidates: [[MaskCandidate]] = [[]]
        for crop in plan.crops.dropFirst() {
            var found: [MaskCandidate] = []
            for (index, thing) in [object, lonely].enumerated() {
                let part = thing.intersection(crop.box)
                // Of the lonely one only its upper end is found.
                guard part.width > 0, part.height > 0, index == 0 || crop.box.y0 == 0 else { continue }
                found.append(
                    MaskCandidate(
                        rectangle(part).cropped(to: crop.box), predictedIoU: 0.9, stabilityScore: 0.95, point: [1, 1],
                        in: crop.box, width: width, height: height))
            }
            candidates.append(found)
        }
        let masks = plan.selected(candidates)
        #expect(masks.map(\.encoding) == [rectangle(object)])
    }

    /// Every second point, then what is around the best, then the masks of the best; a point is never asked for twice.
    @Test func theFastWayAsksWhereMasksAreFound() throws {
        var parameters = EverythingParameters()
        parameters.pointsPerSide = 8
        parameters.isFast = true
        let plan = try MaskGenerationPlan(width: 80, height: 80, parameters: parameters, modelSize: 64)
        let object = PixelBox(x0: 22, y0: 22, x1: 58, y1: 58)
        func draft(_ point: Int) -> [MaskCandidate] {
            let place = plan.points(of: 0)[point]
            guard object.x0 <= Int(place.x), Int(place.x) < object.x1, object.y0 <= Int(place.y),
                Int(place.y) < object.y1
            else { return [] }
            return [
                MaskCandidate(
                    encoding: RunLengthEncoding(emptyHeight: 80, width: 80),
                    predictedIoU: Float(1 - abs(place.x - 45) / 100 - abs(place.y - 45) / 100), stabilityScore: 1,
                    point: place, crop: plan.crops[0].box, box: SIMD4(22, 22, 57, 57))
            ]
        }
        var answers = MaskGenerationPlan.CropAnswers()
        let first = try #require(plan.nextPoints(of: 0, after: answers))
        #expect(first.wantsDrafts)
        #expect(first.points == [9, 11, 13, 15, 25, 27, 29, 31, 41, 43, 45, 47, 57, 59, 61, 63])
        var asked: [Int] = []
        while let next = plan.nextPoints(of: 0, after: answers), next.wantsDrafts {
            #expect(Set(asked).isDisjoint(with: next.points))
            asked += next.points
            for point in next.points { answers.drafts[point] = draft(point) }
        }
        // The best one is in the middle of the grid; corners are never asked for.
        #expect(asked.contains(36) && !asked.contains(0) && !asked.contains(7))
        let last = try #require(plan.nextPoints(of: 0, after: answers))
        #expect(last.points == [36] && !last.wantsDrafts)
        var kept = answers
        kept.masks[36] = draft(36)
        #expect(plan.nextPoints(of: 0, after: kept) == nil)
        // Where the best turns out to be no mask, the next of its group is made, until one is or none is left.
        var made: [Int] = []
        for _ in 0..<128 {
            guard let next = plan.nextPoints(of: 0, after: answers) else { break }
            if next.wantsDrafts {
                for point in next.points { answers.drafts[point] = draft(point) }
            } else {
                #expect(next.points.count == 1 && Set(made).isDisjoint(with: next.points))
                made += next.points
                for point in next.points { answers.masks[point] = [] }
            }
        }
        #expect(plan.nextPoints(of: 0, after: answers) == nil)
        #expect(made.first == 36 && Set(made) == Set(answers.drafts.filter { !$0.value.isEmpty }.keys))
    }

    /// Where the best of a group are one mask, only around the best is searched; where they are not, around all of them.
    @Test(arguments: [0, 9]) func theFastWaySearchesLessWhereItIsSettled(wandering: Int) throws {
        var parameters = EverythingParameters()
        parameters.pointsPerSide = 8
        parameters.isFast = true
        let plan = try MaskGenerationPlan(width: 80, height: 80, parameters: parameters, modelSize: 64)
        var answers = MaskGenerationPlan.CropAnswers()
        let first = try #require(plan.nextPoints(of: 0, after: answers)).points
        #expect(first.count == 16)
        for (rank, point) in first.enumerated() {
            // All on each other by more than the threshold of the suppression, 0.7.
            let edge = Int32(70 - rank % 2 * wandering)
            answers.drafts[point] = [
                MaskCandidate(
                    encoding: RunLengthEncoding(emptyHeight: 80, width: 80), predictedIoU: 0.99 - Float(rank) / 100,
                    stabilityScore: 1, point: plan.points(of: 0)[point], crop: plan.crops[0].box,
                    box: SIMD4(5, 5, edge, edge))
            ]
        }
        let next = try #require(plan.nextPoints(of: 0, after: answers))
        let best = first.prefix(wandering == 0 ? 1 : 6)
        let around = (0..<64).filter { asked in
            best.contains { abs(asked % 8 - $0 % 8) + abs(asked / 8 - $0 / 8) == 1 }
        }
        #expect(next.points == around)
        #expect(next.wantsDrafts)
    }

    @Test func parametersGoThroughJSON() throws {
        var parameters = EverythingParameters()
        #expect(parameters.json == "{}")
        #expect(try EverythingParameters(.bool(true)) == parameters)
        parameters.pointsPerSide = 12
        parameters.predictedIoUThreshold = 0.7
        parameters.cropLayers = 2
        parameters.cropOverlapRatio = 0.25
        parameters.minimumRegionArea = 7
        parameters.isFast = true
        parameters.labels = ["dog", "a \"big\" bowl", "レモン"]
        #expect(try EverythingParameters(JSONValue(parsing: Array(parameters.json.utf8))) == parameters)
        parameters.cropLayers = 0
        parameters.tiles = .pixels(512)
        parameters.pointsPerSide = nil
        parameters.pointGrids = [[[0.5, 0.5], [0, 1]], [[0.25, 0.75]]]
        #expect(try EverythingParameters(JSONValue(parsing: Array(parameters.json.utf8))) == parameters)
    }

    @Test(arguments: [
        (#"{"points_per_side":10000}"#, "points_per_side"), (#"{"points_per_side":0}"#, "points_per_side"),
        (#"{"points_per_side":"many"}"#, "points_per_side"), (#"{"pred_iou_thresh":1.5}"#, "pred_iou_thresh"),
        (#"{"crop_n_layers":9}"#, "crop_n_layers"), (#"{"crop_overlap_ratio":-1}"#, "crop_overlap_ratio"),
        (#"{"point_grids":[[[0.5,1.5]]]}"#, "point_grids[0][0]"), (#"{"point_grids":[]}"#, "point_grids"),
        (#"{"point_grids":[[]]}"#, "point_grids[0]"), (#"{"points":3}"#, "points"), ("[1]", "everything"),
        (#"{"min_mask_region_area":-1}"#, "min_mask_region_area"), (#"{"tile":5}"#, "tile"),
        (#"{"tile":512,"crop_n_layers":1}"#, "tile"), (#"{"stability_score_offset":-1}"#, "stability_score_offset"),
        (#"{"labels":"dog"}"#, "labels"), (#"{"labels":["dog",3]}"#, "labels"),
        (#"{"labels":["dog"," "]}"#, "labels[1]"),
        (#"{"labels":["dog","cat","dog"]}"#, "labels[2]"), (#"{"labels":["dog"],"like":[[1,2]]}"#, "labels"),
        (#"{"labels":["# + (0...1000).map { "\"\($0)\"" }.joined(separator: ",") + "]}", "labels"),
    ]) func nonsenseIsSaid(json: String, parameter: String) throws {
        #expect {
            _ = try EverythingParameters(JSONValue(parsing: Array(json.utf8)))
        } throws: {
            ($0 as? EverythingFault)?.parameter == parameter
        }
    }

    /// For a vocabulary more is looked for, unless the thresholds are said.
    @Test func labelsChangeWhatIsLookedFor() throws {
        var parameters = EverythingParameters()
        parameters.labels = ["dog"]
        #expect(parameters.searched == .forTexts)
        parameters.predictedIoUThreshold = 0.9
        parameters.stabilityScoreThreshold = 0.8
        parameters.boxNMSThreshold = 0.6
        parameters.pointsPerSide = 7
        var expected = parameters
        expected.labels = []
        #expect(parameters.searched == expected)
        expected.like = [.point(x: 1, y: 2)]
        expected.boxNMSThreshold = 0.7
        #expect(expected.searched.like.isEmpty && expected.searched.boxNMSThreshold == 0.7)
    }

    @Test func aPlanOfMorePointsThanAreTakenIsRefused() throws {
        var parameters = EverythingParameters()
        parameters.cropLayers = 6
        parameters.pointsPerSide = 32
        #expect(throws: EverythingFault.self) {
            _ = try MaskGenerationPlan(width: 4000, height: 3000, parameters: parameters, modelSize: 1024)
        }
        parameters.cropPointsDownscaleFactor = 40
        #expect(throws: EverythingFault.self) {
            _ = try MaskGenerationPlan(width: 4000, height: 3000, parameters: parameters, modelSize: 1024)
        }
    }

    @Test func candidatesTravelWithoutALoss() throws {
        var random = SplitMix64(seed: 5)
        let masks = (0..<20).map { number in
            let crop = PixelBox(x0: number % 3, y0: 2, x1: number % 3 + 30, y1: 92)
            return (
                number: number,
                mask: MaskCandidate(
                    RunLengthEncoding(mask(&random, width: 30, height: 90)),
                    predictedIoU: Float.random(in: 0...1, using: &random), stabilityScore: 1 / Float(number + 3),
                    point: [Double(number) / 7, 0.1], in: crop, width: 40, height: 100)
            )
        }
        let read = try #require(CandidateText.read(CandidateText.write(masks), width: 40, height: 100))
        #expect(read.map(\.number) == masks.map(\.number) && read.map(\.mask) == masks.map(\.mask))
        #expect(CandidateText.read(Array("nonsense\n".utf8), width: 4, height: 4) == nil)
        #expect(CandidateText.read([], width: 4, height: 4)?.isEmpty == true)
    }
}

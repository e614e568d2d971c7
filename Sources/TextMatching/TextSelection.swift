public import Segmentation

/// From scores to masks: which candidates a text, or each of several, picks.
///
/// Of candidates that a text fits, one is preferred that a model of masks trusts, and a whole thing over a part of it: of a
/// car and its door, both of which may look like "car", the car. What two texts claim goes to the one that fits better.
///
/// ```swift
/// let scores = matcher.scores([query], of: rows)
/// let chosen = TextSelection(count: .all).choices(scores, among: masks, predictedIoU: ious)
/// ```
public struct TextSelection: Sendable, Hashable {
    /// How many candidates a text may pick.
    public enum Count: Sendable, Hashable {
        /// The best one.
        case best
        /// The best ones that do not overlap, at most so many.
        case top(Int)
        /// Every instance.
        case all

        fileprivate var limit: Int {
            switch self {
            case .best: 1
            case .top(let count): max(0, count)
            case .all: .max
            }
        }
    }

    /// How many candidates each text may pick.
    public var count: Count
    /// What a candidate's score must reach, 0 to 1.
    public var minimumScore: Float
    /// What it must reach of the score of the best candidate for the same text, 0 to 1.
    public var relativeScore: Float
    /// The intersection over union with a better candidate from which on one is left out.
    public var overlap: Double
    /// The part of one of two candidates that lies on the other from which on they are a part and a whole.
    public var containment: Double
    /// The part of the part's own rank that a whole must reach to stand for it.
    public var wholeRank: Float

    /// A way of choosing; the defaults are those that `kirie` has.
    ///
    /// - Parameters:
    ///   - count: how many candidates each text may pick.
    ///   - minimumScore: what a candidate's score must reach.
    ///   - relativeScore: what it must reach of the best one's.
    ///   - overlap: of masks, from which on the worse one is left out.
    public init(
        count: Count = .best, minimumScore: Float = 0.3, relativeScore: Float = 0.5, overlap: Double = 0.5
    ) {
        self.count = count
        self.minimumScore = minimumScore
        self.relativeScore = relativeScore
        self.overlap = overlap
        containment = 0.85
        wholeRank = 0.7
    }

    /// A candidate that a text picked.
    public struct Choice: Sendable, Hashable {
        /// The candidate.
        public let candidate: Int
        /// The text.
        public let text: Int
        /// How well the text fits, as the matcher says.
        public let score: Float
        /// What the choice went by: the score, weighed with the mask's own quality.
        public let rank: Float
    }

    /// Chooses for one or several texts.
    ///
    /// A candidate goes to the text with the highest score of it; with one text, to that.
    ///
    /// - Parameters:
    ///   - scores: by text, a score for each candidate.
    ///   - masks: the candidates, all of one picture.
    ///   - predictedIoU: what the model of masks says of each; what is above 1 counts as 1.
    /// - Returns: what was chosen, the highest rank first; of equal ranks the lower candidate.
    public func choices(
        _ scores: [[Float]], among masks: [RunLengthEncoding], predictedIoU: [Float]
    ) -> [Choice] {
        precondition(
            predictedIoU.count == masks.count && scores.allSatisfy { $0.count == masks.count },
            "scores of other candidates")
        var ranked: [Choice] = []
        let best = scores.map { $0.max() ?? 0 }
        for candidate in masks.indices {
            guard let text = scores.indices.max(by: { (scores[$0][candidate], $1) < (scores[$1][candidate], $0) })
            else {
                continue
            }
            let score = scores[text][candidate]
            guard score >= minimumScore, score >= relativeScore * best[text], score > 0 else { continue }
            let rank = score * max(0, min(1, predictedIoU[candidate]))
            ranked.append(Choice(candidate: candidate, text: text, score: score, rank: rank))
        }
        ranked.sort { ($1.rank, $0.candidate) < ($0.rank, $1.candidate) }
        return suppressed(ranked, among: Overlaps(masks))
    }

    /// Takes the ranked one after the other, each as the whole of which it is a part, without what overlaps those taken.
    private func suppressed(_ ranked: [Choice], among overlaps: Overlaps) -> [Choice] {
        var (chosen, taken) = ([Choice](), [Int: Int]())
        for first in ranked {
            guard taken[first.text, default: 0] < count.limit else { continue }
            let choice = whole(of: first, among: ranked, overlaps)
            let isFree = chosen.allSatisfy { other in
                let area = overlaps.intersection(choice.candidate, other.candidate)
                return overlaps.union(choice.candidate, other.candidate, intersection: area) * overlap > Double(area)
                    && (choice.text != other.text
                        || Double(area) < containment * Double(overlaps.smaller(choice.candidate, other.candidate)))
            }
            if isFree {
                chosen.append(choice)
                taken[choice.text, default: 0] += 1
            }
        }
        return chosen
    }

    /// The largest candidate that a choice is a part of and that ranks nearly as high, or itself.
    private func whole(of part: Choice, among ranked: [Choice], _ overlaps: Overlaps) -> Choice {
        var found = part
        for other in ranked where other.text == part.text && other.rank >= wholeRank * part.rank {
            guard overlaps.areas[other.candidate] > overlaps.areas[found.candidate] else { continue }
            let area = overlaps.intersection(part.candidate, other.candidate)
            if Double(area) >= containment * Double(overlaps.areas[part.candidate]) { found = other }
        }
        return found
    }

    /// The areas that masks share.
    private struct Overlaps {
        let masks: [RunLengthEncoding]
        let areas: [Int]

        init(_ masks: [RunLengthEncoding]) {
            self.masks = masks
            areas = masks.map(\.area)
        }

        func intersection(_ first: Int, _ second: Int) -> Int { masks[first].intersectionArea(masks[second]) }
        func union(_ first: Int, _ second: Int, intersection: Int) -> Double {
            Double(areas[first] + areas[second] - intersection)
        }
        func smaller(_ first: Int, _ second: Int) -> Int { min(areas[first], areas[second]) }
    }
}

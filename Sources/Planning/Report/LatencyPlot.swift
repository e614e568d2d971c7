import Glibc

/// A picture of waits against load, as SVG: p50, p95 and p99 of a lane, the targets, the planned load, and where the
/// cluster falls behind.
package struct LatencyPlot: Sendable {
    private let plan: Plan
    private let points: [Forecast]
    private let planned: Forecast
    private let lanes: [PlanLane]

    /// Parts of the planned load at which it is simulated.
    package static let loads = [0.1, 0.25, 0.4, 0.55, 0.7, 0.8, 0.9, 1, 1.1, 1.2, 1.35, 1.5]

    /// - Parameters:
    ///   - plan: what was asked.
    ///   - planned: the forecast at the planned load.
    ///   - points: forecasts at other loads of the same cluster.
    package init(_ plan: Plan, planned: Forecast, points: [Forecast]) {
        self.plan = plan
        self.planned = planned
        self.points = (points + [planned]).sorted { $0.load < $1.load }
        lanes = PlanLane.allCases.filter { planned.lanes[$0.rawValue] != nil }
    }

    private static let width = 960.0
    private static let panel = 440.0
    private static let left = 86.0
    private static let right = 212.0
    private static let colours = ["#1b7f79", "#c77700", "#b3261e"]

    /// The whole file.
    package var svg: String {
        let height = 62 + Double(lanes.count) * Self.panel + 26
        var out = """
            <svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 \(Int(Self.width)) \(Int(height))" \
            font-family="'DejaVu Sans', 'Noto Sans', Helvetica, Arial, sans-serif" font-size="13" fill="#222">
            <rect width="100%" height="100%" fill="#fff"/>
            <text x="\(Self.left)" y="28" font-size="18" font-weight="600">How long a job waits, against the load</text>
            <text x="\(Self.left)" y="48" fill="#555">\(Self.escaped(subtitle))</text>

            """
        for (index, lane) in lanes.enumerated() { out += panel(lane, top: 62 + Double(index) * Self.panel) }
        let note =
            "Simulated at \(points.count) loads. From the submit to the answer; shaded: the cluster falls behind and "
            + "waits grow without end."
        out += "<text x=\"\(Self.left)\" y=\"\(height - 12)\" font-size=\"11\" fill=\"#777\">\(note)</text>\n</svg>\n"
        return out
    }

    private var subtitle: String {
        let names = plan.models.map(\.name).joined(separator: ", ")
        return "\(planned.counts.text(plan)) · \(names) · busiest hour \(planned.hour):00"
    }

    // MARK: One lane

    private func panel(_ lane: PlanLane, top: Double) -> String {
        let drawn = points.compactMap { point in point.lanes[lane.rawValue].map { (point, $0) } }
        let steady = drawn.filter { !$0.0.isOverloaded }
        let targets = planned.verdicts.map(\.target).filter { $0.lane == lane }
        let values =
            steady.flatMap { [$0.1.p50.value, $0.1.p99.value] } + targets.map(\.milliseconds)
        let (low, high) = Self.decades(values.filter { $0 > 0 })
        let most = (drawn.last?.1.offered ?? 1) * 1.02
        let frame = Frame(
            x0: Self.left, x1: Self.width - Self.right, y0: top + 30, y1: top + Self.panel - 56, most: most, low: low,
            high: high)
        var out = "<text x=\"\(frame.x0)\" y=\"\(top + 18)\" font-weight=\"600\">\(lane.name) lane</text>\n"
        out += axes(frame, lane)
        out += overload(drawn, frame)
        out += marks(targets, frame)
        out += planned(lane, frame)
        for (index, line) in lines(steady).enumerated() {
            let shape = line.map { "\(Self.at(frame.x($0.0))),\(Self.at(frame.y($0.1)))" }.joined(separator: " ")
            let colour = Self.colours[index]
            out +=
                "<polyline points=\"\(shape)\" fill=\"none\" stroke=\"\(colour)\" stroke-width=\"2.2\" "
                + "stroke-linejoin=\"round\"/>\n"
            for (x, y) in line {
                out +=
                    "<circle cx=\"\(Self.at(frame.x(x)))\" cy=\"\(Self.at(frame.y(y)))\" r=\"3\" fill=\"\(colour)\"/>\n"
            }
        }
        return out + legend(lane, targets, frame)
    }

    private func lines(_ steady: [(Forecast, Forecast.Lane)]) -> [[(Double, Double)]] {
        let paths: [KeyPath<Forecast.Lane, Estimate>] = [\.p50, \.p95, \.p99]
        return paths.map { path in steady.map { ($0.1.offered, $0.1[keyPath: path].value) } }
    }

    private func axes(_ frame: Frame, _ lane: PlanLane) -> String {
        var out = ""
        var decade = frame.low
        while decade <= frame.high * 1.001 {
            for (step, isMain) in [(1.0, true), (2.0, false), (5.0, false)] where decade * step <= frame.high * 1.001 {
                let value = decade * step
                let y = Self.at(frame.y(value))
                out +=
                    "<line x1=\"\(frame.x0)\" x2=\"\(frame.x1)\" y1=\"\(y)\" y2=\"\(y)\" "
                    + "stroke=\"\(isMain ? "#cfcfcf" : "#ececec")\"/>\n"
                out +=
                    "<text x=\"\(frame.x0 - 8)\" y=\"\(y)\" dy=\"4\" text-anchor=\"end\" "
                    + "fill=\"\(isMain ? "#333" : "#888")\" font-size=\"\(isMain ? 12 : 10)\">\(Figure.number(value))</text>\n"
            }
            decade *= 10
        }
        let step = Self.roundStep(frame.most / 6)
        var value = 0.0
        while value <= frame.most {
            let x = Self.at(frame.x(value))
            out +=
                "<line x1=\"\(x)\" x2=\"\(x)\" y1=\"\(frame.y1)\" y2=\"\(frame.y1 + 5)\" stroke=\"#555\"/>\n"
                + "<text x=\"\(x)\" y=\"\(frame.y1 + 20)\" text-anchor=\"middle\" font-size=\"12\">"
                + "\(Figure.number(value))</text>\n"
            value += step
        }
        out +=
            "<line x1=\"\(frame.x0)\" x2=\"\(frame.x1)\" y1=\"\(frame.y1)\" y2=\"\(frame.y1)\" stroke=\"#555\"/>\n"
            + "<line x1=\"\(frame.x0)\" x2=\"\(frame.x0)\" y1=\"\(frame.y0)\" y2=\"\(frame.y1)\" stroke=\"#555\"/>\n"
        let middle = (frame.x0 + frame.x1) / 2
        out +=
            "<text x=\"\(middle)\" y=\"\(frame.y1 + 42)\" text-anchor=\"middle\">load of the lane (jobs a second)</text>\n"
        let centre = (frame.y0 + frame.y1) / 2
        out +=
            "<text transform=\"translate(\(frame.x0 - 58) \(centre)) rotate(-90)\" text-anchor=\"middle\">"
            + "wait (ms, logarithmic)</text>\n"
        return out
    }

    private func overload(_ drawn: [(Forecast, Forecast.Lane)], _ frame: Frame) -> String {
        guard let first = drawn.firstIndex(where: { $0.0.isOverloaded }) else { return "" }
        let before = first > 0 ? drawn[first - 1].1.offered : 0
        let x = frame.x((before + drawn[first].1.offered) / 2)
        return
            "<rect x=\"\(Self.at(x))\" y=\"\(frame.y0)\" width=\"\(Self.at(frame.x1 - x))\" "
            + "height=\"\(frame.y1 - frame.y0)\" fill=\"#b3261e\" fill-opacity=\"0.09\"/>\n"
            + "<text x=\"\(Self.at((x + frame.x1) / 2))\" y=\"\(frame.y0 + 18)\" text-anchor=\"middle\" fill=\"#b3261e\" "
            + "font-size=\"12\">falls behind</text>\n"
    }

    private func marks(_ targets: [Plan.Target], _ frame: Frame) -> String {
        targets.map { target in
            let y = Self.at(frame.y(target.milliseconds))
            return
                "<line x1=\"\(frame.x0)\" x2=\"\(frame.x1)\" y1=\"\(y)\" y2=\"\(y)\" stroke=\"\(colour(target))\" "
                + "stroke-width=\"1.5\" stroke-dasharray=\"7 5\"/>\n"
        }.joined()
    }

    private func colour(_ target: Plan.Target) -> String {
        Self.colours[target.percentile <= 75 ? 0 : target.percentile < 98 ? 1 : 2]
    }

    private func planned(_ lane: PlanLane, _ frame: Frame) -> String {
        guard let offered = planned.lanes[lane.rawValue]?.offered else { return "" }
        let x = Self.at(frame.x(offered))
        return
            "<line x1=\"\(x)\" x2=\"\(x)\" y1=\"\(frame.y0)\" y2=\"\(frame.y1)\" stroke=\"#444\" stroke-width=\"1.2\" "
            + "stroke-dasharray=\"2 4\"/>\n"
            + "<text x=\"\(x)\" y=\"\(frame.y0 - 6)\" text-anchor=\"middle\" font-size=\"12\" fill=\"#444\">planned: "
            + "\(Figure.number(offered)) a second</text>\n"
    }

    private func legend(_ lane: PlanLane, _ targets: [Plan.Target], _ frame: Frame) -> String {
        let x = frame.x1 + 18
        var y = frame.y0 + 12
        var out = ""
        for (name, colour) in zip(["p99", "p95", "p50"], Self.colours.reversed()) {
            let at =
                planned.lanes[lane.rawValue].map { seen in
                    Figure.milliseconds((name == "p99" ? seen.p99 : name == "p95" ? seen.p95 : seen.p50).value)
                } ?? ""
            out +=
                "<line x1=\"\(x)\" x2=\"\(x + 26)\" y1=\"\(y)\" y2=\"\(y)\" stroke=\"\(colour)\" stroke-width=\"2.2\"/>\n"
                + "<circle cx=\"\(x + 13)\" cy=\"\(y)\" r=\"3\" fill=\"\(colour)\"/>\n"
                + "<text x=\"\(x + 34)\" y=\"\(y)\" dy=\"4\">\(name)"
                + "<tspan dx=\"8\" fill=\"#777\" font-size=\"11\">\(planned.isOverloaded ? "" : "planned: \(at)")</tspan></text>\n"
            y += 24
        }
        for target in targets {
            out +=
                "<line x1=\"\(x)\" x2=\"\(x + 26)\" y1=\"\(y)\" y2=\"\(y)\" stroke=\"\(colour(target))\" "
                + "stroke-width=\"1.5\" stroke-dasharray=\"7 5\"/>\n"
                + "<text x=\"\(x + 34)\" y=\"\(y)\" dy=\"4\">target: p\(PlanFields.shown(target.percentile)) ≤ "
                + "\(Figure.milliseconds(target.milliseconds))</text>\n"
            if target.jobs != .all {
                y += 16
                out +=
                    "<text x=\"\(x + 34)\" y=\"\(y)\" dy=\"4\" fill=\"#777\" font-size=\"11\">of \(target.jobs.rawValue) "
                    + "pictures</text>\n"
            }
            y += 24
        }
        return out
    }

    // MARK: Scales

    private struct Frame {
        let x0: Double, x1: Double, y0: Double, y1: Double
        let most: Double, low: Double, high: Double

        func x(_ value: Double) -> Double { x0 + (x1 - x0) * min(1, value / max(1e-12, most)) }

        func y(_ value: Double) -> Double {
            let part = (log10(max(value, low)) - log10(low)) / max(1e-9, log10(high) - log10(low))
            return y1 - (y1 - y0) * min(1, max(0, part))
        }
    }

    private static func decades(_ values: [Double]) -> (Double, Double) {
        guard let least = values.min(), let most = values.max() else { return (1, 1000) }
        let low = pow(10, log10(least * 0.9).rounded(.down))
        var high = low
        for step in [1.0, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 2e4, 5e4, 1e5, 1e6, 1e7]
        where high < most * 1.15 { high = low * step }
        return (low, max(high, 10 * low))
    }

    private static func roundStep(_ least: Double) -> Double {
        let decade = pow(10, log10(max(1e-9, least)).rounded(.down))
        return decade * ([1.0, 2, 5, 10].first { decade * $0 >= least } ?? 10)
    }

    private static func at(_ value: Double) -> String {
        let tenths = Int((value * 10).rounded())
        return tenths % 10 == 0 ? "\(tenths / 10)" : "\(Double(tenths) / 10)"
    }

    private static func escaped(_ text: String) -> String {
        text.map { character in
            switch character {
            case "&": "&amp;"
            case "<": "&lt;"
            case ">": "&gt;"
            default: String(character)
            }
        }.joined()
    }
}

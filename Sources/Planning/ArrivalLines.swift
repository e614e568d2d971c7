package import JSON

extension Workload {
    /// The arrivals as JSON lines, so that the very same can be put to a real cluster: a line a job, with its time in
    /// milliseconds, its picture by number, and what a picture is that is sent.
    package func lines(_ plan: Plan) -> [JSONValue] {
        arrivals.map { arrival in
            let picture = pictures[Int(arrival.picture)]
            var members: [JSONValue.Member] = [
                ("at_ms", .number((arrival.time * 1000).rounded() / 1000)), ("picture", .integer(Int(arrival.picture))),
                ("partition", .integer(picture.partition)), ("model", .string(plan.models[picture.model].name)),
                ("lane", .string(arrival.lane.name)), ("kind", .string(arrival.kind.name)),
                ("prompts", .integer(arrival.prompts)),
                ("counts", .bool(!arrival.isWarm && arrival.time >= begin && arrival.time < end)),
            ]
            if arrival.isWarm { members.append(("warm", true)) }
            if arrival.sendsPicture {
                members.append(("bytes", .integer(picture.bytes)))
                members.append(("megapixels", .number(picture.megapixels)))
            }
            return .object(members)
        }
    }
}

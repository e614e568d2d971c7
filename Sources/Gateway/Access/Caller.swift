import Cluster
import HTTPTypes

/// What a caller may do.
package enum Scope: String, Sendable, Hashable, CaseIterable {
    /// Look: queues, workers, jobs, results.
    case read
    /// Send pictures and jobs, and cancel them.
    case submit
    /// Bring dead letters back and remove them.
    case operate
}

/// Who asks.
struct Caller: Sendable, Hashable {
    /// The name of its key; empty for somebody without one.
    let name: String
    /// What it may do.
    let scopes: Set<Scope>
    /// Whose jobs and pictures it speaks of.
    var tenant: Tenant = .standard

    /// Under what its own names are kept, which no other key's are.
    var space: String { tenant.isStandard ? name : "\(tenant)\u{0}\(name)" }
    /// Whether it may see what is everybody's: keys of a tenant see that tenant alone.
    var seesAll: Bool { tenant.isStandard }

    /// Somebody of whom nothing is known yet.
    static let anybody = Caller(name: "", scopes: [])
    /// Whoever comes where no keys are asked for: this machine's own people.
    static let local = Caller(name: "", scopes: Set(Scope.allCases))

    /// Goes on where the caller has a scope.
    func require(_ scope: Scope) throws(Problem) {
        guard scopes.contains(scope) else {
            throw Problem(
                .forbidden, "forbidden",
                "the key \(name.isEmpty ? "" : "\(name) ")has not got the scope \(scope.rawValue): ask whoever runs this gateway"
            )
        }
    }
}

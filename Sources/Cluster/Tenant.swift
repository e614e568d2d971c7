import Hashing
import Segmentation

/// One of those who share a cluster: its jobs, its pictures and what is found in them are nobody else's.
///
/// The default tenant is who names none. See `Protocol.md`, "Tenants".
public struct Tenant: Sendable, Hashable, Comparable, CustomStringConvertible {
    /// As people write it.
    public let name: String

    /// Whoever names no tenant.
    public static let standard = Tenant(checked: "default")

    /// The longest name, in characters.
    package static let longest = 64

    /// The tenant of a name; nil where it is none.
    public init?(_ name: some StringProtocol) {
        guard Self.fault(in: String(name)) == nil else { return nil }
        self.init(checked: String(name))
    }

    private init(checked name: String) { self.name = name }

    /// What is wrong with a name; nil for one that is right.
    package static func fault(in name: String) -> String? {
        let rule = "1 to \(longest) of a-z 0-9 . _ - are expected, the first a letter or digit"
        guard let first = name.unicodeScalars.first else { return "it is empty: \(rule)" }
        for (place, scalar) in name.unicodeScalars.enumerated() where !isAllowed(scalar) {
            return "character \(place + 1), \(CharacterName.of(scalar)), is not allowed: \(rule)"
        }
        if "._-".unicodeScalars.contains(first) { return "it begins with \(first): \(rule)" }
        let length = name.unicodeScalars.count
        return length > longest ? "it has \(length) characters: \(rule)" : nil
    }

    /// The name.
    public var description: String { name }

    /// By name.
    public static func < (left: Tenant, right: Tenant) -> Bool { left.name < right.name }

    /// Whether it is the default tenant.
    public var isStandard: Bool { self == .standard }

    /// An id of this tenant's as the functions have it.
    func scoped(_ id: String) -> String {
        // No job of the default tenant's has a tilde in its id: one that is asked for with it is nobody's.
        guard isStandard else { return "\(name)~\(id)" }
        return id.utf8.contains(UInt8(ascii: "~")) ? "~\(id)" : id
    }

    /// Where its quotas are kept.
    func home(among count: Int) -> Partition {
        Partition(of: ImageDigest(bytes: SHA256.hash(name.utf8).bytes), among: count)
    }

    private static func isAllowed(_ scalar: Unicode.Scalar) -> Bool {
        switch scalar {
        case "a"..."z", "0"..."9", ".", "_", "-": true
        default: false
        }
    }
}

/// What a tenant may have, and what its turns weigh.
public struct TenantTerms: Sendable, Hashable {
    /// The weights that there are.
    public static let weights = 1...100
    /// The numbers of jobs that may be allowed.
    public static let jobBounds = 1...1_000_000_000
    /// The numbers of bytes that may be allowed.
    public static let byteBounds = 1...1_000_000_000_000_000
    /// The rates that may be allowed.
    public static let rates = 0.001...1_000_000.0

    /// Its share of the workers beside the others' weights.
    public var weight = 1
    /// Unfinished jobs; nil for any number.
    public var jobs: Int?
    /// Bytes of job lines, of pictures that its jobs need, and of what is kept of its ended jobs; nil for any number.
    public var bytes: Int?
    /// Jobs a second, of which a second's may come at once; nil for any number.
    public var jobsPerSecond: Double?

    /// Terms without quotas.
    public init(weight: Int = 1, jobs: Int? = nil, bytes: Int? = nil, jobsPerSecond: Double? = nil) {
        self.weight = weight
        self.jobs = jobs
        self.bytes = bytes
        self.jobsPerSecond = jobsPerSecond
    }

    /// Reads what `kirie_tenant` keeps.
    init?(_ text: String) {
        let words = text.split(separator: " ")
        guard words.count == 4, let weight = Int(words[0]), let jobs = Int(words[1]), let bytes = Int(words[2]),
            let rate = Double(words[3])
        else { return nil }
        self.init(
            weight: max(1, weight), jobs: jobs > 0 ? jobs : nil, bytes: bytes > 0 ? bytes : nil,
            jobsPerSecond: rate > 0 ? rate : nil)
    }
}

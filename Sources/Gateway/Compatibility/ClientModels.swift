import Clients
import Cluster
import Segmentation
import Synchronization

/// The models that other clients mean by the names that they have for theirs.
///
/// A client that was written for `vit_h` or `hiera_large` asks for it whether it is there or not; where it is not, the
/// cluster's usual model does the same task, and the answer says which one that was.
final class ClientModels: Sendable {
    /// For so long an answer holds.
    private static let validity: Duration = .seconds(1)

    private struct Memory {
        var at: ContinuousClock.Instant
        var models: [ModelNames.Model]
    }

    private let names: ModelNames
    /// Guards what was found a moment ago.
    private let memory = Mutex<Memory?>(nil)

    init(_ names: ModelNames) { self.names = names }

    /// All models that living workers serve, as they were a moment ago.
    func models() async throws -> [ModelNames.Model] {
        let now = ContinuousClock.now
        if let memory = memory.withLock({ $0 }), now - memory.at < Self.validity { return memory.models }
        let models = try await names.models()
        memory.withLock { $0 = Memory(at: now, models: models) }
        return models
    }

    /// The served model that one of these names means; nil for the usual one.
    func name(like wanted: [String?]) async throws -> String? {
        let wanted = wanted.compactMap { $0.map(Self.core) }.filter { !$0.isEmpty }
        if wanted.isEmpty { return nil }
        return try await models().first { wanted.contains(Self.core(of: $0.name)) }?.name
    }

    /// How people call a model.
    func name(of identifier: ModelIdentifier) async throws -> String {
        try await models().first { $0.identifier.family == identifier.family }?.name ?? identifier.text
    }

    /// What tells a name from others: `sam/vit_h`, `sam_vit_h` and `vit-h` are one.
    static func core(of name: String) -> String {
        let word = name.split(separator: "/").last.map(String.init) ?? name
        let letters = word.lowercased().filter { $0.isASCII && ($0.isLetter || $0.isNumber) }
        for prefix in ["sam21", "sam2", "sam3", "sam"] where letters.hasPrefix(prefix) && letters.count > prefix.count {
            return String(letters.dropFirst(prefix.count))
        }
        return letters
    }
}

import Checkpoints
import Foundation
import TextMatching

/// The model of words that is shipped, opened once.
enum ShippedWords {
    static let path = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent().appendingPathComponent("weights/kirie-words.safetensors").path

    static let matcher = Result { try WordsMatcher(checkpoint: Checkpoint(path: path)) }

    static func open() throws -> WordsMatcher { try matcher.get() }
}

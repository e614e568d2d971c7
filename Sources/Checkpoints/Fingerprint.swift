import Dispatch
import Hashing
import Platform
import Synchronization

/// The SHA-256 of what a checkpoint holds, whatever its file format: names, element types, shapes and numbers.
///
/// The same tensors in `.pth` and `.safetensors` have the same fingerprint; views and shared storages count as the
/// tensors that they show. It is the hash of
///
/// ```text
/// "kirie weights 1\n", then for each tensor, in the order of the names' UTF-8 bytes:
/// length of the name (u64) · name · length of the type's name (u64) · type's name (safetensors')
/// · axes (u64) · extents (u64 each) · SHA-256 of the elements in row-major order (32 bytes)
/// ```
///
/// with little-endian numbers. Each tensor has a hash of its own, so that threads can share the work.
public struct Fingerprint: Hashable, Sendable, CustomStringConvertible {
    /// The 32 bytes of the hash.
    public let bytes: [UInt8]

    /// 64 hexadecimal digits.
    public var description: String { Hexadecimal.text(of: bytes) }

    /// Reads 64 hexadecimal digits; nil for anything else.
    public init?(hexadecimal: some StringProtocol) {
        guard let bytes = Hexadecimal.bytes(of: hexadecimal), bytes.count == 32 else { return nil }
        self.bytes = bytes
    }

    init(_ digest: SHA256.Digest) { bytes = digest.bytes }

    /// The fingerprint of these weights in a model of which they do not say everything: `detail` says the rest, and
    /// another text gives another fingerprint.
    package func combined(with detail: String) -> Fingerprint {
        Fingerprint(SHA256.hash(Array("kirie model 1\n".utf8) + bytes + Array(detail.utf8)))
    }
}

extension Checkpoint {
    /// The fingerprint of the content of the file, or of all shards: how a model is cut into files does not count.
    ///
    /// Reads all of it once, in pieces of 1 MiB that leave nothing resident; with a cache, files that did not change
    /// since are not read at all. Cost without it: one SHA-256 of the content, shared by `threads`.
    ///
    /// - Parameters:
    ///   - cache: where fingerprints are kept between runs, or nil to compute it now.
    ///   - threads: how many threads share the work; at least 1.
    /// - Returns: the fingerprint, the same for any number of threads.
    /// - Throws: ``CheckpointError`` where a file cannot be read.
    public func fingerprint(cache: FingerprintCache? = nil, threads: Int = 2) throws(CheckpointError) -> Fingerprint {
        let identities = files.compactMap(\.currentIdentity)
        let isCached = identities.count == files.count
        if isCached, let known = cache?.fingerprint(of: identities) { return known }
        let fingerprint = try computeFingerprint(threads: max(threads, 1))
        if isCached, identities == files.map(\.identity), identities == files.map(\.currentIdentity) {
            cache?.store(fingerprint, of: identities)
        }
        return fingerprint
    }

    /// The SHA-256 of the bytes of the file, or of all shards, in hexadecimal digits.
    package func contentDigest() throws(CheckpointError) -> String {
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 20, alignment: 64)
        defer { buffer.deallocate() }
        var hash = SHA256()
        for file in files {
            for start in stride(from: 0, to: file.bytes.count, by: buffer.count) {
                let piece = UnsafeMutableRawBufferPointer(
                    rebasing: buffer[..<min(buffer.count, file.bytes.count - start)])
                try file.read(at: start, into: piece)
                hash.update(UnsafeRawBufferPointer(piece))
            }
        }
        return Hexadecimal.text(of: hash.finalize().bytes)
    }

    private func computeFingerprint(threads: Int) throws(CheckpointError) -> Fingerprint {
        // The largest first, so that the threads end together.
        let order = tensors.indices.sorted { tensors[$0].byteCount > tensors[$1].byteCount }
        let next = Atomic(0)
        let outcome = Mutex<(digests: [SHA256.Digest?], failure: CheckpointError?)>(
            (Array(repeating: nil, count: tensors.count), nil))
        DispatchQueue.concurrentPerform(iterations: min(threads, max(tensors.count, 1))) { _ in
            let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 20, alignment: 64)
            defer { buffer.deallocate() }
            while true {
                let turn = next.add(1, ordering: .relaxed).oldValue
                guard turn < order.count else { return }
                do throws(CheckpointError) {
                    let digest = try tensors[order[turn]].digest(through: buffer)
                    outcome.withLock { $0.digests[order[turn]] = digest }
                } catch {
                    outcome.withLock { $0.failure = error }
                    return
                }
            }
        }
        let (digests, failure) = outcome.withLock { $0 }
        if let failure { throw failure }

        var hash = SHA256()
        // Handed in, not captured: what is captured cannot be consumed at the end.
        func update(_ hash: inout SHA256, _ number: Int) {
            withUnsafeBytes(of: UInt64(number).littleEndian) { hash.update($0) }
        }
        func update(_ hash: inout SHA256, _ text: String) {
            update(&hash, text.utf8.count)
            hash.update(text.utf8)
        }
        hash.update("kirie weights 1\n".utf8)
        let byName = tensors.indices.sorted {
            tensors[$0].name.utf8.lexicographicallyPrecedes(tensors[$1].name.utf8)
        }
        for index in byName {
            let tensor = tensors[index]
            update(&hash, tensor.name)
            update(&hash, tensor.storedType.rawValue)
            update(&hash, tensor.shape.count)
            for extent in tensor.shape { update(&hash, extent) }
            if let digest = digests[index] { hash.update(digest.bytes) }
        }
        return Fingerprint(hash.finalize())
    }
}

extension StoredTensor {
    /// The SHA-256 of the elements in row-major order, read through `buffer`, a buffer's size at a time.
    fileprivate func digest(through buffer: UnsafeMutableRawBufferPointer) throws(CheckpointError) -> SHA256.Digest {
        var hash = SHA256()
        if isContiguous {
            for start in stride(from: range.lowerBound, to: range.upperBound, by: buffer.count) {
                let piece = UnsafeMutableRawBufferPointer(
                    rebasing: buffer[..<min(buffer.count, range.upperBound - start)])
                try file.read(at: start, into: piece)
                hash.update(UnsafeRawBufferPointer(piece))
            }
        } else {
            withPieces(ofBytes: buffer.count) { hash.update($0) }
            releasePages()
        }
        return hash.finalize()
    }
}

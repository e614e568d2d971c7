import Glibc

/// Memory for results that do not outlive a call: each thread keeps its own and uses it again.
///
/// Calls nest like a stack. What a thread has needed at one depth it keeps until it ends, so the same work done again
/// neither allocates nor touches fresh pages.
public enum Scratch {
    /// Calls `body` with `count` uninitialised floats, 64-byte aligned, valid during the call.
    public static func withFloats<Result, Failure: Error>(
        _ count: Int, _ body: (UnsafeMutablePointer<Float>) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        #if GUARDED_SCRATCH
            // For AddressSanitizer: each call has memory of its own and of exactly its size, full of NaN, so that a kernel
            // that leaves it, or reads what nobody wrote, is seen.
            let memory = UnsafeMutableRawPointer.allocate(
                byteCount: count * MemoryLayout<Float>.stride, alignment: 64)
            memset(memory, 0xff, count * MemoryLayout<Float>.stride)
            defer { memory.deallocate() }
        #else
            let stack = ScratchStack.current
            let memory = stack.push(byteCount: count * MemoryLayout<Float>.stride)
            defer { stack.pop() }
        #endif
        return try body(memory.bindMemory(to: Float.self, capacity: count))
    }

    /// Gives back what the calling thread holds in excess of its running calls.
    public static func releaseUnused() { ScratchStack.current.releaseUnused() }
}

/// The blocks of one thread, one for each depth of nesting; only that thread touches it.
private final class ScratchStack {
    private var blocks: [UnsafeMutableRawBufferPointer] = []
    private var depth = 0

    private static let key: pthread_key_t = {
        var key = pthread_key_t()
        pthread_key_create(&key) { stack in
            if let stack { Unmanaged<ScratchStack>.fromOpaque(stack).release() }
        }
        return key
    }()

    static var current: ScratchStack {
        if let stack = pthread_getspecific(key) {
            return Unmanaged<ScratchStack>.fromOpaque(stack).takeUnretainedValue()
        }
        let stack = ScratchStack()
        pthread_setspecific(key, Unmanaged.passRetained(stack).toOpaque())
        return stack
    }

    func push(byteCount: Int) -> UnsafeMutableRawPointer {
        if depth == blocks.count { blocks.append(UnsafeMutableRawBufferPointer(start: nil, count: 0)) }
        defer { depth += 1 }
        if let memory = blocks[depth].baseAddress, blocks[depth].count >= byteCount { return memory }
        blocks[depth].deallocate()
        blocks[depth] = .allocate(byteCount: max(64, byteCount), alignment: 64)
        guard let memory = blocks[depth].baseAddress else { preconditionFailure("an allocated block has an address") }
        return memory
    }

    func pop() { depth -= 1 }

    func releaseUnused() {
        while blocks.count > depth { blocks.removeLast().deallocate() }
    }

    deinit {
        for block in blocks { block.deallocate() }
    }
}

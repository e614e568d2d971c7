import CKernels

/// What a processor computes with, each with all before it; the kernels use the best of the machine at hand.
///
/// The environment's `KIRIE_MAX_ISA` keeps a process from using more than it names: to compare, or to get from a new
/// machine what an older one answers.
public enum InstructionSet: String, Sendable, CaseIterable {
    /// Four lanes: SSE2, NEON.
    case baseline
    /// Eight lanes with fused multiply-add.
    case avx2
    /// Sixteen lanes: AVX-512 F, BW, DQ, VL.
    case avx512
    /// AVX-512 with products of bf16 numbers, and of int8 where the processor has VNNI too.
    case bf16
    /// Tiles of products: AMX.
    case amx

    /// The name of the limit in the environment.
    public static let limitVariable = "KIRIE_MAX_ISA"

    /// The most that this process uses, whatever the processor has.
    static var limit: InstructionSet {
        // The kernels count the plain twins as a set of their own, below all others.
        allCases[Int(kirie_set_limit().rawValue - KIRIE_BASELINE.rawValue)]
    }
}

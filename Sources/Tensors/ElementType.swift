/// How one number of a stored tensor is written.
///
/// Arithmetic runs in `float32` unless a precision says otherwise; the half-width types are storage formats.
public enum ElementType: String, Sendable, Hashable, CaseIterable {
    /// IEEE 754 binary32.
    case float32
    /// IEEE 754 binary16.
    case float16
    /// The upper half of a binary32: 8 exponent bits, 7 fraction bits.
    case bfloat16

    /// Bytes that one element takes.
    public var byteCount: Int {
        switch self {
        case .float32: 4
        case .float16, .bfloat16: 2
        }
    }
}

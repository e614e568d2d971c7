import CKernels
import COpenBLAS
import Glibc

/// The matrix product of OpenBLAS, loaded when it is first needed.
///
/// It is loaded by name rather than linked, for two reasons: its start-up costs tens of milliseconds that a process
/// which only decodes need not pay, and 0.3.21 does not know recent AMD processors and falls back to kernels of half
/// the width unless `OPENBLAS_CORETYPE` is set before its initialisation runs.
enum OpenBLAS {
    private typealias Sgemm =
        @convention(c) (
            CBLAS_ORDER, CBLAS_TRANSPOSE, CBLAS_TRANSPOSE, Int32, Int32, Int32, Float, UnsafePointer<Float>?, Int32,
            UnsafePointer<Float>?, Int32, Float, UnsafeMutablePointer<Float>?, Int32
        ) -> Void

    private static let sgemm: Sgemm? = {
        let previous = getenv("OPENBLAS_CORETYPE")
        if previous == nil, kirie_best_set() == KIRIE_AVX512 {
            setenv("OPENBLAS_CORETYPE", "SkylakeX", 1)
        }
        // One thread each: the pool above decides who works on what.
        setenv("OPENBLAS_NUM_THREADS", "1", 0)
        guard let library = dlopen("libopenblas.so.0", RTLD_NOW | RTLD_LOCAL),
            let symbol = dlsym(library, "cblas_sgemm")
        else { return nil }
        return unsafeBitCast(symbol, to: Sgemm.self)
    }()

    /// Whether the library could be loaded.
    static var isAvailable: Bool { sgemm != nil }

    /// c (rows, columns) = x (rows, depth) * weight (columns, depth) transposed, plus c when `accumulate` says so.
    static func product(
        rows: Int, columns: Int, depth: Int, x: UnsafePointer<Float>, xStride: Int, weight: UnsafePointer<Float>,
        y: UnsafeMutablePointer<Float>, yStride: Int, accumulate: Bool
    ) {
        sgemm?(
            CblasRowMajor, CblasNoTrans, CblasTrans, Int32(rows), Int32(columns), Int32(depth), 1, x, Int32(xStride),
            weight, Int32(depth), accumulate ? 1 : 0, y, Int32(yStride))
    }
}

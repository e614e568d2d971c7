import Glibc

/// The process's environment variables.
package enum Environment {
    package static subscript(name: String) -> String? { getenv(name).map { FileName.text(of: $0) } }

    package static let all: [String: String] = {
        var variables: [String: String] = [:]
        for name in ["HOME", "KIRIE_MODELS", "KIRIE_WEIGHTS", "XDG_CACHE_HOME", "XDG_DATA_HOME"] {
            variables[name] = Self[name]
        }
        return variables
    }()
}

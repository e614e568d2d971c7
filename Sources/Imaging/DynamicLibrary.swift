import Glibc

/// A library of the system that is opened when it is first needed: a process that never needs it does not pay for it, and
/// a machine without it can do all else.
///
/// The addresses of its functions stay valid until the process ends.
struct DynamicLibrary: @unchecked Sendable {
    // The handle is never closed, and dlsym may be called from any thread.
    private let handle: UnsafeMutableRawPointer

    /// Opens a library by the name that the loader knows it by; nil where it is not on this machine.
    init?(_ name: String) {
        guard let handle = dlopen(name, RTLD_NOW | RTLD_LOCAL) else { return nil }
        self.handle = handle
    }

    /// The address of a function; nil where the library has none of that name.
    func address(of function: String) -> UnsafeMutableRawPointer? { dlsym(handle, function) }

    /// A function as C calls it; nil where the library has none of that name.
    func function<Function>(_ name: String, as type: Function.Type = Function.self) -> Function? {
        address(of: name).map { unsafeBitCast($0, to: type) }
    }
}

extension ImageError {
    /// A picture whose format needs a library that is not there.
    static func missingLibrary(_ library: String, package: String, for format: String, in source: String) -> ImageError
    {
        ImageError(
            .unsupported, in: source,
            "it is a \(format) picture, and \(library), which reads them, is not on this machine",
            remedy: "Install it (Debian: `apt-get install \(package)`), or convert the picture to PNG")
    }
}

import Glibc
package import Platform

/// The folder of a `kirie up`: Redis's data, its socket, the logs.
package struct ClusterFolder: Sendable {
    package let path: String

    /// The folder of that path, which may not be there yet.
    package init(path: String) { self.path = path }

    /// `$XDG_DATA_HOME/kirie/cluster`, else `~/.local/share/kirie/cluster`.
    package static var standard: ClusterFolder {
        let home = Environment["HOME"] ?? "/tmp"
        let data = Environment["XDG_DATA_HOME"].flatMap { $0.isEmpty ? nil : $0 } ?? "\(home)/.local/share"
        return ClusterFolder(path: "\(data)/kirie/cluster")
    }

    package var socket: String { "\(path)/redis.sock" }
}

extension ClusterFolder {
    /// Where the gateway writes its address when it listens.
    package var gatewayAddress: String { "\(path)/gateway.url" }

    /// What the gateway wrote; nil where it does not listen yet.
    package var writtenGatewayAddress: String? {
        let descriptor = open(gatewayAddress, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return nil }
        defer { close(descriptor) }
        var buffer = [UInt8](repeating: 0, count: 1024)
        let count = read(descriptor, &buffer, buffer.count)
        guard count > 0, buffer[count - 1] == 0x0A else { return nil }
        return String(decoding: buffer[..<(count - 1)], as: UTF8.self)
    }

    package var configuration: String { "\(path)/redis.conf" }

    package func log(_ name: String) -> String { "\(path)/logs/\(name).log" }

    /// Makes the folders, for their owner alone.
    package func prepare() throws {
        guard socket.utf8.count <= 107 else {
            throw ClusterFolderError(
                path: path, reason: "its path is too long for a Unix socket (107 bytes): give a shorter --data")
        }
        var built = ""
        for part in "\(path)/logs".split(separator: "/") {
            built += "/\(part)"
            guard mkdir(built, 0o700) == 0 || errno == EEXIST || errno == EISDIR else {
                throw ClusterFolderError(path: built, reason: "cannot be made: \(String(cString: strerror(errno)))")
            }
        }
        guard access(path, R_OK | W_OK | X_OK) == 0 else {
            throw ClusterFolderError(path: path, reason: "cannot be written: give another folder with --data")
        }
    }

    /// Takes the folder for this process alone.
    package func lock() throws -> ClusterLock {
        let file = "\(path)/lock"
        let descriptor = open(file, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else {
            throw ClusterFolderError(path: file, reason: "cannot be made: \(String(cString: strerror(errno)))")
        }
        guard flock(descriptor, LOCK_EX | LOCK_NB) == 0 else {
            close(descriptor)
            throw ClusterFolderError(
                path: path, reason: "another `kirie up` runs on it: stop that one, or give another folder with --data")
        }
        return ClusterLock(descriptor: descriptor)
    }
}

/// A data folder that is this process's own.
package struct ClusterLock {
    package let descriptor: Int32

    package func release() { close(descriptor) }
}

/// A data folder that cannot be used.
package struct ClusterFolderError: ReportableError {
    package let path: String
    package let reason: String

    /// Why the folder of that path cannot be used.
    package init(path: String, reason: String) {
        self.path = path
        self.reason = reason
    }

    package var report: ErrorReport { ErrorReport(.ours, "cluster-folder", at: path, reason) }

    /// The report in one line.
    package var description: String { report.text }
}

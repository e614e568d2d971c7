public import Platform

/// Why a command has no answer.
///
/// No message carries an argument or a password; `server` is the address without them.
public enum RedisError: TransientError, Sendable, Hashable {
    /// No connection came about within the client's patience.
    case cannotConnect(server: String, reason: String)
    /// The server refused the user or the password, or wants one.
    case authenticationFailed(server: String, reason: String)
    /// TLS with the server is not to be had: one side's certificate does not hold for the other, or a file does not.
    case notTrusted(server: String, reason: String, remedy: String)
    /// The sentinels watch nothing of that name.
    case unknownService(sentinels: String, service: String, known: [String])
    /// The connection broke before the answer was complete.
    ///
    /// `mayHaveRun` is false when the command had not been handed over to the system in full, so that the server
    /// cannot have run it; else it may have.
    case connectionLost(server: String, mayHaveRun: Bool, reason: String)
    /// The answer did not come in time; the connection is closed, the command may have run.
    case timedOut(server: String, command: String, after: Duration)
    /// What came is not the Redis protocol.
    case protocolViolation(server: String, reason: String)
    /// The server answered with an error.
    case server(RedisServerError, command: String)
    /// The answer has not the form that the command promises.
    case unexpectedReply(command: String, expected: String, found: String)
    /// More bytes wait to be sent than the configuration allows.
    case overloaded(server: String, pendingBytes: Int)
    /// The cluster has no node for the key, or sent us in circles.
    case clusterUnavailable(reason: String)
    /// The client was closed.
    case closed
    /// The task that waited was cancelled.
    case cancelled

    /// Whether the server may have run the command although there is no answer.
    public var mayHaveRun: Bool {
        switch self {
        case .connectionLost(_, let mayHaveRun, _): mayHaveRun
        case .timedOut, .protocolViolation, .unexpectedReply: true
        default: false
        }
    }

    /// Whether the connection is to blame, so that another one may succeed.
    public var isConnectionFailure: Bool {
        switch self {
        case .cannotConnect, .connectionLost, .timedOut, .protocolViolation: true
        default: false
        }
    }

    /// Whether time mends it, and nothing is wrong with the command.
    ///
    /// The connection, a cluster that rearranges itself, or a server that cannot do its work now, such as one that is full,
    /// loading, or a replica.
    public var isTransient: Bool {
        switch self {
        case .overloaded, .clusterUnavailable: true
        case .server(let error, _): error.isTransient
        default: isConnectionFailure
        }
    }

    /// The first word of the server's error, such as `WRONGTYPE`; nil for errors that did not come from it.
    public var serverCode: String? {
        if case .server(let error, _) = self { error.code } else { nil }
    }
}

extension RedisError: ReportableError {
    /// What time mends is to come back later; the rest is for whoever set things up.
    public var report: ErrorReport {
        let errorClass: ErrorClass = isTransient ? .comeBackLater : .ours
        switch self {
        case .cannotConnect(let server, let reason):
            return ErrorReport(
                errorClass, "redis-unreachable", "cannot connect to \(server): \(reason)",
                remedy: "is redis-server running there?")
        case .authenticationFailed(let server, let reason):
            return ErrorReport(
                .ours, "redis-login", "\(server) refused the login: \(reason)",
                remedy: "check user and password in the address")
        case .notTrusted(let server, let reason, let remedy):
            return ErrorReport(.ours, "redis-tls", "no TLS with \(server): \(reason)", remedy: remedy)
        case .unknownService(let sentinels, let service, let known):
            let names = known.isEmpty ? "nothing" : known.map { "\"\($0)\"" }.joined(separator: ", ")
            return ErrorReport(
                .usage, "redis-service", "the sentinels of \(sentinels) do not watch \"\(service)\" but \(names)",
                remedy: "write the name of their `sentinel monitor NAME …` after the last /")
        case .connectionLost(let server, let mayHaveRun, let reason):
            return ErrorReport(
                errorClass, "redis-connection-lost",
                "the connection to \(server) was lost (\(reason)); the command "
                    + (mayHaveRun ? "may have run" : "did not run"))
        case .timedOut(let server, let command, let after):
            return ErrorReport(
                errorClass, "redis-timeout", "\(server) did not answer \(command) within \(after); it may have run")
        case .protocolViolation(let server, let reason):
            return ErrorReport(
                errorClass, "not-redis", "\(server) does not speak the Redis protocol: \(reason)",
                remedy: "is another service listening there?")
        case .server(let error, let command):
            return ErrorReport(
                errorClass, "redis-refused", "Redis refused \(command): \(error.message)",
                remedy: Self.remedy(of: error, command))
        case .unexpectedReply(let command, let expected, let found):
            return ErrorReport(
                errorClass, "redis-reply", "Redis answered \(command) with \(found) where \(expected) was expected")
        case .overloaded(let server, let bytes):
            return ErrorReport(
                errorClass, "redis-overloaded", "\(bytes) bytes already wait to be sent to \(server)",
                remedy: "try again later")
        case .clusterUnavailable(let reason):
            return ErrorReport(errorClass, "redis-cluster", "the Redis Cluster cannot serve the command: \(reason)")
        case .closed: return ErrorReport(errorClass, "redis-closed", "the Redis client was closed")
        case .cancelled: return ErrorReport(errorClass, "cancelled", "cancelled while waiting for Redis")
        }
    }

    /// What to do about an answer of the server that names something in its settings.
    private static func remedy(of error: RedisServerError, _ command: String) -> String? {
        switch error.code {
        case "NOPERM":
            "the user lacks a right: give it those of its role (deploy/README.md, Users) with ACL SETUSER, or in users.acl "
                + "and ACL LOAD"
        case "ERR" where command.hasPrefix("FCALL") && error.message.contains("unknown command"):
            "Kirie needs Redis 7.0 or later; a Sentinel is none"
        default: nil
        }
    }

    /// The report in one line.
    public var description: String { report.text }
}

/// An error that time may mend.
public protocol TransientError: Error {
    /// Whether time mends it, and nothing is wrong with what was asked.
    var isTransient: Bool { get }
}

/// An error that the server sent as its answer.
public struct RedisServerError: TransientError, Sendable, Hashable, CustomStringConvertible {
    /// The first word, such as `ERR`, `WRONGTYPE`, `OOM` or a word of a function's own.
    public let code: String
    /// The whole text, the code included, without what the server quotes of the arguments.
    public let message: String

    /// Takes the text of an error reply.
    public init(_ text: String) {
        // The server quotes the arguments of a command that it does not know; they may be a password or an image.
        let kept = text.firstRange(of: ", with args beginning with").map { text[..<$0.lowerBound] } ?? text[...]
        message = String(kept.prefix(1024))
        code = String(kept.prefix { $0 != " " })
    }

    /// The message.
    public var description: String { message }

    /// Whether the server says that it cannot do its work now, whatever the command is.
    public var isTransient: Bool { Self.passing.contains(code) }

    /// <https://redis.io/docs/latest/develop/reference/protocol-spec/#simple-errors>; the words are those of `server.c`.
    private static let passing: Set<String> = [
        "OOM", "MISCONF", "READONLY", "LOADING", "MASTERDOWN", "NOREPLICAS", "BUSY", "CLUSTERDOWN", "TRYAGAIN",
        "UNBLOCKED",
    ]

    /// Whether the server says that it is the replica of another now: where the address leads may have changed.
    var isOfReplica: Bool { ["READONLY", "MASTERDOWN", "UNBLOCKED"].contains(code) }
}

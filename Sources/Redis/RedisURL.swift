public import Platform

/// Where a Redis server is and who we are there.
///
/// ```text
/// redis://[[user]:password@]host[:port][/database][?cluster=auto|on|off]
/// rediss://[[user]:password@]host[:port][/database][?ca=FILE&cert=FILE&key=FILE&name=HOST]
/// unix://[[user]:password@]/path/of/socket[?db=N]
/// redis+sentinel://[[user]:password@]host[:port][,host[:port]…]/service[/database]      rediss+sentinel:// with TLS
/// ```
/// Every part may be percent-encoded (RFC 3986, section 2.1); in a password the characters `/ ? # @ : %` must be. The
/// port is 6379 and the database 0 unless given. `rediss://` is TLS; its options are those of ``RedisTLS``.
///
/// Printing, dumping or interpolating a value of this type never shows the password.
public struct RedisURL: Sendable, Hashable {
    /// The socket that the server listens on.
    public enum Endpoint: Sendable, Hashable {
        /// A host name or an address without brackets, and a port from 1 to 65535.
        case tcp(host: String, port: Int)
        /// The absolute path of a Unix socket, at most 107 bytes.
        case unixSocket(path: String)
        /// Whichever server these sentinels name at the time.
        case sentinels(RedisSentinels)
    }

    /// Whether the server is one of a Redis Cluster.
    public enum ClusterMode: String, Sendable, Hashable {
        /// The server is asked.
        case auto
        /// It is; a server that says otherwise is an error.
        case on
        /// It is taken for a single server whatever it says.
        case off
    }

    /// The socket that the server listens on.
    public var endpoint: Endpoint
    /// The ACL user; nil for the default one.
    public var user: String?
    /// What proves it; nil where the server asks for nothing.
    public var password: RedisPassword?
    /// The number of the database, at least 0; a cluster has only number 0.
    public var database: Int
    /// Whether the server is one of a Redis Cluster.
    public var cluster: ClusterMode
    /// What TLS is held to; nil for a connection without it, as each Unix socket is.
    public var tls: RedisTLS?

    /// An address made of its parts.
    public init(
        _ endpoint: Endpoint, user: String? = nil, password: RedisPassword? = nil, database: Int = 0,
        cluster: ClusterMode = .auto, tls: RedisTLS? = nil
    ) {
        self.endpoint = endpoint
        self.user = user
        self.password = password
        self.database = database
        self.cluster = cluster
        self.tls = tls
    }

    /// Reads the text form.
    ///
    /// - Parameters:
    ///   - text: the address.
    ///   - secret: the password where the address has none: a user may be named there alone.
    ///   - files: what TLS is held to where an address with it does not say.
    ///   - sentinelSecret: what sentinels themselves ask for.
    /// - Throws: what is wrong with the address, without showing its password.
    public init(
        _ text: String, password secret: RedisPassword? = nil, tls files: RedisTLS? = nil,
        sentinels sentinelSecret: RedisPassword? = nil
    ) throws(RedisURLError) {
        guard let mark = text.firstRange(of: "://") else { throw .noScheme }
        let scheme = text[..<mark.lowerBound].lowercased()
        var isUnix = false
        var isOfSentinels = false
        switch scheme {
        case "redis", "rediss": break
        case "redis+sentinel", "rediss+sentinel": isOfSentinels = true
        case "unix", "redis+unix": isUnix = true
        default: throw .unknownScheme
        }
        let rest = text[mark.upperBound...]
        guard !rest.contains("#") else { throw .fragment }
        let authority = rest.prefix { $0 != "/" && $0 != "?" }
        var path = rest[authority.endIndex...].prefix { $0 != "?" }
        let query = rest[path.endIndex...].dropFirst()

        var place = authority
        var user: String?
        var password = secret
        if let at = authority.lastIndex(of: "@") {
            let credentials = authority[..<at]
            place = authority[authority.index(after: at)...]
            let colon = credentials.firstIndex(of: ":") ?? credentials.endIndex
            let name = try Self.decode(credentials[..<colon], part: "user")
            user = name.isEmpty ? nil : name
            let own = try Self.decode(credentials[colon...].dropFirst(), part: "password")
            if !own.isEmpty { password = RedisPassword(own) }
            if user != nil, password == nil { throw .userWithoutPassword }
        }

        var database = 0
        let endpoint: Endpoint
        if isUnix {
            guard place.isEmpty else { throw .hostOfUnixSocket }
            let file = try Self.decode(path, part: "path")
            guard file.count > 1 else { throw .missingPath }
            guard file.utf8.count <= 107, !file.utf8.contains(0) else { throw .pathTooLong }
            endpoint = .unixSocket(path: file)
        } else if isOfSentinels {
            let parts = path.split(separator: "/", omittingEmptySubsequences: false).dropFirst()
            let service = try Self.decode(parts.first ?? "", part: "service")
            guard !service.isEmpty, parts.count <= 2 else { throw .missingService }
            if parts.count == 2, let number = parts.last, !number.isEmpty { database = try Self.database(number) }
            var places: [RedisSentinels.Place] = []
            for part in place.split(separator: ",", omittingEmptySubsequences: false) {
                guard case .tcp(let host, let port) = try Self.tcp(part, usualPort: 26_379) else { continue }
                places.append(RedisSentinels.Place(host: host, port: port))
            }
            endpoint = .sentinels(RedisSentinels(places, service: service, password: sentinelSecret))
        } else {
            endpoint = try Self.tcp(place)
            path = path.dropFirst()
            if !path.isEmpty { database = try Self.database(path) }
        }

        var cluster = isOfSentinels ? ClusterMode.off : .auto
        var own = RedisTLS()
        for option in query.split(separator: "&") {
            let pair = option.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            switch (pair[0], pair.count == 2 ? pair[1] : "") {
            case ("db", let value): database = try Self.database(value)
            case ("cluster", let value):
                guard let mode = ClusterMode(rawValue: String(value)) else { throw .clusterOption }
                cluster = mode
            case ("ca", let value): own.authorities = try Self.decode(value, part: "option \"ca\"")
            case ("cert", let value): own.certificate = try Self.decode(value, part: "option \"cert\"")
            case ("key", let value): own.key = try Self.decode(value, part: "option \"key\"")
            case ("name", let value): own.serverName = try Self.decode(value, part: "option \"name\"")
            default: throw .unknownOption
            }
        }
        let isEncrypted = scheme.hasPrefix("rediss")
        guard isEncrypted || own == RedisTLS() else { throw .optionOfEncryption }
        self.init(
            endpoint, user: user, password: password, database: database, cluster: cluster,
            tls: isEncrypted ? own.filled(from: files) : nil)
    }

    private static func tcp(_ place: Substring, usualPort: Int = 6379) throws(RedisURLError) -> Endpoint {
        let name: Substring
        var port: Substring = ""
        if place.first == "[" {
            guard let close = place.firstIndex(of: "]") else { throw .missingHost }
            name = place[place.index(after: place.startIndex)..<close]
            let after = place[place.index(after: close)...]
            guard after.isEmpty || after.first == ":" else { throw .invalidPort }
            port = after.dropFirst()
        } else {
            name = place.prefix { $0 != ":" }
            port = place[name.endIndex...].dropFirst()
        }
        let host = try decode(name, part: "host")
        guard !host.isEmpty, !host.utf8.contains(0) else { throw .missingHost }
        guard !port.isEmpty else { return .tcp(host: host, port: usualPort) }
        guard let number = UInt16(port), number > 0 else { throw .invalidPort }
        return .tcp(host: host, port: Int(number))
    }

    private static func database(_ text: Substring) throws(RedisURLError) -> Int {
        guard let number = UInt16(text) else { throw .invalidDatabase }
        return Int(number)
    }

    private static func decode(_ text: Substring, part: String) throws(RedisURLError) -> String {
        var bytes: [UInt8] = []
        var rest = text.utf8[...]
        while let byte = rest.popFirst() {
            guard byte == UInt8(ascii: "%") else {
                bytes.append(byte)
                continue
            }
            let digits = rest.prefix(2)
            guard digits.count == 2, digits.allSatisfy({ Character(UnicodeScalar($0)).isHexDigit }),
                let text = String(digits), let value = UInt8(text, radix: 16)
            else { throw .percentEncoding(part: part) }
            bytes.append(value)
            rest = rest.dropFirst(2)
        }
        guard let decoded = String(validating: bytes, as: UTF8.self) else { throw .percentEncoding(part: part) }
        return decoded
    }
}

extension RedisURL: CustomStringConvertible, CustomDebugStringConvertible {
    /// The text form, with `***` in the place of the password.
    public var description: String {
        let who = password == nil ? "" : "\(user ?? ""):***@"
        var options = cluster == .auto ? [] : ["cluster=\(cluster.rawValue)"]
        switch endpoint {
        case .tcp(let host, let port):
            let name = host.contains(":") ? "[\(host)]" : host
            return "redis\(tls == nil ? "" : "s")://\(who)\(name):\(port)" + (database == 0 ? "" : "/\(database)")
                + Self.query(options)
        case .unixSocket(let path):
            if database != 0 { options.insert("db=\(database)", at: 0) }
            return "unix://\(who)\(path)" + Self.query(options)
        case .sentinels(let sentinels):
            let places = sentinels.places.map { "\($0.host.contains(":") ? "[\($0.host)]" : $0.host):\($0.port)" }
            return
                "redis\(tls == nil ? "" : "s")+sentinel://\(who)\(places.joined(separator: ","))/\(sentinels.service)"
                + (database == 0 ? "" : "/\(database)")
        }
    }

    /// The same as ``description``.
    public var debugDescription: String { description }

    private static func query(_ options: [String]) -> String {
        options.isEmpty ? "" : "?" + options.joined(separator: "&")
    }
}

/// A password that no print, dump, interpolation or mirror shows.
public struct RedisPassword: Sendable, Hashable, CustomStringConvertible, CustomDebugStringConvertible,
    CustomReflectable
{
    /// The text itself, for the AUTH command alone.
    package let secret: String

    /// Wraps the plain text.
    public init(_ secret: String) { self.secret = secret }

    /// Three stars.
    public var description: String { "***" }
    /// Three stars.
    public var debugDescription: String { "***" }
    /// A mirror without children.
    public var customMirror: Mirror { Mirror(self, children: []) }
}

/// Why a text is not the address of a Redis server.
///
/// No case carries a part of the text: a password with an unescaped character would land in any of them.
public enum RedisURLError: ReportableError, Sendable, Hashable {
    /// There is no `://`.
    case noScheme
    /// The scheme is none that we know.
    case unknownScheme
    /// A file for TLS in an address without it.
    case optionOfEncryption
    /// There is a `#`.
    case fragment
    /// No host between `//` and the port or path.
    case missingHost
    /// Sentinels without the name of what they watch.
    case missingService
    /// The port is no number from 1 to 65535.
    case invalidPort
    /// The database is no number from 0 to 65535.
    case invalidDatabase
    /// A user name without a password.
    case userWithoutPassword
    /// A Unix socket with a host name.
    case hostOfUnixSocket
    /// A Unix socket without a path.
    case missingPath
    /// The path does not fit into `sockaddr_un`.
    case pathTooLong
    /// A `%` without two hexadecimal digits, or bytes that are no UTF-8.
    case percentEncoding(part: String)
    /// `cluster=` with something else than auto, on, off.
    case clusterOption
    /// An option of no known name.
    case unknownOption

    /// What is wrong and how the right form looks.
    public var report: ErrorReport {
        let escape = "; in a password the characters / ? # @ : % must be percent-encoded"
        let what =
            switch self {
            case .noScheme: "there is no \"redis://\", \"rediss://\" or \"unix://\" at its beginning"
            case .unknownScheme:
                "its scheme is none of \"redis\", \"rediss\", \"redis+sentinel\", \"rediss+sentinel\" and \"unix\""
            case .optionOfEncryption: "\"ca\", \"cert\", \"key\" and \"name\" are for TLS; write rediss://"
            case .fragment: "it has a \"#\"\(escape)"
            case .missingHost: "there is no host after \"redis://\""
            case .missingService:
                "the name of the service is missing; write redis+sentinel://host:26379,host:26379/NAME"
            case .invalidPort: "the port is no number from 1 to 65535\(escape)"
            case .invalidDatabase: "the database is no number from 0 to 65535\(escape)"
            case .userWithoutPassword:
                "there is a user but no password; write user:password@, or set KIRIE_REDIS_PASSWORD"
            case .hostOfUnixSocket: "a Unix socket has no host; write unix:///path with three slashes"
            case .missingPath: "there is no path after \"unix://\""
            case .pathTooLong: "the path of a Unix socket has at most 107 bytes, none of them 0"
            case .percentEncoding(let part): "the \(part) has a \"%\" that is not followed by the digits of UTF-8 text"
            case .clusterOption: "the option \"cluster\" is auto, on or off"
            case .unknownOption:
                "it has an option other than \"db\" and \"cluster\", and, with rediss://, \"ca\", \"cert\", \"key\" and \"name\""
            }
        return ErrorReport(
            .usage, "redis-address", "not the address of a Redis server: \(what)",
            remedy: "such addresses are redis://user:password@host:6379/0, unix:///run/kirie/redis.sock?db=1")
    }

    /// The report in one line.
    public var description: String { report.text }
}

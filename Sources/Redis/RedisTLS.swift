/// What a connection by TLS (`rediss://`) is held to, and who this side says it is.
///
/// The files are PEM and are read anew by each connection: a certificate that was renewed is taken without a restart. A
/// server is spoken to only where its certificate is signed by a known authority, is in time, and names the host of the
/// address; there is no way to leave that out.
public struct RedisTLS: Sendable, Hashable {
    /// The certificates of the authorities that servers are believed by; nil for those of the system.
    public var authorities: String?
    /// This client's certificate, with those between it and its authority after it; nil for none.
    public var certificate: String?
    /// The private key of the certificate, without a passphrase; nil where it is in the certificate's file.
    public var key: String?
    /// The name that the server's certificate must have; nil for the host of the address.
    public var serverName: String?

    /// The system's authorities and no client certificate, unless told otherwise.
    public init(
        authorities: String? = nil, certificate: String? = nil, key: String? = nil, serverName: String? = nil
    ) {
        self.authorities = authorities
        self.certificate = certificate
        self.key = key
        self.serverName = serverName
    }

    /// What is not said here, from elsewhere.
    package func filled(from other: RedisTLS?) -> RedisTLS {
        var own = self
        own.authorities = authorities ?? other?.authorities
        own.serverName = serverName ?? other?.serverName
        if certificate == nil {
            own.certificate = other?.certificate
            own.key = key ?? other?.key
        }
        return own
    }
}

/// Why a connection by TLS is not to be had, in words, and what to do about it.
struct TLSRefusal: Error, Sendable, Hashable {
    let reason: String
    let remedy: String
    /// Whether the other side just went away, as it does while it starts or ends.
    var mayPass = false

    /// The error of a connection.
    func error(of server: String) -> RedisError {
        mayPass
            ? .cannotConnect(server: server, reason: reason)
            : .notTrusted(server: server, reason: reason, remedy: remedy)
    }
}

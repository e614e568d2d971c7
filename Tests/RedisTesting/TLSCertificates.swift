import Glibc
import Platform
public import Redis

/// Authorities, certificates and keys, made by the openssl of this machine in a folder that the last reference removes.
///
/// `ca.pem` has signed `server.pem` (localhost, 127.0.0.1), `other-name.pem` (elsewhere.example), `expired.pem`,
/// `client.pem` and `expired-client.pem`; `wrong-ca.pem` has signed `stranger.pem`. Each has its key beside it.
public final class TLSCertificates: Sendable {
    /// The folder.
    public let folder: String

    /// Makes them all.
    public init() async throws {
        guard let folder = TemporaryFolder.make("kirie-tls") else {
            throw RedisServerProcess.Failure(description: "no folder can be made in /tmp")
        }
        self.folder = folder
        let log = "\(folder)/openssl.log"
        let process = try ChildProcess.start(
            "/bin/sh", ["-euc", Self.script, "sh", folder], ChildProcess.Options(output: .file(log)))
        guard await process.waitForExit() == .status(0) else {
            throw RedisServerProcess.Failure(
                description: "openssl made no certificates; `deploy/test` installs it (Debian: apt-get install openssl)"
            )
        }
    }

    deinit { TemporaryFolder.remove(folder) }

    /// The path of a file.
    public subscript(name: String) -> String { "\(folder)/\(name)" }

    /// What a client of the server needs.
    public var client: RedisTLS {
        RedisTLS(authorities: self["ca.pem"], certificate: self["client.pem"], key: self["client.key"])
    }

    /// Lines of redis.conf for a server that listens on a port by TLS alone.
    public func settings(port: Int, certificate: String = "server", wantsClients: Bool = true) -> [String] {
        [
            "tls-port \(port)", "tls-cert-file \(self["\(certificate).pem"])",
            "tls-key-file \(self["\(certificate).key"])",
            "tls-ca-cert-file \(self["ca.pem"])", "tls-auth-clients \(wantsClients ? "yes" : "no")",
            "tls-replication yes", "tls-cluster yes",
        ]
    }

    private static let script = """
        cd "$1"
        key="-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"
        for ca in ca wrong-ca; do
            openssl req -x509 $key -keyout $ca.key -out $ca.pem -days 2 -subj "/CN=$ca"
        done
        sign() {
            openssl req $key -keyout $1.key -out $1.csr -subj "/CN=$1" -addext "subjectAltName=$4"
            openssl x509 -req -in $1.csr -CA $2.pem -CAkey $2.key -CAcreateserial -copy_extensions copy -days $3 \\
                -out $1.pem
        }
        sign server ca 2 DNS:localhost,IP:127.0.0.1
        sign other-name ca 2 DNS:elsewhere.example
        sign expired ca -1 DNS:localhost,IP:127.0.0.1
        sign client ca 2 DNS:client
        sign expired-client ca -1 DNS:client
        sign stranger wrong-ca 2 DNS:client
        openssl pkey -in client.key -aes128 -passout pass:secret -out locked.key
        """
}

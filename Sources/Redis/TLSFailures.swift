import CTLS
import Glibc

/// What OpenSSL says of a session that failed, in words for who runs the server or the client.
enum TLSFailures {
    /// The cause of the failure that OpenSSL has just told this thread.
    static func refusal(_ ssl: OpaquePointer, _ settings: RedisTLS, host: String) -> TLSRefusal {
        let code = ERR_get_error()
        let reason = ERR_GET_REASON(code)
        if reason == SSL_R_CERTIFICATE_VERIFY_FAILED {
            return certificate(ssl, SSL_get_verify_result(ssl), settings, host: host)
        }
        let alerts = Int32(SSL_AD_REASON_OFFSET)
        switch reason {
        case SSL_R_WRONG_VERSION_NUMBER, SSL_R_PACKET_LENGTH_TOO_LONG, SSL_R_HTTP_REQUEST, SSL_R_UNKNOWN_PROTOCOL:
            return TLSRefusal(
                reason: "it does not speak TLS", remedy: "give the port of tls-port, or write redis:// for this one")
        case alerts + SSL3_AD_CERTIFICATE_EXPIRED:
            return TLSRefusal(
                reason: "it says that this client's certificate \(quoted(settings.certificate)) has expired",
                remedy: "renew it; it is read anew by each connection")
        case alerts + TLS1_AD_UNKNOWN_CA, alerts + SSL3_AD_BAD_CERTIFICATE, alerts + SSL3_AD_UNSUPPORTED_CERTIFICATE,
            alerts + SSL3_AD_CERTIFICATE_UNKNOWN, alerts + TLS1_AD_DECRYPT_ERROR:
            return settings.certificate == nil
                ? wantsCertificate
                : TLSRefusal(
                    reason: "it does not accept this client's certificate \(quoted(settings.certificate)) "
                        + "(\(text(code)))",
                    remedy: "have it signed by an authority of the server's tls-ca-cert-file")
        case alerts + TLS13_AD_CERTIFICATE_REQUIRED:
            return wantsCertificate
        case alerts + SSL3_AD_HANDSHAKE_FAILURE where settings.certificate == nil:
            // A server of TLS 1.2 has no other word for it.
            return wantsCertificate
        case alerts + TLS1_AD_PROTOCOL_VERSION, SSL_R_UNSUPPORTED_PROTOCOL:
            return TLSRefusal(
                reason: "it speaks no TLS from 1.2 on", remedy: "allow TLSv1.2 or TLSv1.3 in the server's tls-protocols"
            )
        default:
            let cause = code == 0 ? "the connection broke off" : text(code)
            return TLSRefusal(reason: "TLS failed: \(cause)", remedy: "look into the server's log", mayPass: code == 0)
        }
    }

    private static let wantsCertificate = TLSRefusal(
        reason: "it wants a client certificate, and none was given",
        remedy: "name one with --redis-cert and --redis-key, or KIRIE_REDIS_CERT and KIRIE_REDIS_KEY")

    private static func certificate(
        _ ssl: OpaquePointer, _ result: Int, _ settings: RedisTLS, host: String
    ) -> TLSRefusal {
        let name = settings.serverName ?? host
        switch Int32(truncatingIfNeeded: result) {
        case X509_V_ERR_CERT_HAS_EXPIRED:
            return TLSRefusal(
                reason: "its certificate has expired", remedy: "renew it on the server, or set this machine's clock")
        case X509_V_ERR_CERT_NOT_YET_VALID:
            return TLSRefusal(
                reason: "its certificate is not valid yet", remedy: "set the clocks of both machines")
        case X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH:
            let names = keptCertificate(ssl).map(names) ?? []
            let list = names.isEmpty ? "no name at all" : names.joined(separator: ", ")
            return TLSRefusal(
                reason: "its certificate is for \(list), and not for \(name)",
                remedy: "write such a name in the address, or say which is expected with --redis-server-name")
        case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT, X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN,
            X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT, X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY,
            X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE, X509_V_ERR_CERT_SIGNATURE_FAILURE:
            let known = settings.authorities.map { "of \($0)" } ?? "that this machine knows"
            return TLSRefusal(
                reason: "its certificate is not signed by an authority \(known)",
                remedy: "name the file of the one that signed it with --redis-ca or KIRIE_REDIS_CA")
        default:
            return TLSRefusal(
                reason: "its certificate does not hold: \(String(cString: X509_verify_cert_error_string(result)))",
                remedy: "have another made for the server")
        }
    }

    /// Keeps a certificate that does not hold with its session, so that it can be told what it is for; changes no verdict.
    static let keepCertificate: @convention(c) (Int32, OpaquePointer?) -> Int32 = { verdict, store in
        if verdict == 0, let store, let certificate = X509_STORE_CTX_get0_cert(store),
            let ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx()).map(OpaquePointer.init),
            keptCertificate(ssl) == nil, X509_up_ref(certificate) == 1
        {
            SSL_set_ex_data(ssl, 0, UnsafeMutableRawPointer(certificate))
        }
        return verdict
    }

    /// The session's owner frees it.
    static func keptCertificate(_ ssl: OpaquePointer) -> OpaquePointer? {
        SSL_get_ex_data(ssl, 0).map(OpaquePointer.init)
    }

    /// The names and addresses that a certificate is for.
    private static func names(of certificate: OpaquePointer) -> [String] {
        guard let found = X509_get_ext_d2i(certificate, NID_subject_alt_name, nil, nil) else { return [] }
        let list = OpaquePointer(found)
        defer { GENERAL_NAMES_free(list) }
        var names: [String] = []
        for index in 0..<min(8, OPENSSL_sk_num(list)) {
            guard let raw = OPENSSL_sk_value(list, index) else { continue }
            var type: Int32 = 0
            guard let value = GENERAL_NAME_get0_value(raw.assumingMemoryBound(to: GENERAL_NAME.self), &type) else {
                continue
            }
            let text = UnsafePointer(value.assumingMemoryBound(to: ASN1_STRING.self))
            guard let start = ASN1_STRING_get0_data(text) else { continue }
            let bytes = Array(UnsafeBufferPointer(start: start, count: Int(ASN1_STRING_length(text))))
            switch type {
            case GEN_DNS:
                // What the server sends is shown as far as it is a name.
                names.append(
                    String(decoding: bytes.prefix(253).map { (33...126).contains($0) ? $0 : 63 }, as: UTF8.self))
            case GEN_IPADD: if let address = address(bytes) { names.append(address) }
            default: continue
            }
        }
        return names
    }

    private static func address(_ bytes: [UInt8]) -> String? {
        guard bytes.count == 4 || bytes.count == 16 else { return nil }
        var text = [CChar](repeating: 0, count: Int(INET6_ADDRSTRLEN))
        guard inet_ntop(bytes.count == 4 ? AF_INET : AF_INET6, bytes, &text, socklen_t(text.count)) != nil else {
            return nil
        }
        return String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    /// OpenSSL's own words.
    static func text(_ code: UInt) -> String {
        guard let words = ERR_reason_error_string(code) else { return "error \(code)" }
        return String(cString: words)
    }

    private static func quoted(_ path: String?) -> String { path.map { "\"\($0)\"" } ?? "" }
}

/// The certificates and the key of a session.
enum TLSFiles {
    /// Reads the files into a context.
    static func load(_ settings: RedisTLS, into context: OpaquePointer) throws(TLSRefusal) {
        if let file = settings.authorities {
            try check(file, "the authorities' certificates", "--redis-ca or KIRIE_REDIS_CA")
            guard SSL_CTX_load_verify_locations(context, file, nil) == 1 else {
                throw TLSRefusal(
                    reason: "\(file) holds no certificate of an authority (\(TLSFailures.text(ERR_get_error())))",
                    remedy: "give a PEM file with --redis-ca or KIRIE_REDIS_CA")
            }
        } else {
            SSL_CTX_set_default_verify_paths(context)
        }
        guard let certificate = settings.certificate else {
            guard let key = settings.key else { return }
            throw TLSRefusal(
                reason: "there is a key \(key) and no certificate for it",
                remedy: "name the certificate with --redis-cert or KIRIE_REDIS_CERT")
        }
        try check(certificate, "the client certificate", "--redis-cert or KIRIE_REDIS_CERT")
        guard SSL_CTX_use_certificate_chain_file(context, certificate) == 1 else {
            throw TLSRefusal(
                reason: "\(certificate) holds no certificate (\(TLSFailures.text(ERR_get_error())))",
                remedy: "give a PEM file with --redis-cert or KIRIE_REDIS_CERT")
        }
        let key = settings.key ?? certificate
        try check(key, "the key of the client certificate", "--redis-key or KIRIE_REDIS_KEY")
        guard SSL_CTX_use_PrivateKey_file(context, key, SSL_FILETYPE_PEM) == 1 else {
            let code = ERR_get_error()
            let isOther = ERR_GET_REASON(code) == X509_R_KEY_VALUES_MISMATCH
            throw TLSRefusal(
                reason: isOther
                    ? "the key in \(key) is not that of the certificate in \(certificate)"
                    : "\(key) holds no private key without a passphrase",
                remedy: isOther
                    ? "give the two that were made together"
                    : "give one by --redis-key or KIRIE_REDIS_KEY; `openssl pkey` takes a passphrase off")
        }
        guard SSL_CTX_check_private_key(context) == 1 else {
            throw TLSRefusal(
                reason: "the key in \(key) is not that of the certificate in \(certificate)",
                remedy: "give the two that were made together")
        }
    }

    private static func check(_ path: String, _ what: String, _ option: String) throws(TLSRefusal) {
        guard access(path, R_OK) != 0 else { return }
        throw TLSRefusal(
            reason: "\(what) cannot be read from \(path): \(String(cString: strerror(errno)))",
            remedy: "name a file that this user may read with \(option)")
    }
}

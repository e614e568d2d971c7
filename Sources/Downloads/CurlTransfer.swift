import CCurl
import Glibc

/// libcurl, opened when the first download asks for it.
///
/// Foundation's URLSession does the same work and costs every process 9 ms at its start, downloads or not; libcurl
/// opened late costs nothing, and it is the library that URLSession itself stands on.
///
/// `@unchecked Sendable`: the handle and the addresses are set once and never change; libcurl's easy interface may be
/// used from any thread, a handle by one at a time.
private final class Curl: @unchecked Sendable {
    typealias MakeHandle = @convention(c) () -> UnsafeMutableRawPointer?
    typealias UseHandle = @convention(c) (UnsafeMutableRawPointer) -> Int32
    typealias DropHandle = @convention(c) (UnsafeMutableRawPointer) -> Void
    typealias Describe = @convention(c) (Int32) -> UnsafePointer<CChar>?
    typealias Initialize = @convention(c) (Int) -> Int32

    let makeHandle: MakeHandle
    let perform: UseHandle
    let dropHandle: DropHandle
    let describe: Describe
    let setOption: UnsafeMutableRawPointer
    let getInfo: UnsafeMutableRawPointer

    /// Nil where the library is not installed.
    static let shared = Curl()

    private init?() {
        guard let library = dlopen("libcurl.so.4", RTLD_NOW | RTLD_LOCAL) ?? dlopen("libcurl-gnutls.so.4", RTLD_NOW),
            let initialize = dlsym(library, "curl_global_init"), let makeHandle = dlsym(library, "curl_easy_init"),
            let perform = dlsym(library, "curl_easy_perform"), let dropHandle = dlsym(library, "curl_easy_cleanup"),
            let describe = dlsym(library, "curl_easy_strerror"),
            let setOption = dlsym(library, "curl_easy_setopt"), let getInfo = dlsym(library, "curl_easy_getinfo"),
            unsafeBitCast(initialize, to: Initialize.self)(Int(kirie_curl_global_all)) == 0
        else { return nil }
        self.makeHandle = unsafeBitCast(makeHandle, to: MakeHandle.self)
        self.perform = unsafeBitCast(perform, to: UseHandle.self)
        self.dropHandle = unsafeBitCast(dropHandle, to: DropHandle.self)
        self.describe = unsafeBitCast(describe, to: Describe.self)
        self.setOption = setOption
        self.getInfo = getInfo
    }
}

/// One HTTP GET whose body goes to an open file, from a given offset on.
package final class CurlTransfer {
    /// How a transfer ended.
    package enum Outcome: Equatable {
        /// The server sent all that it announced.
        case complete
        /// The connection could not be made or was cut; another attempt may bring more.
        case interrupted(String)
        /// The server answered with this status and no file.
        case status(Int)
        /// More came than there should be.
        case tooLong
        /// The file could not be written.
        case unwritable(Int32)
        /// libcurl is not installed.
        case noLibrary
        /// The address, or one that it leads on to, is not one that may be fetched.
        case forbiddenAddress
    }

    /// Which machines may be asked.
    package enum Reach: Sendable {
        /// All.
        case everywhere
        /// Those of the public internet: no private, link-local, loopback, multicast or reserved addresses.
        ///
        /// Each connection is judged by the address that it goes to, after its name was looked up and after each redirection, so
        /// that no name can lead elsewhere between the look and the connection.
        case publicAddresses
    }

    private let descriptor: Int32
    private let limit: Int
    private let progress: (Int) -> Void
    /// Where the next byte goes.
    private var offset: Int
    private var writeError: Int32 = 0
    private var isTooLong = false
    /// Nil until the first byte of the body is there.
    private var status: Int?
    private var readStatus: () -> Int = { 0 }

    private init(to descriptor: Int32, at offset: Int, limit: Int, progress: @escaping (Int) -> Void) {
        self.descriptor = descriptor
        self.offset = offset
        self.limit = limit
        self.progress = progress
    }

    /// Fetches `address` into the file, going on from `offset` where the server knows ranges and from 0 where it does
    /// not.
    ///
    /// - Parameters:
    ///   - address: of `http` or `https`, and so is every address that it leads on to, ten at most.
    ///   - descriptor: the file, open for writing.
    ///   - offset: how many bytes of the body the file has already.
    ///   - limit: how many bytes the file may have in the end.
    ///   - reach: which machines may be asked.
    ///   - timeLimit: for all of it, in seconds; nil for any.
    ///   - progress: told how many bytes are there, whenever some arrive.
    /// - Returns: how it ended; only after ``Outcome/complete`` is the file whole.
    package static func run(
        _ address: String, to descriptor: Int32, at offset: Int, limit: Int, reach: Reach = .everywhere,
        timeLimit: Int? = nil, progress: @escaping (Int) -> Void
    ) -> Outcome {
        guard let curl = Curl.shared, let handle = curl.makeHandle() else { return .noLibrary }
        defer { curl.dropHandle(handle) }
        let transfer = CurlTransfer(to: descriptor, at: offset, limit: limit, progress: progress)
        transfer.readStatus = {
            var status = 0
            _ = kirie_curl_get_long(curl.getInfo, handle, Int32(kirie_curl_response_code), &status)
            return status
        }
        func set(_ option: kirie_curl_option, _ value: Int) {
            _ = kirie_curl_set_long(curl.setOption, handle, Int32(option.rawValue), value)
        }
        func set(_ option: kirie_curl_option, _ value: String) {
            _ = kirie_curl_set_pointer(curl.setOption, handle, Int32(option.rawValue), value)
        }
        set(kirie_curl_url, address)
        set(kirie_curl_user_agent, "kirie")
        set(kirie_curl_protocols, Int(kirie_curl_http_and_https))
        set(kirie_curl_redirection_protocols, Int(kirie_curl_http_and_https))
        set(kirie_curl_follow_location, 1)
        set(kirie_curl_max_redirections, 10)
        set(kirie_curl_fail_on_error, 1)
        set(kirie_curl_no_signal, 1)
        set(kirie_curl_connect_timeout, 30)
        // A connection that brings less than a byte a second for half a minute is dead.
        set(kirie_curl_low_speed_limit, 1)
        set(kirie_curl_low_speed_time, 30)
        if let timeLimit { set(kirie_curl_timeout, timeLimit) }
        let refusals = UnsafeMutablePointer<Int32>.allocate(capacity: 1)
        refusals.initialize(to: 0)
        defer { refusals.deallocate() }
        if reach == .publicAddresses {
            // A proxy would look names up for itself.
            set(kirie_curl_proxy, "")
            _ = kirie_curl_set_pointer(curl.setOption, handle, Int32(kirie_curl_open_socket_data.rawValue), refusals)
            _ = kirie_curl_set_public_sockets(curl.setOption, handle)
        }
        if offset > 0 { set(kirie_curl_range, "\(offset)-") }
        _ = kirie_curl_set_receiver(curl.setOption, handle) { bytes, size, count, context in
            guard let context, let bytes else { return 0 }
            let transfer = Unmanaged<CurlTransfer>.fromOpaque(context).takeUnretainedValue()
            let buffer = UnsafeRawBufferPointer(start: bytes, count: Int(size * count))
            return transfer.receive(buffer) ? size * count : 0
        }
        let code = withExtendedLifetime(transfer) {
            _ = kirie_curl_set_pointer(
                curl.setOption, handle, Int32(kirie_curl_write_data.rawValue),
                Unmanaged.passUnretained(transfer).toOpaque())
            return curl.perform(handle)
        }
        if refusals.pointee > 0, code != 0 { return .forbiddenAddress }
        if transfer.writeError != 0 { return .unwritable(transfer.writeError) }
        if transfer.isTooLong { return .tooLong }
        if code == 0 { return .complete }
        let status = transfer.readStatus()
        if status >= 400 { return .status(status) }
        return .interrupted(curl.describe(code).map { String(cString: $0) } ?? "error \(code)")
    }

    /// Writes a piece of the body; false ends the transfer.
    private func receive(_ bytes: UnsafeRawBufferPointer) -> Bool {
        if status == nil {
            status = readStatus()
            // A server that does not know ranges sends the file from its start.
            if status != 206 && offset > 0 {
                guard ftruncate(descriptor, 0) == 0 else {
                    writeError = errno
                    return false
                }
                offset = 0
            }
        }
        guard bytes.count <= limit - offset else {
            isTooLong = true
            return false
        }
        var done = 0
        while done < bytes.count {
            let rest = UnsafeRawBufferPointer(rebasing: bytes[done...])
            let count = pwrite(descriptor, rest.baseAddress, rest.count, offset)
            if count < 0 && errno == EINTR { continue }
            guard count > 0 else {
                writeError = errno
                return false
            }
            done += count
            offset += count
        }
        progress(offset)
        return true
    }
}

import Glibc

/// What the kernel says of this process, by the names that Prometheus's own clients use.
///
/// <https://prometheus.io/docs/instrumenting/writing_clientlibs/#process-metrics>
public enum ProcessMetrics {
    /// The metrics as they stand now; those that this system does not tell are left out.
    public static func collect() -> [CollectedMetric] {
        var metrics: [CollectedMetric] = []
        func gauge(_ name: String, _ help: String, _ value: Double?) {
            if let value { metrics.append(CollectedMetric(.gauge, name, help, value: value)) }
        }
        if let seconds = processorTime {
            metrics.append(
                CollectedMetric(
                    .counter, "process_cpu_seconds_total", "Processor time of the process.", value: seconds))
        }
        gauge("process_resident_memory_bytes", "Memory of the process that is in RAM.", residentBytes)
        gauge("process_start_time_seconds", "When the process began, in seconds since 1970.", startTime)
        gauge("process_open_fds", "Files and sockets that are open.", openDescriptors)
        gauge("process_max_fds", "Files and sockets that may be open.", descriptorLimit)
        return metrics
    }

    private static var processorTime: Double? {
        var usage = rusage()
        guard getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage) == 0 else { return nil }
        func seconds(_ time: timeval) -> Double { Double(time.tv_sec) + Double(time.tv_usec) / 1e6 }
        return seconds(usage.ru_utime) + seconds(usage.ru_stime)
    }

    private static var residentBytes: Double? {
        // Pages: all, in RAM, …
        guard let words = read("/proc/self/statm")?.split(separator: " "), words.count > 1, let pages = Double(words[1])
        else { return nil }
        return pages * Double(sysconf(Int32(_SC_PAGESIZE)))
    }

    private static var startTime: Double? {
        // The second word is the program's name in parentheses, which may hold anything; the 20th after it is ours.
        guard let text = read("/proc/self/stat"), let name = text.lastIndex(of: ")") else { return nil }
        let words = text[name...].split(separator: " ")
        guard words.count > 20, let ticks = Double(words[20]) else { return nil }
        let sinceBoot = ticks / Double(sysconf(Int32(_SC_CLK_TCK)))
        guard let uptime = read("/proc/uptime")?.split(separator: " ").first.flatMap({ Double($0) }) else { return nil }
        var time = timeval()
        gettimeofday(&time, nil)
        let now = Double(time.tv_sec) + Double(time.tv_usec) / 1e6
        return ((now - uptime + sinceBoot) * 100).rounded() / 100
    }

    private static var openDescriptors: Double? {
        guard let folder = opendir("/proc/self/fd") else { return nil }
        defer { closedir(folder) }
        var count = 0
        while readdir(folder) != nil { count += 1 }
        // Without `.`, `..` and the descriptor that looked.
        return Double(max(0, count - 3))
    }

    private static var descriptorLimit: Double? {
        var limit = rlimit()
        guard getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { return nil }
        return Double(limit.rlim_cur)
    }

    /// A small file of the kernel's.
    private static func read(_ path: String) -> String? {
        guard let file = fopen(path, "r") else { return nil }
        defer { fclose(file) }
        var bytes = [UInt8](repeating: 0, count: 4096)
        let count = fread(&bytes, 1, bytes.count, file)
        return String(decoding: bytes.prefix(count), as: UTF8.self)
    }
}

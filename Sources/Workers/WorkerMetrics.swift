import Cluster
import CoreMetrics
import Embeddings
import Platform

/// What workers count; the names and meanings are what dashboards read.
public enum WorkerMetrics {
    /// The meaning of each name.
    public static let help = [
        "kirie_encodes_total": "Pictures taken to encode, by outcome; kept: it was in the folder of --cache-dir.",
        "kirie_encode_seconds": "Time of the image encoder for one picture.",
        "kirie_jobs_total": "Jobs taken to decode, by outcome.",
        "kirie_prompts_total": "Prompts decoded.",
        "kirie_batch_jobs": "Jobs that one take brought together.",
        "kirie_decode_seconds": "Time of the mask decoder for one batch, masks at full size included.",
        "kirie_embedding_fetches_total": "Embeddings that a decoder fetched from Redis.",
        "kirie_embedding_hits_total": "Batches whose embedding was in the decoder's memory.",
        "kirie_embedding_misses_total": "Embeddings that were gone when a decoder came for them.",
        "kirie_embedding_evictions_total": "Images that left the decoder's memory for others, or do not fit.",
        "kirie_published_bytes_total": "Bytes of the embeddings that an encoder made.",
        "kirie_cache_dir_hits_total": "Embeddings that were found in the folder of --cache-dir.",
        "kirie_cache_dir_misses_total": "Embeddings that were not in the folder of --cache-dir.",
        "kirie_cache_dir_damaged_total": "Files of the folder of --cache-dir that were damaged, and were put aside.",
        "kirie_cache_dir_faults_total": "Embeddings that the folder of --cache-dir did not take.",
        "kirie_cache_dir_written_bytes_total": "Bytes of embeddings that went to the folder of --cache-dir.",
        "kirie_cache_dir_bytes": "Bytes of all embeddings in the folder of --cache-dir.",
        "kirie_cached_images": "Images in the decoder's memory.",
        "kirie_cached_bytes": "Bytes of the images in the decoder's memory.",
        "kirie_load": "Pieces of work in hand.",
        "kirie_capacity": "Pieces of work that fit.",
        "kirie_owned_partitions": "Partitions that are this worker's own.",
        "kirie_heartbeat_age_seconds": "Since Redis last confirmed a heartbeat.",
        "kirie_errors_total": "Faults that the worker went on from.",
        "kirie_waits_total": "Pauses with work in hand, because Redis could not take it.",
        "kirie_demand": "What all workers of this role and model have to do: what waits, and what is in work.",
    ]

    /// Lets what a role counts begin at zero: of a counter that appears with its first event Prometheus sees no growth.
    static func begin(_ role: WorkerHeartbeat.Role) {
        var counters = ["kirie_errors_total", "kirie_waits_total"]
        switch role {
        case .encoder:
            counters.append("kirie_published_bytes_total")
            for outcome in ["embedding", "kept", "unusable", "faulty", "abandoned"] {
                Counter(label: "kirie_encodes_total", dimensions: [("outcome", outcome)]).increment(by: 0)
            }
        case .decoder:
            counters += [
                "kirie_prompts_total", "kirie_embedding_hits_total", "kirie_embedding_fetches_total",
                "kirie_embedding_misses_total", "kirie_embedding_evictions_total",
            ]
            for outcome in ["done", "unusable", "faulty", "missing_embedding"] {
                Counter(label: "kirie_jobs_total", dimensions: [("outcome", outcome)]).increment(by: 0)
            }
        case .gateway: break
        }
        for name in counters { Counter(label: name).increment(by: 0) }
    }

    /// The same of a folder, where there is one.
    static func beginFolder(bytes: Int?) {
        for name in ["hits", "misses", "damaged", "faults", "written_bytes"] {
            Counter(label: "kirie_cache_dir_\(name)_total").increment(by: 0)
        }
        set("kirie_cache_dir_bytes", Double(bytes ?? 0))
    }

    static func lookedUp(_ finding: EmbeddingFolder.Finding) {
        let name =
            switch finding {
            case .record: "hits"
            case .absent: "misses"
            case .damaged: "damaged"
            }
        Counter(label: "kirie_cache_dir_\(name)_total").increment()
    }

    static func kept(bytes: Int, total: Int?) {
        Counter(label: "kirie_cache_dir_written_bytes_total").increment(by: bytes)
        if let total { set("kirie_cache_dir_bytes", Double(total)) }
    }

    static func notKept() { Counter(label: "kirie_cache_dir_faults_total").increment() }

    static func encoded(_ outcome: String) {
        Counter(label: "kirie_encodes_total", dimensions: [("outcome", outcome)]).increment()
    }

    static func encodeTook(_ time: Duration) {
        Timer(label: "kirie_encode_seconds").recordNanoseconds(time.nanoseconds)
    }

    static func published(bytes: Int) { Counter(label: "kirie_published_bytes_total").increment(by: bytes) }

    static func evicted(_ images: Int) { Counter(label: "kirie_embedding_evictions_total").increment(by: images) }

    static func decoded(jobs: Int, prompts: Int, in time: Duration) {
        Counter(label: "kirie_prompts_total").increment(by: prompts)
        Recorder(label: "kirie_batch_jobs", aggregate: true).record(jobs)
        Timer(label: "kirie_decode_seconds").recordNanoseconds(time.nanoseconds)
    }

    static func job(_ outcome: String) {
        Counter(label: "kirie_jobs_total", dimensions: [("outcome", outcome)]).increment()
    }

    static func lookedUp(_ outcome: PreparedImages.Outcome) {
        let name =
            switch outcome {
            case .hit: "kirie_embedding_hits_total"
            case .fetched: "kirie_embedding_fetches_total"
            case .missing: "kirie_embedding_misses_total"
            }
        Counter(label: name).increment()
    }

    static func demand(_ amount: Int, role: String, model: String) {
        Gauge(label: "kirie_demand", dimensions: [("role", role), ("model", model)]).record(Double(amount))
    }

    static func waited() { Counter(label: "kirie_waits_total").increment() }

    static func failed() { Counter(label: "kirie_errors_total").increment() }

    /// How old the last confirmed heartbeat is now.
    public static func heartbeat(age: Duration) { set("kirie_heartbeat_age_seconds", age / .seconds(1)) }

    static func set(_ name: String, _ value: Double) { Gauge(label: name).record(value) }
}

#!lua name=kirie
--[[
Kirie's protocol: the atomic steps of the cluster as one library of Redis Functions (Redis 7.0 or later).
A script in any language calls them with FCALL; Kirie's own workers and commands use nothing else.

CALLING
  FCALL <function> 1 <prefix> <arguments…>, where <prefix> is KEYS[1]: "kirie:{3}:" for partition 3.
  The first word is the namespace; several clusters may share one Redis under different namespaces. Every key that a
  function touches is <prefix> followed by a name listed below, so all of them carry the hash tag {p} and lie in one
  slot: the library runs on Redis Cluster as it is (load it on each primary). `kirie_version` alone takes no key.
  Partition of an image: the first 8 hexadecimal digits of the SHA-256 of its file, as a number, modulo P. P is the
  field "partitions" of the hash kirie:cluster (16 if absent).
  Embedding key = <image sha256, 64 hex digits>:<model>, where <model> (at most 64 of A-Z a-z 0-9 . _ : -) names
  weights, preprocessing and dtype. Workers publish theirs in the hash kirie:models; field "default" is the usual one.
  A job id (at most 128 of A-Z a-z 0-9 . _ : @ / + -, behind <tenant>~ where it is a tenant's) is unique within its
  partition.
  Errors are replies whose first word is a code: BADCALL (wrong arguments), BACKPRESSURE, NOIMAGE, BADJOB, CONFLICT.
  Redis's own mean: come back later. OOM: maxmemory is reached; only functions that free memory go on, kirie_room among
  them. MISCONF: the disk is full. READONLY, MASTERDOWN: a replica. LOADING, BUSY, CLUSTERDOWN, TRYAGAIN, NOREPLICAS. None
  of them is a fault of a job: workers wait them out with what they hold, and no attempt is counted.
  ASK (a slot of a Redis Cluster is being moved): do not follow it, but call again until the slot has moved. The key that is
  named, <prefix>, does not exist, so Redis sends every call to the node that has only a part of the keys yet.
  A function checks its arguments before it writes; the work of one call is bounded, however long the queues are.

ACCESS
  ACL rules hold inside a function too, so a role needs its functions, the commands below them and the keys:
    submitter  ~kirie:* &kirie:* +@read +@write +@blocking +@pubsub +@connection +@stream +time +fcall_ro
               +fcall|kirie_submit +fcall|kirie_image +fcall|kirie_cancel +fcall|kirie_janitor +fcall|kirie_room
               +fcall|kirie_admit
    encoder    the same, with +fcall|kirie_take +fcall|kirie_renew +fcall|kirie_ready +fcall|kirie_ready_full
               +fcall|kirie_release +fcall|kirie_fail +fcall|kirie_return +fcall|kirie_janitor +fcall|kirie_prepare
               +fcall|kirie_room instead
    decoder    the same, with +fcall|kirie_take +fcall|kirie_renew +fcall|kirie_complete +fcall|kirie_complete_full
               +fcall|kirie_missing +fcall|kirie_divide +fcall|kirie_keep +fcall|kirie_fail +fcall|kirie_return
               +fcall|kirie_janitor +fcall|kirie_prepare +fcall|kirie_room instead
    monitor    %R~kirie:* &kirie:* +@read +@pubsub +@connection +time +fcall_ro
    operator   the submitter's, with +fcall +function +info: loads this library, changes limits
  On a Redis Cluster each also needs +cluster|slots. End each rule with -@dangerous (and then +info for whom Kirie checks
  the server's settings). Whoever may write the keys can bypass the functions: the roles guard against mistakes, not against
  an enemy who holds a password.

JOBS                       submit
              embedding there │  not there
                   ┌──────────┴───────────┐
                   │                      ▼
                   │   ready   ┌───────────────────┐  encode failed for good: failed or dead
                   ├◀──────────│ waiting_embedding │──────────────────────────────────────────▶ failed · dead
                   ▼           └───────────────────┘
              ┌────────┐  take           ▲ missing (the embedding was evicted; bounded by "misses")
              │ queued │────────▶┌─────────┐
              └────────┘◀────────│ in_work │──▶ done (complete) · failed (not retryable) · dead (attempts used up)
                   ▲    return   └─────────┘
                   └── fail (retryable): after a backoff; lease ran out: at once
  A job that is done in parts goes from in_work (divide) to waiting_parts, and is queued again when the last part is done.
  cancelled and expired are reached from each state that is not terminal. Terminal states never change, except that
  kirie_dead_retry brings a dead job back, and that an id without a result may be submitted anew. Results, jobs and their
  lists end "retention_ms" after the job did. A lease that ran out counts as an attempt until its holder is heard of again
  (renew, complete, fail, return): whoever only lost the connection was not killed by what it held.

ENCODES IN FLIGHT (one for each embedding key: single flight)
     first job on a key ──▶ queued ── take ──▶ in_work ── ready ──▶ gone; parked jobs go to the decode stream
                              ▲  ▲                │
                              │  └ lease ran out, return      └ fail (not retryable) ─▶ failed ┐ parked jobs end so,
                              └── backoff ── delayed ◀ fail     attempts used up ─────▶ dead   ┘ in bounded chunks

STREAMS AND ENTRIES
  What waits for workers is an entry of a stream with a consumer group, so that XINFO, XPENDING and autoscalers understand
  it: {job, try} on decode streams, {key, try} on encode streams. Each queued job and each queued encode has exactly one,
  and its hash names it; whatever leaves the queue, by a take, a cancel or its deadline, takes its entry along. A job on its
  first try also stands in the sorted set ready:<lane>:<key>: an entry of a decode stream with try = 0 brings the next jobs
  of that image along, up to the batch size; the batch keeps that one entry, and those of the others go. A job that failed
  before is taken alone (try > 0): a job that kills its worker drags no other along. Hence: XLEN = queued jobs + batches in
  work. A worker that serves only some model sets the entries of others aside, on <stream>:<model>, where their own workers
  look first. An entry of other fields (written by hand) goes to the dead letters. kirie_demand says for each model how
  much there is to do, wherever the entries stand.

TENANTS
  Those who share a cluster. A job is of the tenant that stands before its id, <tenant>~<id>, else of the default tenant,
  which is all there is until somebody names another. Each tenant has streams of its own, <stage>:<lane>@<tenant>, which are
  there while something stands in them. Within a stage and lane of a partition tenants take turns by start-time fair
  queueing: whoever has something to do gets a share by its weight (kirie_tenant), a job of a batch or a picture counting
  as one. Who has had nothing to do begins with the others: no turns are saved up. An encode is charged to who asked for it first;
  it stands in the line of the one with fewer before it. Nobody but who has sent a picture's bytes may name it by its hash: to
  others, it and its embedding are not there. Who has sent them shares the embedding that is there, so how long the answer
  takes may tell that somebody had it encoded before: who may not know that needs a cluster, or a --namespace, apart.
  Pictures from before the first tenant's in a partition are the default tenant's, which has to send those once more, too,
  that it names by their hash from then on.

WHICH LANE FIRST
  Interactive before bulk; but after "streak" (8) interactive takes in a row while bulk waited, one take is bulk's. So
  bulk gets at least one take of nine in each partition, on encode and decode streams alike.

TIME
  One clock: the server's TIME. Timestamps are microseconds since 1970. Leases and backoffs do not run on it but on
  the partition's lease clock, which goes forward with TIME but by at most "clock_step_ms" (2 s) between two calls, and
  never back: when the server's clock jumps, or Redis was away for an hour, a lease loses at most that much, and workers
  find time to renew. Workers call kirie_janitor at least once a second, which keeps the lease clock going.
  A lease that ran out stays with its holder until somebody reclaims it: only then is its token void.

WAKING
  PUBLISH <namespace>:wake:encode|decode <p> when a stream that was short got work (pub/sub reaches every node of a Redis
  Cluster, where a blocking read on sixteen slots would need sixteen connections). A worker takes until it is told
  "idle", then waits for a message, or a second, whichever is first: a lost message costs a second, never a job.
  PUBLISH <namespace>:{p}:events "<id> <state>" for every job that ended; <namespace>:reply:<client> the same, where the
  job named a client, and of a job that is done "<id> done <result>" if the result has at most 32 KiB. To block without
  pub/sub: the list done:<id> gets the state (BLMOVE it onto itself to leave it for others), the list reply:<client> gets
  "<id> <state>" of each job of that client.

KEYS, each behind the prefix
  encode:<lane>, decode:<lane>   streams, groups "encoders" and "decoders"; lane = interactive | bulk; …@<tenant>
  image:<sha>                    the file's bytes; has a TTL only while no unfinished job needs it, nor did just now
  embedding:<key>                the record, with a TTL: what may be evicted. Without one while it is pinned
  candidates:<key>/<what>        what everything mode found, with a TTL: may be evicted
  job:<id>                       hash: state, lane, image, model, attempts, submitted, started, finished, error, …
  line:<id>                      the job line (JSON) and the note behind it, until the job ended
  result:<id>, done:<id>         the result; the list to block on
  parts:<id>                     list of the jobs that a job is done in
  reply:<client>                 list, the last 100,000 endings of that client's jobs
  waiting:<key>                  zset of the jobs parked until that embedding is there, in the order in which they came
  encoding:<key>, encodings      hash of the encode in flight; zset of keys by start
  ready:<lane>:<key>             zset of queued jobs on one image on their first try, in that order; ready:<lane>@<tenant>:…
  leases, delayed                zsets by lease clock: d:<job>, e:<key> (and r:<key>: a release to be continued)
  deadlines, ends                zsets by TIME in ms: when a job expires; when what is left of it is removed (j:, l:),
                                 and when an image gets its TTL unless a job needs it by then (i:)
  refs                           hash: unfinished jobs per image, 0 for one in its grace; and b:<sha> its bytes; and
                                 p:<key> of a pinned embedding: its jobs, its bytes, the ms it had to live; and
                                 t:<sha> the tenant that those bytes are charged to
  idle:image, idle:embedding, …  zsets of what kirie_room may drop, by TIME in ms
  demand                         hash: <stage>:<model>, how much there is to do
  counters, rates                hash of gauges, totals, histograms; list of samples of the totals, 5 s apart
  clock, turn, limits            hashes: lease clock; whose turn; settings (see SETTINGS)
  dead                           stream of dead letters
  fair:<stage>:<lane>, shares:…  zset of tenants that may have something to do, by tag; hash of where their last takes end
  known:<tenant>                 zset of the pictures that a tenant may name by their hash, by TIME in ms
  tenants:jobs, tenants:bytes    zsets of tenants by what they have here; hash tenants:totals of <tenant>:<total>
  weights, quotas, spent:…       hashes: weights; at home "<weight> <jobs> <bytes> <rate>"; tokens of the rate
]]


#!lua name=kirie
--[[
Kirie's protocol: the atomic steps of the cluster as one library of Redis Functions (Redis 7.0 or later).
A script in any language calls them with FCALL; Kirie's own workers and commands use nothing else.

CALLING
  FCALL <function> 1 <prefix> <arguments…>        <prefix> is KEYS[1]: "kirie:{3}:" for partition 3.
  The first word is the namespace; several clusters may share one Redis under different namespaces. Every key that a
  function touches is <prefix> followed by a name listed below, so all of them carry the hash tag {p} and lie in one
  slot: the library runs on Redis Cluster as it is (load it on each primary). `kirie_version` alone takes no key.
  Partition of an image: the first 8 hexadecimal digits of the SHA-256 of its file, as a number, modulo P. P is the
  field "partitions" of the hash kirie:cluster (16 if absent).
  Embedding key = <image sha256, 64 hex digits>:<model>, where <model> (at most 64 of A-Z a-z 0-9 . _ : -) names
  weights, preprocessing and dtype. Workers publish theirs in the hash kirie:models; field "default" is the usual one.
  A job id (at most 128 of A-Z a-z 0-9 . _ : @ / + -) is unique within its partition.
  Errors are replies whose first word is a code: BADCALL (wrong arguments), BACKPRESSURE, NOIMAGE, BADJOB, CONFLICT.
  Redis's own mean: come back later. OOM: maxmemory is reached; only functions that free memory go on, kirie_room among
  them. MISCONF: the disk is full. READONLY, MASTERDOWN: a replica. LOADING, BUSY, CLUSTERDOWN, TRYAGAIN, NOREPLICAS. None
  of them is a fault of a job: workers wait them out with what they hold, and no attempt is counted.
  A function checks its arguments before it writes; the work of one call is bounded, however long the queues are.

ACCESS
  ACL rules hold inside a function too, so a role needs its functions, the commands below them and the keys:
    submitter  ~kirie:* &kirie:* +@read +@write +@blocking +@pubsub +@connection +@stream +time +fcall_ro
               +fcall|kirie_submit +fcall|kirie_image +fcall|kirie_cancel +fcall|kirie_janitor +fcall|kirie_room
    encoder    the same, with +fcall|kirie_take +fcall|kirie_renew +fcall|kirie_ready +fcall|kirie_ready_full
               +fcall|kirie_release +fcall|kirie_fail +fcall|kirie_return +fcall|kirie_janitor +fcall|kirie_room instead
    decoder    the same, with +fcall|kirie_take +fcall|kirie_renew +fcall|kirie_complete +fcall|kirie_complete_full
               +fcall|kirie_missing +fcall|kirie_fail +fcall|kirie_return +fcall|kirie_janitor +fcall|kirie_room instead
    monitor    %R~kirie:* &kirie:* +@read +@pubsub +@connection +time +fcall_ro
    operator   the submitter's, with +fcall +function +info: loads this library, changes limits
  On a Redis Cluster each also needs +cluster|slots. End each rule with -@dangerous (and then +info for whom Kirie checks
  the server's settings). Whoever may write the
  keys can bypass the functions: the roles guard against mistakes, not against an enemy who holds a password.

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
  cancelled and expired are reached from each state that is not terminal. Terminal states never change, except that
  kirie_dead_retry brings a dead job back, and that an id without a result may be submitted anew. Results, jobs and their
  lists end "retention_ms" after the job did. A lease that ran out counts as an attempt until its holder is heard of again
  (renew, complete, fail, return): whoever only lost the connection was not killed by what it held.

FLIGHTS (one encode per embedding key: single flight)
     first job on a key ──▶ queued ── take ──▶ in_work ── ready ──▶ gone; parked jobs go to their decode lines
                              ▲  ▲                │
                              │  └ lease ran out, return      └ fail (not retryable) ─▶ failed ┐ parked jobs end so,
                              └── backoff ── delayed ◀ fail     attempts used up ─────▶ dead   ┘ in bounded chunks

LINES AND TICKETS
  The lines are streams with consumer groups, so that XINFO, XPENDING and autoscalers understand them. An entry is a
  ticket: {job, try} on decode lines, {key, try} on encode lines. Each job in line and each encode in line has exactly one,
  and its hash names it; whatever leaves the line, by a take, a cancel or its deadline, takes its ticket along. A job on its
  first try also stands in the sorted set ready:<lane>:<key>: a decode ticket with try = 0 brings the next jobs of that
  image along, up to the batch size; the batch keeps that one ticket, and those of the others go. A job that failed before is
  taken alone (try > 0): a job that kills its worker drags no other along. Hence: XLEN = jobs in line + batches in work.
  A worker that serves only some model puts the tickets of others aside, on <line>:<model>, where their own workers
  look first. An entry that is no ticket (written by hand) goes to the dead letters. kirie_demand says for each model how
  much there is to do, wherever the tickets stand.

WHICH LANE FIRST
  Interactive before bulk; but after "streak" (8) interactive takes in a row while bulk waited, one take is bulk's. So
  bulk gets at least one take of nine in each partition, on encode and decode lines alike.

TIME
  One clock: the server's TIME. Timestamps are microseconds since 1970. Leases and backoffs do not run on it but on
  the partition's lease clock, which goes forward with TIME but by at most "clock_step_ms" (2 s) between two calls, and
  never back: when the server's clock jumps, or Redis was away for an hour, a lease loses at most that much, and workers
  find time to renew. Workers call kirie_janitor at least once a second, which keeps the lease clock going.
  A lease that ran out stays with its holder until somebody reclaims it: only then is its token void.

WAKING
  PUBLISH <namespace>:wake:encode|decode <p>    when a line that was short got work (pub/sub reaches every node of a
  Redis Cluster, where a blocking read on sixteen slots would need sixteen connections). A worker takes until it is told
  "idle", then waits for a message, or a second, whichever is first: a lost message costs a second, never a job.
  PUBLISH <namespace>:{p}:events "<id> <state>" for every job that ended; <namespace>:reply:<client> the same, where the
  job named a client, and of a job that is done "<id> done <result>" if the result has at most 32 KiB. To block without pub/sub: the list done:<id> gets the state (BLMOVE it onto itself to leave it
  for others), the list reply:<client> gets "<id> <state>" of each job of that client.

KEYS, each behind the prefix
  encode:<lane>, decode:<lane>   streams, groups "encoders" and "decoders"; lane = interactive | bulk
  image:<sha>                    the file's bytes; has a TTL only while no unfinished job needs it, nor did just now
  embedding:<key>                the record, with a TTL: what may be evicted. Without one while it is pinned
  job:<id>                       hash: state, lane, image, model, attempts, submitted, started, finished, error, …
  line:<id>                      the job line (JSON) and the note behind it, until the job ended
  result:<id>, done:<id>         the result; the list to block on
  reply:<client>                 list, the last 100,000 endings of that client's jobs
  waiting:<key>                  zset of the jobs parked until that embedding is there, in the order in which they came
  flight:<key>, flights          hash of the running encode; zset of keys by start
  ready:<lane>:<key>             zset of jobs in line on one image on their first try, in that order
  leases, delayed                zsets by lease clock: d:<job>, e:<key> (and r:<key>: a release to be continued)
  deadlines, ends                zsets by TIME in ms: when a job expires; when what is left of it is removed (j:, l:),
                                 and when an image gets its TTL unless a job needs it by then (i:)
  refs                           hash: unfinished jobs per image, 0 for one in its grace; and b:<sha> its bytes; and
                                 p:<key> of a pinned embedding: its jobs, its bytes, the ms it had to live
  idle:image, idle:embedding     zsets of what kirie_room may drop, by TIME in ms
  demand                         hash: <stage>:<model>, how much there is to do
  counters, rates                hash of gauges, totals, histograms; list of samples of the totals, 5 s apart
  clock, turn, limits            hashes: lease clock; whose turn; settings (see SETTINGS)
  dead                           stream of dead letters
]]

local PROTOCOL, REVISION = 1, 5

-- SETTINGS: fields of the hash <prefix>limits, each with its default, its least and its greatest value. kirie_limits
-- changes them at once; of what else is written there the functions learn within a second, and take what lies outside
-- these bounds for the nearest that does not.
local COUNT, BYTES, TIME = 1e9, 1e15, 1e13
local SETTINGS = {
    ['jobs:interactive'] = { 131072, 0, COUNT }, ['jobs:bulk'] = { 131072, 0, COUNT },  -- unfinished jobs of a lane
    ['bytes:interactive'] = { 134217728, 0, BYTES },    -- and the bytes of their lines
    ['bytes:bulk'] = { 134217728, 0, BYTES },
    image_bytes = { 1073741824, 0, BYTES },     -- images, and pinned embeddings, that unfinished jobs need
    result_bytes = { 1073741824, 0, BYTES },    -- what is kept of ended jobs: results, and KEPT for each
    dead_bytes = { 67108864, 0, BYTES },        -- what is kept of dead jobs
    dead = { 1000, 0, COUNT },                  -- dead letters kept
    attempts = { 5, 1, 1e6 },                   -- takes before a job or an encode is dead
    misses = { 200, 0, COUNT },                 -- evictions a job survives
    retention_ms = { 3600000, 0, TIME },        -- what is left of a job stays so long
    image_ttl_ms = { 600000, 1, TIME },         -- an image that no job needs
    image_grace_ms = { 2000, 0, TIME },         -- how long it must be so before that time begins
    backoff_ms = { 500, 1, TIME }, backoff_max_ms = { 60000, 1, TIME },
    streak = { 8, 1, COUNT }, clock_step_ms = { 2000, 100, TIME }, chunk = { 200, 1, 10000 },
    partitions = { 0, 0, 16384 },               -- P, to check that an image belongs here; 0 = do not check
}

local TERMINAL = { done = true, failed = true, dead = true, cancelled = true, expired = true }
local LANES = { 'interactive', 'bulk' }
local IS_LANE = { interactive = true, bulk = true }
local GROUP = { encode = 'encoders', decode = 'decoders' }
local BELL = {
    ['queued:interactive'] = 'decode', ['queued:bulk'] = 'decode',
    ['encode_queued:interactive'] = 'encode', ['encode_queued:bulk'] = 'encode',
}
local SEARCH = 64               -- tickets one take looks at
local BATCH = 1024              -- jobs one call may name
local LINE_BYTES = 8388608      -- of one job
local SEPARATOR = '\30'         -- between a job line and the note behind it
local NOTE_BYTES = 49152        -- the longest note that is kept
local PUSHED = 32768            -- bytes of a result that goes along with the news of it
local KEPT = 512                -- what an ended job takes beside its result, and a dead letter beside its line
local MARK = 64                 -- a shorter record is a mark: the embedding lies in another Redis
local OVERDRAFT = 4194304       -- bytes of results that a partition may add to a Redis that is full

-- ---------------------------------------------------------------------------------------------------------------------
-- One call: its keys, its time, and the counters that it moves (written once, at the end).

local function refusal(code, text) return redis.error_reply(code .. ' ' .. text) end

local function table_of(flat)
    if not flat or #flat == 0 then return nil end
    local fields = {}
    for i = 1, #flat, 2 do fields[flat[i]] = flat[i + 1] end
    return fields
end

local function load(key) return table_of(redis.call('HGETALL', key)) end

-- Whole numbers up to 2^53, where tostring would write an exponent; %d costs a fifth of %.0f.
local function micros(n) return string.format('%d', n) end

-- Settings as they were last read, by prefix: most calls need some, and they hardly ever change.
local remembered, remembered_count = {}, 0

local function setting(c, name)
    if not c.set then
        local last = remembered[c.k]
        if not last or c.ms < last.at or c.ms - last.at > 1000 then
            if not last then remembered_count = remembered_count + 1 end
            if remembered_count > 4096 then remembered, remembered_count = {}, 1 end
            last = { at = c.ms, set = load(c.k .. 'limits') or {} }
            remembered[c.k] = last
        end
        c.set = last.set
    end
    local bounds = SETTINGS[name]
    return math.min(math.max(tonumber(c.set[name]) or bounds[1], bounds[2]), bounds[3])
end

local function set(c, fields)
    redis.call('HSET', c.k .. 'limits', unpack(fields))
    if remembered[c.k] then remembered[c.k].at = -math.huge end
    c.set = nil
end

local function count(c, name, n) c.add[name] = (c.add[name] or 0) + (n or 1) end

-- What a model's workers of a stage have to do: what waits for them and what they hold.
local function demand(c, stage, model, n)
    local name = stage .. ':' .. model
    c.demand[name] = (c.demand[name] or 0) + n
end

-- Quarter octaves of microseconds: bucket b holds 2^(b/4) <= t < 2^((b+1)/4).
local function observe(c, series, from)
    local t = c.us - (tonumber(from) or c.us)
    count(c, 'hist:' .. series .. ':' .. (t > 1 and math.floor(4 * math.log(t) / math.log(2) + 1e-9) or 0))
end

local function open(keys)
    local prefix = keys[1] or ''
    local namespace, p = string.match(prefix, '^([%w._/-]+):{(%d+)}:$')
    if not namespace or #keys ~= 1 then
        return nil, refusal('BADCALL', 'one key is expected, the prefix of a partition, such as kirie:{0}:')
    end
    local time = redis.call('TIME')
    local us = time[1] * 1000000 + time[2]
    return {
        k = prefix, namespace = namespace, p = p, us = us, now = micros(us), ms = math.floor(us / 1000),
        add = {}, bells = {}, counters = {}, demand = {},
    }
end

-- Counters as they stand in Redis, before this call's own; each is read once.
local function counters(c, names)
    local missing = {}
    for _, name in ipairs(names) do
        if not c.counters[name] then missing[#missing + 1] = name end
    end
    if #missing > 0 then
        local held = redis.call('HMGET', c.k .. 'counters', unpack(missing))
        for i, name in ipairs(missing) do c.counters[name] = tonumber(held[i]) or 0 end
    end
    return c.counters
end

local function close(c)
    local names = {}
    for name, n in pairs(c.add) do
        if n ~= 0 then names[#names + 1] = name end
    end
    if #names > 0 then
        local held, fields = counters(c, names), {}
        for i, name in ipairs(names) do
            local before, n = held[name], c.add[name]
            fields[i * 2 - 1], fields[i * 2] = name, micros(before + n)
            -- Not only on an empty line: a bell too many costs nothing, one too few costs a second.
            if n > 0 and before < 16 and BELL[name] then c.bells[BELL[name]] = true end
        end
        redis.call('HSET', c.k .. 'counters', unpack(fields))
    end
    for name, n in pairs(c.demand) do
        if n ~= 0 and redis.call('HINCRBY', c.k .. 'demand', name, micros(n)) <= 0 then
            redis.call('HDEL', c.k .. 'demand', name)
        end
    end
    for stage in pairs(c.bells) do redis.call('PUBLISH', c.namespace .. ':wake:' .. stage, c.p) end
end

local function register(name, body, flags)
    local function callback(keys, args)
        local c, problem = open(keys)
        if not c then return problem end
        -- Redis rolls nothing back: whatever goes wrong in the body, the counters of what was done are written.
        local fine, reply = pcall(body, c, args)
        close(c)
        if not fine then
            return redis.error_reply('ERR ' .. name .. ': ' .. tostring(type(reply) == 'table' and reply.err or reply))
        end
        return reply
    end
    redis.register_function { function_name = name, callback = callback, flags = flags or {} }
end

-- The lease clock, in ms. Written only when it moved, so that a busy partition does not write it with each call.
local function lease_clock(c)
    if c.lease then return c.lease end
    local saved = redis.call('HMGET', c.k .. 'clock', 'wall', 'lease')
    local wall, lease = tonumber(saved[1]), tonumber(saved[2])
    local moved = c.ms - (wall or 0)
    if not lease then
        lease = c.ms
    elseif moved > 100 then
        lease = lease + math.min(moved, setting(c, 'clock_step_ms'))
    elseif moved > 0 then
        lease = lease + moved
    end
    if moved < 0 or moved >= 20 then redis.call('HSET', c.k .. 'clock', 'wall', micros(c.ms), 'lease', micros(lease)) end
    c.lease = lease
    return lease
end

local function split(key) return string.sub(key, 1, 64), string.sub(key, 66) end
local function is_sha(s) return #s == 64 and not string.find(s, '[^0-9a-f]') end
local function is_model(s) return #s > 0 and #s <= 64 and not string.find(s, '[^%w._:-]') end
local function is_id(s) return #s > 0 and #s <= 128 and not string.find(s, '[^%w._:@/+-]') end
local function is_key(s)
    return #s > 65 and string.sub(s, 65, 65) == ':' and is_sha(string.sub(s, 1, 64)) and is_model(string.sub(s, 66))
end
local function key_of(job) return job.image .. ':' .. job.model end

local function bounded(name, text)
    local n, bounds = tonumber(text), SETTINGS[name]
    return bounds and n and n == math.floor(n) and n >= bounds[2] and n <= bounds[3]
end

local function whole(text, low, high)
    local n = tonumber(text)
    if not n or n ~= math.floor(n) or n < low or n > high then return nil end
    return n
end

-- ---------------------------------------------------------------------------------------------------------------------
-- Images: counted by the unfinished jobs that need them.

-- `bytes`: of the image, where the caller knows that no job needed it so far.
local function need_image(c, sha, bytes)
    if not bytes then
        if redis.call('HEXISTS', c.k .. 'refs', sha) == 1 then
            redis.call('HINCRBY', c.k .. 'refs', sha, '1')
            return
        end
        bytes = redis.call('STRLEN', c.k .. 'image:' .. sha)
    end
    if bytes > 0 then
        redis.call('PERSIST', c.k .. 'image:' .. sha)
        redis.call('HSET', c.k .. 'refs', sha, '1', 'b:' .. sha, micros(bytes))
        count(c, 'image_bytes', bytes)
    else
        redis.call('HSET', c.k .. 'refs', sha, 1)
    end
end

-- Counts a job that needs the image no more; returns what is to stand in `ends` where it was the last one. Whoever clicks
-- on a picture does so again and again: only a while later is the image given its time, by the janitor.
local function release_image(c, sha)
    if redis.call('HINCRBY', c.k .. 'refs', sha, '-1') > 0 then return {} end
    return { micros(c.ms + setting(c, 'image_grace_ms')), 'i:' .. sha }
end

-- What may be dropped when memory is short and Redis evicts nothing by itself: images and embeddings by when they were
-- last known to be of use. Members whose keys are gone go by the way: each addition looks at two, so that they never come to
-- be more than the others.
local function may_go(c, kind, name)
    local set = c.k .. 'idle:' .. kind
    redis.call('ZADD', set, micros(c.ms), name)
    for _, other in ipairs(redis.call('ZRANDMEMBER', set, 2)) do
        if redis.call('EXISTS', c.k .. kind .. ':' .. other) == 0 then redis.call('ZREM', set, other) end
    end
end

local function let_image_go(c, sha)
    local held = redis.call('HMGET', c.k .. 'refs', sha, 'b:' .. sha)
    if held[1] ~= '0' then return false end
    redis.call('HDEL', c.k .. 'refs', sha, 'b:' .. sha)
    if held[2] then
        count(c, 'image_bytes', -tonumber(held[2]))
        redis.call('PEXPIRE', c.k .. 'image:' .. sha, micros(setting(c, 'image_ttl_ms')))
        may_go(c, 'image', sha)
    end
    return true
end

-- An embedding whose image is not there must not be evicted while a job needs it: it has no time to live meanwhile, and
-- gets back what was left of it. Refs hold, behind p:<key>, how many jobs, its bytes and that time.
local function pin(c, key)
    local held = redis.call('HGET', c.k .. 'refs', 'p:' .. key)
    local jobs, bytes, ttl = string.match(held or '', '^(%d+) (%d+) (%d+)$')
    if not jobs then
        jobs, bytes = 0, redis.call('STRLEN', c.k .. 'embedding:' .. key)
        ttl = math.max(redis.call('PTTL', c.k .. 'embedding:' .. key), 1)
        redis.call('PERSIST', c.k .. 'embedding:' .. key)
        count(c, 'image_bytes', bytes)
    end
    redis.call('HSET', c.k .. 'refs', 'p:' .. key, string.format('%d %d %d', jobs + 1, bytes, ttl))
end

local function unpin(c, key)
    local jobs, bytes, ttl = string.match(redis.call('HGET', c.k .. 'refs', 'p:' .. key) or '', '^(%d+) (%d+) (%d+)$')
    if not jobs then return end
    if tonumber(jobs) > 1 then
        redis.call('HSET', c.k .. 'refs', 'p:' .. key, string.format('%d %d %d', jobs - 1, bytes, ttl))
        return
    end
    redis.call('HDEL', c.k .. 'refs', 'p:' .. key)
    redis.call('PEXPIRE', c.k .. 'embedding:' .. key, ttl)
    count(c, 'image_bytes', -tonumber(bytes))
    may_go(c, 'embedding', key)
end

-- ---------------------------------------------------------------------------------------------------------------------
-- Lines.

local function line_name(c, stage, lane, model)
    return c.k .. stage .. ':' .. lane .. (model and (':' .. model) or '')
end

-- Takes a ticket out of its stream, whether or not it was delivered; a stream of what was set aside goes with its last.
local function settle(stream, stage, ticket, aside)
    redis.call('XACK', stream, GROUP[stage], ticket)
    redis.call('XDEL', stream, ticket)
    if aside and redis.call('XLEN', stream) == 0 then redis.call('DEL', stream) end
end

-- Jobs in the order in which they came are sorted sets, so that one in the middle leaves at once. Before revision 5 they
-- were lists: one that is met becomes a set.
local function ordered(command, set, ...)
    local reply = redis.pcall(command, set, ...)
    if type(reply) ~= 'table' or not reply.err then return reply end
    if not string.find(reply.err, 'WRONGTYPE', 1, true) then error(reply.err, 0) end
    local ids = redis.call('LRANGE', set, 0, -1)
    redis.call('DEL', set)
    for i, id in ipairs(ids) do redis.call('ZADD', set, i, id) end
    return redis.call(command, set, ...)
end

local function append(c, set, id)
    c.order = (c.order or c.us - 1) + 1
    ordered('ZADD', set, micros(c.order), id)
end

-- The next ticket of a line for this worker, or nil; makes the group where it is missing.
local function next_ticket(stream, stage, worker)
    local reply = redis.pcall('XREADGROUP', 'GROUP', GROUP[stage], worker, 'COUNT', '1', 'STREAMS', stream, '>')
    if reply and reply.err then
        if not string.find(reply.err, 'NOGROUP') then error(reply.err, 0) end
        redis.call('XGROUP', 'CREATE', stream, GROUP[stage], '0', 'MKSTREAM')
        reply = redis.call('XREADGROUP', 'GROUP', GROUP[stage], worker, 'COUNT', '1', 'STREAMS', stream, '>')
    end
    if not reply or not reply[1] or not reply[1][2][1] then return nil end
    local entry = reply[1][2][1]
    return entry[1], table_of(entry[2]) or {}, entry[2]
end

local function dead_letter(c, fields)
    local flat = { 'at', c.now }
    for name, value in pairs(fields) do flat[#flat + 1] = name; flat[#flat + 1] = value end
    count(c, 'dead_letters')
    count(c, 'dead_bytes', KEPT)
    return redis.call('XADD', c.k .. 'dead', '*', unpack(flat))
end

local function garbage(c, stream, stage, ticket, raw, why, aside)
    local fine, text = pcall(cjson.encode, raw or {})
    dead_letter(c, {
        source = 'stream', stream = string.sub(stream, #c.k + 1), entry = ticket, reason = why,
        fields = fine and string.sub(text, 1, 1024) or '(fields that are no text)',
    })
    settle(stream, stage, ticket, aside)
    count(c, 'garbage')
end

-- ---------------------------------------------------------------------------------------------------------------------
-- Jobs: into line, out of wherever they are, to their end.

local function ready_set(c, job) return c.k .. 'ready:' .. job.lane .. ':' .. key_of(job) end

-- Puts a job into its stream; returns the ticket, which its hash has to name.
local function enter(c, id, job)
    count(c, 'queued:' .. job.lane)
    demand(c, 'decode', job.model, 1)
    local attempts = tonumber(job.attempts) or 0
    if attempts == 0 then append(c, ready_set(c, job), id) end
    return redis.call('XADD', line_name(c, 'decode', job.lane), '*', 'job', id, 'try', attempts)
end

local function into_line(c, id, job)
    redis.call('HSET', c.k .. 'job:' .. id, 'state', 'queued', 'ticket', enter(c, id, job))
    redis.call('HDEL', c.k .. 'job:' .. id, 'aside')
end

-- Takes a job's own ticket out of its stream, where it has one: the others of a batch have none.
local function drop_ticket(c, job)
    if not job.ticket or job.ticket == '' then return end
    settle(line_name(c, 'decode', job.lane, job.aside and job.model or nil), 'decode', job.ticket, job.aside)
end

local unwanted_flight   -- below, with the flights

-- Takes a job out of its place (parked, in line, delayed, in work) and of the gauges of that place.
local function out_of_place(c, id, job, ending)
    if job.state == 'waiting_embedding' then
        count(c, 'parked:' .. job.lane, -1)
        local set = c.k .. 'waiting:' .. key_of(job)
        if ordered('ZREM', set, id) == 1 and redis.call('EXISTS', set) == 0 then unwanted_flight(c, key_of(job)) end
    elseif job.state == 'queued' and job.delayed then
        redis.call('ZREM', c.k .. 'delayed', 'd:' .. id)
        if not ending then redis.call('HDEL', c.k .. 'job:' .. id, 'delayed') end
        count(c, 'delayed:' .. job.lane, -1)
        demand(c, 'decode', job.model, -1)
    elseif job.state == 'queued' then
        drop_ticket(c, job)
        if (tonumber(job.attempts) or 0) == 0 then ordered('ZREM', ready_set(c, job), id) end
        count(c, 'queued:' .. job.lane, -1)
        demand(c, 'decode', job.model, -1)
    elseif job.state == 'in_work' then
        redis.call('ZREM', c.k .. 'leases', 'd:' .. id)
        count(c, 'in_work:' .. job.lane, -1)
        demand(c, 'decode', job.model, -1)
        drop_ticket(c, job)
        if not ending then redis.call('HDEL', c.k .. 'job:' .. id, 'ticket', 'aside') end
    end
end

-- Removes what is left of an ended job.
local function remove_job(c, id, kept)
    local bytes = tonumber(kept or redis.call('HGET', c.k .. 'job:' .. id, 'kept') or nil)
        or redis.call('STRLEN', c.k .. 'result:' .. id)
    if bytes ~= 0 then count(c, 'result_bytes', -bytes) end
    redis.call('DEL', c.k .. 'job:' .. id, c.k .. 'result:' .. id, c.k .. 'done:' .. id, c.k .. 'line:' .. id)
end

-- Removes a dead letter and, where `with_job`, what is left of its job.
local function remove_letter(c, entry, fields, with_job)
    if redis.call('XDEL', c.k .. 'dead', entry) == 0 then return 0 end
    local bytes = KEPT
    local id = fields.source ~= 'stream' and fields.job
    if id then
        local job = redis.call('HMGET', c.k .. 'job:' .. id, 'state', 'bytes', 'letter')
        if job[1] == 'dead' and (not job[3] or job[3] == entry) then
            bytes = bytes + (tonumber(job[2]) or 0)
            if with_job then remove_job(c, id) end
        end
    end
    count(c, 'dead_bytes', -bytes)
    return 1
end

-- The oldest dead letters beyond the cap go, at most `limit` of them.
local function trim_dead(c, limit)
    local letters, bytes = redis.call('XLEN', c.k .. 'dead'), nil
    local removed = 0
    while removed < limit and letters > 0 do
        bytes = counters(c, { 'dead_bytes' }).dead_bytes + (c.add.dead_bytes or 0)
        if letters <= setting(c, 'dead') and bytes <= setting(c, 'dead_bytes') then break end
        local first = redis.call('XRANGE', c.k .. 'dead', '-', '+', 'COUNT', 1)[1]
        if not first then break end
        remove_letter(c, first[1], table_of(first[2]) or {}, true)
        letters, removed = letters - 1, removed + 1
    end
    return removed
end

-- Behind a job line, after the separator 0x1E, a note may stand: one JSON object that says where the job came from. It
-- comes back with the answer (decoders put it there) or stays with a job that ended without one; it says nothing of what
-- is to be done, so it does not count where lines are compared.
local function without_note(line)
    local at = string.find(line, SEPARATOR, 1, true)
    return at and string.sub(line, 1, at - 1) or line
end

local function note_of(c, id, job)
    if job.bytes == '0' then return nil end
    local tail = redis.call('GETRANGE', c.k .. 'line:' .. id, -NOTE_BYTES, -1)
    return string.match(tail, SEPARATOR .. '({.*})$')
end

local function finish(c, id, job, state, why, result)
    out_of_place(c, id, job, true)
    local key = c.k .. 'job:' .. id
    local bytes = tonumber(job.bytes) or 0
    local note = state ~= 'done' and state ~= 'dead' and note_of(c, id, job) or nil
    if note then redis.call('HSET', key, 'note', note) end
    local kept = KEPT + (result and #result or 0) + (note and #note or 0)
    if why then
        redis.call('HSET', key, 'state', state, 'finished', c.now, 'kept', micros(kept), 'error', why)
    else
        redis.call('HSET', key, 'state', state, 'finished', c.now, 'kept', micros(kept))
    end
    if result then redis.call('SET', c.k .. 'result:' .. id, result) end
    count(c, 'result_bytes', kept)
    if job.deadline then redis.call('ZREM', c.k .. 'deadlines', id) end
    local due = release_image(c, job.image)
    if job.pinned then unpin(c, key_of(job)) end
    redis.call('RPUSH', c.k .. 'done:' .. id, state)
    local ends = micros(c.ms + setting(c, 'retention_ms'))
    if state == 'dead' then
        -- The line stays with a dead letter, which may be retried; the dead letter's end is its end.
        local letter = dead_letter(c, {
            source = job.state == 'waiting_embedding' and 'encode' or 'decode', job = id, key = key_of(job),
            lane = job.lane, attempts = job.attempts, reason = why or '', worker = job.worker or '',
        })
        redis.call('HSET', key, 'letter', letter)
        count(c, 'dead_bytes', bytes)
        trim_dead(c, 16)
    else
        redis.call('DEL', c.k .. 'line:' .. id)
        due[#due + 1] = ends; due[#due + 1] = 'j:' .. id
    end
    if job.client then due[#due + 1] = ends; due[#due + 1] = 'l:' .. job.client end
    if #due > 0 then redis.call('ZADD', c.k .. 'ends', unpack(due)) end
    redis.call('PUBLISH', c.namespace .. ':{' .. c.p .. '}:events', id .. ' ' .. state)
    if job.client then
        local list = c.k .. 'reply:' .. job.client
        if redis.call('RPUSH', list, id .. ' ' .. state) > 100000 then redis.call('LPOP', list) end
        -- With the result, so that whoever waits for a click need not ask for it.
        local news = id .. ' ' .. state
        if result and #result <= PUSHED then news = news .. ' ' .. result end
        redis.call('PUBLISH', c.namespace .. ':reply:' .. job.client, news)
    end
    count(c, 'bytes:' .. job.lane, -bytes)
    count(c, state .. ':' .. job.lane)
    count(c, 'out:' .. job.lane)
end

-- A job of an empty line asks only for the embedding; "empty" where a note stands behind it.
local function encode_only(job) return job.bytes == '0' or job.empty end

local function embedded(c, id, job)
    local result = cjson.encode({ embedding = key_of(job) })
    local note = note_of(c, id, job)
    if note and note ~= '{}' then result = string.sub(note, 1, -2) .. ',' .. string.sub(result, 2) end
    finish(c, id, job, 'done', nil, result)
end

-- ---------------------------------------------------------------------------------------------------------------------
-- Flights: one encode per key.

local function flight_into_line(c, key, lane, attempts)
    local ticket = redis.call('XADD', line_name(c, 'encode', lane), '*', 'key', key, 'try', attempts)
    redis.call('HSET', c.k .. 'flight:' .. key, 'state', 'queued', 'lane', lane, 'ticket', ticket, 'attempts', attempts)
    redis.call('HDEL', c.k .. 'flight:' .. key, 'aside', 'token')
    count(c, 'encode_queued:' .. lane)
end

local function flight_out_of_place(c, key, flight)
    local _, model = split(key)
    local stream = line_name(c, 'encode', flight.lane, flight.aside and model or nil)
    if flight.state == 'queued' then
        if flight.ticket then settle(stream, 'encode', flight.ticket, flight.aside) end
        count(c, 'encode_queued:' .. flight.lane, -1)
    elseif flight.state == 'delayed' then
        redis.call('ZREM', c.k .. 'delayed', 'e:' .. key)
        count(c, 'encode_delayed:' .. flight.lane, -1)
    elseif flight.state == 'in_work' then
        redis.call('ZREM', c.k .. 'leases', 'e:' .. key)
        count(c, 'encode_in_work:' .. flight.lane, -1)
        if flight.ticket then settle(stream, 'encode', flight.ticket, flight.aside) end
    end
end

-- Asks for the embedding: starts a flight, or joins the one there is (an interactive job hastens a bulk one).
local function ask(c, key, lane)
    local flight = load(c.k .. 'flight:' .. key)
    if not flight then
        redis.call('HSET', c.k .. 'flight:' .. key, 'since', c.now)
        redis.call('ZADD', c.k .. 'flights', c.ms, key)
        flight_into_line(c, key, lane, 0)
        count(c, 'flights')
        local _, model = split(key)
        demand(c, 'encode', model, 1)
        return
    end
    count(c, 'joins')
    if lane == 'interactive' and flight.lane == 'bulk' and flight.state == 'queued' then
        flight_out_of_place(c, key, flight)
        flight_into_line(c, key, lane, flight.attempts)
    end
end

local function end_flight(c, key, flight)
    flight_out_of_place(c, key, flight)
    redis.call('DEL', c.k .. 'flight:' .. key)
    redis.call('ZREM', c.k .. 'flights', key)
    if flight.state ~= 'failed' and flight.state ~= 'dead' then
        local _, model = split(key)
        demand(c, 'encode', model, -1)
    end
end

-- The last job that waited for an encode is gone: one that nobody works on is not asked for any more.
function unwanted_flight(c, key)
    local flight = load(c.k .. 'flight:' .. key)
    if flight and (flight.state == 'queued' or flight.state == 'delayed') then
        end_flight(c, key, flight)
        count(c, 'encode_unwanted')
    end
end

local function park(c, id, job)
    append(c, c.k .. 'waiting:' .. key_of(job), id)
    count(c, 'parked:' .. job.lane)
end

-- Up to `limit` parked jobs of a key, each handed to `act`; then says how many are left. What is left is continued by
-- kirie_release, by takes that find nothing else, and by the janitor.
local function unpark(c, key, limit, act)
    local set = c.k .. 'waiting:' .. key
    local popped = ordered('ZPOPMIN', set, limit)
    local moved = 0
    for i = 1, #popped, 2 do
        local id = popped[i]
        local job = load(c.k .. 'job:' .. id)
        if job and job.state == 'waiting_embedding' and key_of(job) == key then
            act(id, job)
            moved = moved + 1
        end
    end
    local left = redis.call('ZCARD', set)
    if left > 0 then
        redis.call('ZADD', c.k .. 'delayed', lease_clock(c), 'r:' .. key)
    else
        redis.call('ZREM', c.k .. 'delayed', 'r:' .. key)
    end
    return moved, left
end

local function release(c, key, limit)
    return unpark(c, key, limit, function(id, job)
        if encode_only(job) then
            embedded(c, id, job)
        else
            count(c, 'parked:' .. job.lane, -1)
            into_line(c, id, job)
        end
    end)
end

-- Ends the parked jobs of a flight that failed for good; the flight goes with the last of them.
local function drain(c, key, flight, limit)
    local moved, left = unpark(c, key, limit, function(id, job)
        job.attempts = flight.attempts
        job.worker = flight.worker
        finish(c, id, job, flight.state, flight.error)
    end)
    if left == 0 then end_flight(c, key, flight) end
    return moved, left
end

local function ground(c, key, flight, state, why)
    flight_out_of_place(c, key, flight)
    local _, model = split(key)
    demand(c, 'encode', model, -1)
    flight.state, flight.error = state, why
    redis.call('HSET', c.k .. 'flight:' .. key, 'state', state, 'error', why)
    count(c, 'encode_' .. state)
    return drain(c, key, flight, setting(c, 'chunk'))
end

local function continue_release(c, key, limit)
    local flight = load(c.k .. 'flight:' .. key)
    if not flight then return release(c, key, limit) end
    if flight.state == 'failed' or flight.state == 'dead' then return drain(c, key, flight, limit) end
    redis.call('ZREM', c.k .. 'delayed', 'r:' .. key)   -- a new encode is under way; its end releases them
    return 0, 0
end

-- Whether a job still waits for this key; stale ids at the head of the list go on the way.
local function wanted(c, key)
    local set = c.k .. 'waiting:' .. key
    for _ = 1, 256 do
        local id = ordered('ZRANGE', set, 0, 0)[1]
        if not id then return false end
        local job = redis.call('HMGET', c.k .. 'job:' .. id, 'state', 'image', 'model')
        if job[1] == 'waiting_embedding' and job[2] .. ':' .. job[3] == key then return true end
        redis.call('ZREM', set, id)
    end
    return redis.call('EXISTS', set) == 1
end

local function backoff(c, attempts)
    local doubled = setting(c, 'backoff_ms') * 2 ^ math.min(math.max(attempts - 1, 0), 20)
    local full = math.min(doubled, setting(c, 'backoff_max_ms'))
    -- Jitter from the clock's microseconds: math.random gives the same numbers in each call of a function.
    return math.floor(full * (0.5 + c.us % 1000 / 2000))
end

-- A job in work goes back: at once, or after the backoff, or to its end when the attempts are used up.
local function try_again(c, id, job, why, delay)
    local attempts = tonumber(job.attempts) or 0
    if attempts >= setting(c, 'attempts') then
        finish(c, id, job, 'dead', why)
        return 'dead'
    end
    count(c, 'retries')
    out_of_place(c, id, job)
    redis.call('HSET', c.k .. 'job:' .. id, 'error', why)
    if delay then
        redis.call('HSET', c.k .. 'job:' .. id, 'state', 'queued', 'delayed', 1)
        redis.call('ZADD', c.k .. 'delayed', lease_clock(c) + backoff(c, attempts), 'd:' .. id)
        count(c, 'delayed:' .. job.lane)
        demand(c, 'decode', job.model, 1)
    else
        into_line(c, id, job)
    end
    return 'queued'
end

local function try_flight_again(c, key, flight, why, delay)
    local attempts = tonumber(flight.attempts) or 0
    if attempts >= setting(c, 'attempts') then
        ground(c, key, flight, 'dead', why)
        return 'dead'
    end
    count(c, 'encode_retries')
    flight_out_of_place(c, key, flight)
    redis.call('HSET', c.k .. 'flight:' .. key, 'error', why)
    if delay then
        redis.call('HSET', c.k .. 'flight:' .. key, 'state', 'delayed')
        redis.call('HDEL', c.k .. 'flight:' .. key, 'token')
        redis.call('ZADD', c.k .. 'delayed', lease_clock(c) + backoff(c, attempts), 'e:' .. key)
        count(c, 'encode_delayed:' .. flight.lane)
    else
        flight_into_line(c, key, flight.lane, attempts)
    end
    return 'queued'
end

-- ---------------------------------------------------------------------------------------------------------------------
-- Housekeeping, each part bounded by `limit`; returns how much was done.

local function promote(c, limit)
    local now, done = lease_clock(c), 0
    for _, member in ipairs(redis.call('ZRANGEBYSCORE', c.k .. 'delayed', '-inf', now, 'LIMIT', 0, limit)) do
        local kind, name = string.sub(member, 1, 2), string.sub(member, 3)
        redis.call('ZREM', c.k .. 'delayed', member)
        done = done + 1
        if kind == 'd:' then
            local job = load(c.k .. 'job:' .. name)
            if job and job.state == 'queued' and job.delayed then
                out_of_place(c, name, job)
                into_line(c, name, job)
            end
        elseif kind == 'e:' then
            local flight = load(c.k .. 'flight:' .. name)
            if flight and flight.state == 'delayed' then
                flight_out_of_place(c, name, flight)
                flight_into_line(c, name, flight.lane, flight.attempts)
            end
        elseif kind == 'r:' then
            continue_release(c, name, setting(c, 'chunk'))
            break   -- one chunk a call is enough
        end
    end
    return done
end

local function reclaim(c, limit)
    local now, done = lease_clock(c), 0
    for _, member in ipairs(redis.call('ZRANGEBYSCORE', c.k .. 'leases', '-inf', now, 'LIMIT', 0, limit)) do
        local kind, name = string.sub(member, 1, 2), string.sub(member, 3)
        redis.call('ZREM', c.k .. 'leases', member)
        done = done + 1
        if kind == 'd:' then
            local job = load(c.k .. 'job:' .. name)
            if job and job.state == 'in_work' then
                count(c, 'reclaimed')
                redis.call('HSET', c.k .. 'job:' .. name, 'lapsed', job.token or '')
                try_again(c, name, job, 'the lease of worker ' .. (job.worker or '?') .. ' ran out', false)
            end
        else
            local flight = load(c.k .. 'flight:' .. name)
            if flight and flight.state == 'in_work' then
                count(c, 'encode_reclaimed')
                redis.call('HSET', c.k .. 'flight:' .. name, 'lapsed', flight.token or '')
                local why = 'the lease of encoder ' .. (flight.worker or '?') .. ' ran out'
                try_flight_again(c, name, flight, why, false)
            end
        end
    end
    return done
end

local function expire(c, limit)
    local done = 0
    for _, id in ipairs(redis.call('ZRANGEBYSCORE', c.k .. 'deadlines', '-inf', c.ms, 'LIMIT', 0, limit)) do
        redis.call('ZREM', c.k .. 'deadlines', id)
        done = done + 1
        local job = load(c.k .. 'job:' .. id)
        if job and not TERMINAL[job.state] then finish(c, id, job, 'expired', 'the deadline passed') end
    end
    return done
end

local function remove_ended(c, limit)
    local done = 0
    for _, member in ipairs(redis.call('ZRANGEBYSCORE', c.k .. 'ends', '-inf', c.ms, 'LIMIT', 0, limit)) do
        local kind, name = string.sub(member, 1, 2), string.sub(member, 3)
        redis.call('ZREM', c.k .. 'ends', member)
        done = done + 1
        if kind == 'l:' then
            redis.call('DEL', c.k .. 'reply:' .. name)
        elseif kind == 'i:' then
            let_image_go(c, name)
        else
            remove_job(c, name)
        end
    end
    return done
end

-- Once a minute: consumers that hold nothing and were not heard of for ten minutes leave their groups.
local function forget_consumers(c)
    local last = tonumber(redis.call('HGET', c.k .. 'clock', 'consumers')) or 0
    if math.abs(c.ms - last) < 60000 then return end
    redis.call('HSET', c.k .. 'clock', 'consumers', c.ms)
    for stage, group in pairs(GROUP) do
        for _, lane in ipairs(LANES) do
            local stream = line_name(c, stage, lane)
            local consumers = redis.pcall('XINFO', 'CONSUMERS', stream, group)
            if not consumers.err then
                for _, flat in ipairs(consumers) do
                    local consumer = table_of(flat)
                    if consumer.pending == 0 and consumer.idle > 600000 then
                        redis.call('XGROUP', 'DELCONSUMER', stream, group, consumer.name)
                    end
                end
            end
        end
    end
end

local function make_groups(c)
    for stage, group in pairs(GROUP) do
        for _, lane in ipairs(LANES) do
            redis.pcall('XGROUP', 'CREATE', line_name(c, stage, lane), group, '0', 'MKSTREAM')
        end
    end
end

-- A worker whose lease ran out is heard of again: what it held did not kill it, so that attempt does not count. `held` is
-- the job or the flight as it is now, `name` its key behind the prefix.
local function forgive(c, name, held, token)
    if not held or not token or token == '' or held.lapsed ~= token or TERMINAL[held.state] then return end
    redis.call('HDEL', c.k .. name, 'lapsed')
    redis.call('HSET', c.k .. name, 'attempts', math.max((tonumber(held.attempts) or 1) - 1, 0))
    count(c, 'forgiven')
end

-- ---------------------------------------------------------------------------------------------------------------------
-- The functions.

--[[ kirie_version      FCALL_RO kirie_version 0
  Reply: [protocol, revision], two numbers. Another protocol number speaks another language: do not mix. A loader
  replaces a lower revision and leaves a higher one alone. ]]
redis.register_function {
    function_name = 'kirie_version', flags = { 'no-writes', 'allow-oom', 'allow-stale' },
    callback = function() return { PROTOCOL, REVISION } end,
}

--[[ kirie_prepare      FCALL kirie_prepare 1 <prefix> <P>
  Makes the groups, so that autoscalers find them before the first job, and notes P. Harmless when repeated.
  Reply: OK. Errors: BADCALL. ]]
register('kirie_prepare', function(c, args)
    local partitions = whole(args[1], 1, 16384)
    if not partitions or tonumber(c.p) >= partitions then
        return refusal('BADCALL', 'kirie_prepare <P>: P is a number greater than that of the partition, at most 16384')
    end
    set(c, { 'partitions', micros(partitions) })
    make_groups(c)
    lease_clock(c)
    return redis.status_reply('OK')
end)

--[[ kirie_limits       FCALL kirie_limits 1 <prefix> (<name> <value>)…
  Changes settings of this partition (SETTINGS), whole numbers within their bounds: all of them, or none.
  Reply: OK. Errors: BADCALL (which setting, and its bounds). ]]
register('kirie_limits', function(c, args)
    local fine = #args >= 2 and #args <= 64 and #args % 2 == 0
    for i = 1, #args, 2 do
        fine = fine and args[i] ~= 'partitions' and bounded(args[i], args[i + 1])
        if not fine then
            local bounds = SETTINGS[args[i]]
            return refusal('BADCALL', 'kirie_limits: ' .. (bounds and args[i] ~= 'partitions'
                and args[i] .. ' takes a whole number from ' .. micros(bounds[2]) .. ' to ' .. micros(bounds[3])
                or 'there is no setting of the name ' .. string.sub(args[i], 1, 64)))
        end
    end
    if not fine then return refusal('BADCALL', 'kirie_limits (<name> <value>)…: 1 to 32 settings and their values') end
    set(c, args)
    return redis.status_reply('OK')
end, { 'allow-oom' })

--[[ kirie_image        FCALL kirie_image 1 <prefix> <sha256> [<bytes>]
  Stores the file of an image once by content (or "ref:" and an address that the encoders can read). With no bytes it
  only asks. What is there is never overwritten. An image that no job needs yet stays for image_ttl_ms.
  Reply: 1 stored now · 0 was there · -1 (asked) not there. Errors: BADCALL, BADJOB (wrong partition), BACKPRESSURE. ]]
local function foreign(c, sha)
    local partitions = setting(c, 'partitions')
    return partitions > 0 and tonumber(string.sub(sha, 1, 8), 16) % partitions ~= tonumber(c.p)
end

-- Jobs per second, in and out of each lane, from now back to the oldest sample of the last minute.
local TOTALS = { 'in:interactive', 'in:bulk', 'out:interactive', 'out:bulk' }

local function totals(c)
    local now = redis.call('HMGET', c.k .. 'counters', unpack(TOTALS))
    for i = 1, 4 do now[i] = (tonumber(now[i]) or 0) + (c.add[TOTALS[i]] or 0) end
    return now
end

local function rates(c)
    local now, per_second, since, sample = totals(c), {}, 0, nil
    for _, text in ipairs(redis.call('LRANGE', c.k .. 'rates', 0, -1)) do
        local fields = {}
        for number in string.gmatch(text, '%d+') do fields[#fields + 1] = tonumber(number) end
        local age = c.ms - (fields[1] or 0)
        if #fields == 5 and age > since and age <= 65000 then since, sample = age, fields end
    end
    for i, name in ipairs(TOTALS) do
        per_second[name] = sample and math.max(now[i] - sample[i + 1], 0) / since * 1000 or 0
    end
    return per_second
end

local function sample_totals(c)
    local last = tonumber(redis.call('HGET', c.k .. 'clock', 'sampled')) or 0
    if math.abs(c.ms - last) < 5000 then return end
    redis.call('HSET', c.k .. 'clock', 'sampled', c.ms)
    local now = totals(c)
    for i = 1, 4 do now[i] = micros(now[i]) end
    redis.call('LPUSH', c.k .. 'rates', c.ms .. ' ' .. table.concat(now, ' '))
    redis.call('LTRIM', c.k .. 'rates', 0, 12)
end

local function come_back(c, lane)
    local out = rates(c)['out:' .. lane]
    if out == 0 then return 1000 end
    -- The time in which a fiftieth of the limit flows out.
    return math.floor(math.min(math.max(setting(c, 'jobs:' .. lane) / 50 / out * 1000, 100), 30000))
end

local function backpressure(c, lane, what, held, limit)
    count(c, 'refused:' .. lane)
    return 'BACKPRESSURE ' .. what .. ' of partition ' .. c.p .. ' are at their limit (' .. string.format('%.0f', held)
        .. ' of ' .. string.format('%.0f', limit) .. '); retry after ' .. come_back(c, lane) .. ' ms'
end

register('kirie_image', function(c, args)
    local sha, bytes = args[1] or '', args[2] or ''
    if not is_sha(sha) then
        return refusal('BADCALL', 'kirie_image <sha256> [<bytes>]: the hash is 64 lower-case hexadecimal digits')
    end
    if foreign(c, sha) then return refusal('BADJOB', 'image ' .. sha .. ' does not belong to partition ' .. c.p) end
    local key = c.k .. 'image:' .. sha
    local needed = redis.call('HEXISTS', c.k .. 'refs', sha) == 1
    if redis.call('EXISTS', key) == 1 then
        if not needed then
            redis.call('PEXPIRE', key, setting(c, 'image_ttl_ms'))
            redis.call('ZADD', c.k .. 'idle:image', micros(c.ms), sha)
        end
        return 0
    end
    if bytes == '' then return -1 end
    local held = tonumber(redis.call('HGET', c.k .. 'counters', 'image_bytes')) or 0
    if held + #bytes > setting(c, 'image_bytes') then
        return redis.error_reply(backpressure(c, 'bulk', 'the bytes of images', held, setting(c, 'image_bytes')))
    end
    if needed then
        redis.call('SET', key, bytes)
        redis.call('HSET', c.k .. 'refs', 'b:' .. sha, #bytes)
        count(c, 'image_bytes', #bytes)
    else
        redis.call('SET', key, bytes, 'PX', setting(c, 'image_ttl_ms'))
        may_go(c, 'image', sha)
    end
    return 1
end)

--[[ kirie_submit       FCALL kirie_submit 1 <prefix> <client> (<id> <lane> <image sha256> <model> <ttl ms> <line>)…
  1 to 1024 jobs of one partition, six arguments each. client: who is told of the ends ("" nobody in particular). id: ""
  lets the function choose. ttl: the job expires so many ms from now ("0" never). line: the job line as JSON, without the
  image's bytes; an empty line asks only for the embedding. Behind the line a note may stand: the separator 0x1E and one
  JSON object such as {"path":"a.jpg","line":12,"meta":…}, which comes back with the answer, and with a failure in the
  field "note" of kirie_status.
  A known id of the same image, model and line changes nothing and returns that job's state, so a submit may be repeated.
  One that ended without a result (failed, dead, cancelled, expired) is submitted anew, unless the client is the one that
  had submitted it, which repeats itself and learns the end. Another image, model or line under a known id: CONFLICT.
  Where the embedding is there and the image is not, the embedding is pinned: it has no time to live until the job ended.
  Reply: for each job [id, state, 1 accepted | 0 known] or [id, "refused", error]. A call of a single job gives its
  refusal as an error reply.
  Errors: BADCALL; BADJOB (which field, why); CONFLICT (what differs); NOIMAGE (the image is not there, and no embedding
  that can be pinned: kirie_image, then again); BACKPRESSURE … retry after <n> ms; OOM (kirie_room, then again). ]]
local function bad_job(c, id, lane, sha, model, ttl, line)
    if id ~= '' and not is_id(id) then return 'id: at most 128 of A-Z a-z 0-9 . _ : @ / + -' end
    if not IS_LANE[lane] then return 'lane: interactive or bulk' end
    if not is_sha(sha) then return 'image: 64 lower-case hexadecimal digits of its SHA-256' end
    if not is_model(model) then return 'model: 1 to 64 of A-Z a-z 0-9 . _ : -' end
    if not whole(ttl, 0, 1e13) then return 'ttl: whole milliseconds, 0 for none' end
    if #line > LINE_BYTES then return 'line: ' .. #line .. ' bytes; at most ' .. LINE_BYTES end
    if foreign(c, sha) then return 'image: ' .. sha .. ' does not belong to partition ' .. c.p end
end

local function over_limit(c, lane, bytes, new_image_bytes)
    local held = c.held
    if not held['jobs:' .. lane] then
        -- With those that the submit is going to move.
        local saved = counters(c, {
            'parked:' .. lane, 'queued:' .. lane, 'delayed:' .. lane, 'in_work:' .. lane, 'bytes:' .. lane, 'in:' .. lane,
            'image_bytes', 'result_bytes',
        })
        held['jobs:' .. lane] = saved['parked:' .. lane] + saved['queued:' .. lane] + saved['delayed:' .. lane]
            + saved['in_work:' .. lane]
        held['bytes:' .. lane] = saved['bytes:' .. lane]
        held.image_bytes, held.result_bytes = held.image_bytes or saved.image_bytes, saved.result_bytes
    end
    if held['jobs:' .. lane] >= setting(c, 'jobs:' .. lane) then
        return backpressure(c, lane, 'the jobs of lane ' .. lane, held['jobs:' .. lane], setting(c, 'jobs:' .. lane))
    elseif held['bytes:' .. lane] + bytes > setting(c, 'bytes:' .. lane) then
        return backpressure(c, lane, 'the bytes of lane ' .. lane, held['bytes:' .. lane], setting(c, 'bytes:' .. lane))
    elseif new_image_bytes > 0 and held.image_bytes + new_image_bytes > setting(c, 'image_bytes') then
        return backpressure(c, lane, 'the bytes of images', held.image_bytes, setting(c, 'image_bytes'))
    elseif held.result_bytes >= setting(c, 'result_bytes') then
        return backpressure(c, lane, 'the bytes of results', held.result_bytes, setting(c, 'result_bytes'))
    end
end

-- The answer to a submit under an id that is known, or nil where the job is to be made; then also what is known of one of
-- that id that ended without a result, whose place it takes.
local function known_job(c, client, id, sha, model, sum)
    local held = redis.call('HMGET', c.k .. 'job:' .. id, 'state', 'image', 'model', 'sum', 'client', 'letter', 'kept')
    local state = held[1]
    if not state then return nil end
    if TERMINAL[state] and state ~= 'done' and (client == '' or held[5] ~= client) then
        return nil, { letter = held[6], kept = held[7] }
    end
    local differs = held[2] ~= sha and 'image' or held[3] ~= model and 'model' or held[4] and held[4] ~= sum and 'job line'
    if differs then
        return { id, 'refused', 'CONFLICT ' .. id .. ' is ' .. state .. ', submitted with another ' .. differs
            .. ': take another id, or wait until what is left of that job is gone' }
    end
    count(c, 'duplicates')
    return { id, state, 0 }
end

local function take_place_of(c, id, former)
    if former.letter then remove_letter(c, former.letter, { job = id }, false) end
    redis.call('ZREM', c.k .. 'ends', 'j:' .. id)
    remove_job(c, id, former.kept)
    count(c, 'revived')
end

local function submit_one(c, client, id, lane, sha, model, ttl, line)
    local problem = bad_job(c, id, lane, sha, model, ttl, line)
    if problem then return { id, 'refused', 'BADJOB ' .. problem } end
    if id == '' then
        id = string.format('%s-%x-%x', c.p, c.ms, redis.call('HINCRBY', c.k .. 'clock', 'ids', 1))
    end
    local bare = without_note(line)
    local sum = string.sub(redis.sha1hex(bare), 1, 16)
    local known, former = known_job(c, client, id, sha, model, sum)
    if known then return known end
    local key = sha .. ':' .. model
    if c.there[key] == nil then c.there[key] = redis.call('EXISTS', c.k .. 'embedding:' .. key) == 1 end
    local unneeded      -- the bytes of an image that no job needs so far
    if not c.needed[sha] then
        c.needed[sha] = redis.call('HEXISTS', c.k .. 'refs', sha) == 1
        if not c.needed[sha] then unneeded = redis.call('STRLEN', c.k .. 'image:' .. sha) end
    end
    if not c.stored[sha] then c.stored[sha] = (unneeded or redis.call('STRLEN', c.k .. 'image:' .. sha)) > 0 end
    local pinned = not c.stored[sha]
    if pinned and not (c.there[key] and redis.call('STRLEN', c.k .. 'embedding:' .. key) > MARK) then
        return { id, 'refused', 'NOIMAGE ' .. sha .. ': put the image with kirie_image, then submit again' }
    end
    local full = over_limit(c, lane, #line, unneeded or 0)
    if full then return { id, 'refused', full } end
    if former then take_place_of(c, id, former) end

    local job = { lane = lane, image = sha, model = model, attempts = '0', bytes = tostring(#line), state = 'new' }
    local fields = {
        'lane', lane, 'image', sha, 'model', model, 'attempts', '0', 'submitted', c.now, 'bytes', micros(#line),
        'sum', sum, 'state', c.there[key] and 'queued' or 'waiting_embedding',
    }
    if #bare == 0 and #line > 0 then
        job.empty = '1'
        fields[#fields + 1] = 'empty'; fields[#fields + 1] = '1'
    end
    if client ~= '' then
        job.client = client
        fields[#fields + 1] = 'client'; fields[#fields + 1] = client
    end
    if tonumber(ttl) > 0 then
        job.deadline = c.ms + tonumber(ttl)
        fields[#fields + 1] = 'deadline'; fields[#fields + 1] = job.deadline
        redis.call('ZADD', c.k .. 'deadlines', job.deadline, id)
    end
    if pinned then
        job.pinned = 1
        fields[#fields + 1] = 'pinned'; fields[#fields + 1] = 1
        pin(c, key)
    end
    if c.there[key] and #bare > 0 then
        fields[#fields + 1] = 'ticket'; fields[#fields + 1] = enter(c, id, job)
    end
    redis.call('HSET', c.k .. 'job:' .. id, unpack(fields))
    if #line > 0 then redis.call('SET', c.k .. 'line:' .. id, line) end
    if unneeded then
        need_image(c, sha, unneeded)
        c.needed[sha] = true
    else
        redis.call('HINCRBY', c.k .. 'refs', sha, '1')
    end
    c.held['jobs:' .. lane] = c.held['jobs:' .. lane] + 1
    c.held['bytes:' .. lane] = c.held['bytes:' .. lane] + #line
    c.held.image_bytes = c.held.image_bytes + (unneeded or 0)
    count(c, 'bytes:' .. lane, #line)
    count(c, 'in:' .. lane)
    if not c.there[key] then
        park(c, id, job)
        if c.asked[key] == 'interactive' or c.asked[key] == lane then
            count(c, 'joins')
        else
            ask(c, key, lane)
            c.asked[key] = lane
        end
        return { id, 'waiting_embedding', 1 }
    elseif #bare == 0 then
        embedded(c, id, job)
        c.held['jobs:' .. lane] = c.held['jobs:' .. lane] - 1
        return { id, 'done', 1 }
    end
    return { id, 'queued', 1 }
end

register('kirie_submit', function(c, args)
    local jobs = (#args - 1) / 6
    local client = args[1] or ''
    if jobs < 1 or jobs > BATCH or jobs ~= math.floor(jobs) then
        return refusal('BADCALL', 'kirie_submit <client> (<id> <lane> <image> <model> <ttl> <line>)…: 1 to 1024 jobs')
    elseif client ~= '' and not is_id(client) then
        return refusal('BADCALL', 'client: at most 128 of A-Z a-z 0-9 . _ : @ / + -')
    end
    c.there, c.needed, c.stored, c.asked, c.held = {}, {}, {}, {}, {}
    local replies = {}
    for i = 1, jobs do
        local at = 2 + (i - 1) * 6
        replies[i] = submit_one(c, client, unpack(args, at, at + 5))
    end
    if jobs == 1 and replies[1][2] == 'refused' then return redis.error_reply(replies[1][3]) end
    return replies
end)

--[[ kirie_take         FCALL kirie_take 1 <prefix> <encode|decode> <worker> <model> <lane> <count> <lease ms>
                           [<age ms>] [last]
  The next work of this partition under a lease. worker: the name that leases and consumers show. model: the only one
  that this worker serves ("" whatever comes, for clusters where no worker names one). lane: any (the rule above),
  interactive or bulk. count: 1 to 256, the batch: encodes of several images, or prompts on one image.
  age: only from lines whose head has stood for so long; an idle worker takes from another's partition that way.
  last: be told "last" instead of "work" where nothing is left in line here, so that there is no need to look again.
  Reply: ["work", …] · ["idle"] nothing here now · ["again"] the bound of one call was reached: call again.
    encode: ["work", [key, token, attempt, since, lane]…]
    decode: ["work", key, lane, [id, token, attempt, submitted, line, deadline ms or ""]…]
  The image's bytes are at image:<sha>, the record at embedding:<key>: read them with GET.
  Errors: BADCALL. ]]
local function put_aside(c, stream, stage, lane, model, ticket, raw, owner)
    local other = line_name(c, stage, lane, model)
    local moved = redis.call('XADD', other, '*', unpack(raw))
    redis.pcall('XGROUP', 'CREATE', other, GROUP[stage], '0')
    redis.call('HSET', c.k .. 'turn', 'asides', 1)
    settle(stream, stage, ticket)
    redis.call('HSET', owner, 'ticket', moved, 'aside', 1)
    c.bells[stage] = true
end

-- Whether this ticket of this line is the one that the job or flight holds; ids are unique only within one stream. (Before
-- revision 5 a job on its first try did not say which was its.)
local function names(owner, lane, ticket, aside)
    if not owner.ticket and owner.attempts == '0' and owner.lane == lane then return true end
    return owner.ticket == ticket and owner.lane == lane and (owner.aside ~= nil) == aside
end

local function take_flight(c, stream, lane, ticket, fields, raw, worker, model, lease, token, aside, taken)
    local key, try = fields.key, tonumber(fields.try)
    if not key or not try or not is_key(key) then
        return garbage(c, stream, 'encode', ticket, raw, 'not a ticket: {key, try} is expected', aside)
    end
    local flight = load(c.k .. 'flight:' .. key)
    local _, wants = split(key)
    if not flight or flight.state ~= 'queued' or not names(flight, lane, ticket, aside) then
        settle(stream, 'encode', ticket, aside)
    elseif redis.call('EXISTS', c.k .. 'embedding:' .. key) == 1 then
        end_flight(c, key, flight)
        release(c, key, setting(c, 'chunk'))
    elseif not wanted(c, key) then
        end_flight(c, key, flight)
        count(c, 'encode_unwanted')
    elseif model ~= '' and wants ~= model then
        put_aside(c, stream, 'encode', lane, wants, ticket, raw, c.k .. 'flight:' .. key)
    else
        local attempt = (tonumber(flight.attempts) or 0) + 1
        redis.call('HSET', c.k .. 'flight:' .. key, 'state', 'in_work', 'token', token, 'worker', worker,
            'attempts', attempt, 'started', c.now)
        redis.call('ZADD', c.k .. 'leases', lease_clock(c) + lease, 'e:' .. key)
        count(c, 'encode_queued:' .. flight.lane, -1)
        count(c, 'encode_in_work:' .. flight.lane)
        count(c, 'encode_started')
        if attempt == 1 then observe(c, 'encode_wait:' .. flight.lane, flight.since) end
        taken[#taken + 1] = { key, token, attempt, flight.since, flight.lane }
    end
end

-- `lead`: the ticket that was delivered for the batch, which this job keeps until it is done; the others have none.
local function take_job(c, id, job, lead, worker, lease, token)
    local attempt = (tonumber(job.attempts) or 0) + 1
    local key = c.k .. 'job:' .. id
    redis.call('HSET', key, 'state', 'in_work', 'started', c.now, 'token', token, 'attempts', micros(attempt),
        'worker', worker, 'ticket', lead and lead.ticket or '')
    if lead and lead.aside then
        redis.call('HSET', key, 'aside', 1)
    elseif job.aside then
        redis.call('HDEL', key, 'aside')
    end
    redis.call('ZADD', c.k .. 'leases', micros(lease_clock(c) + lease), 'd:' .. id)
    count(c, 'queued:' .. job.lane, -1)
    count(c, 'in_work:' .. job.lane)
    if attempt == 1 then observe(c, 'wait:' .. job.lane, job.submitted) end
    return { id, token, attempt, job.submitted, redis.call('GET', c.k .. 'line:' .. id) or '', job.deadline or '' }
end

local function still_good(c, id, job)
    if job.deadline and tonumber(job.deadline) <= c.ms then
        finish(c, id, job, 'expired', 'the deadline passed')
        return false
    end
    return true
end

-- The next jobs on the image of a job whose ticket was delivered, itself among them, or in the place of the first of them.
local function mates_of(c, id, job, lane, key, n)
    local set, mates, looked, itself = ready_set(c, job), {}, 0, false
    while #mates < n and looked < 512 do
        local popped = ordered('ZPOPMIN', set, n - #mates)
        if #popped == 0 then break end
        for i = 1, #popped, 2 do
            local mate = popped[i]
            local it = mate == id and job or load(c.k .. 'job:' .. mate)
            looked = looked + 1
            if it and it.state == 'queued' and not it.delayed and it.attempts == '0' and it.lane == lane
                and key_of(it) == key and still_good(c, mate, it) then
                mates[#mates + 1] = { id = mate, job = it }
                itself = itself or mate == id
            end
        end
    end
    if itself then return mates end
    if #mates == 0 then
        ordered('ZREM', set, id)
        return { { id = id, job = job } }
    end
    -- It stays in line with the ticket of the first that goes before it.
    local first = mates[1].job
    if first.ticket then
        redis.call('HSET', c.k .. 'job:' .. id, 'ticket', first.ticket)
        if first.aside then redis.call('HSET', c.k .. 'job:' .. id, 'aside', 1)
        else redis.call('HDEL', c.k .. 'job:' .. id, 'aside') end
        first.ticket = nil
    else
        local other = redis.call('XADD', line_name(c, 'decode', lane), '*', 'job', id, 'try', '0')
        redis.call('HSET', c.k .. 'job:' .. id, 'ticket', other)
        redis.call('HDEL', c.k .. 'job:' .. id, 'aside')
    end
    return mates
end

local function take_batch(c, stream, lane, ticket, fields, raw, worker, model, lease, token, n, aside)
    local id, try = fields.job, tonumber(fields.try)
    if not id or not try then
        garbage(c, stream, 'decode', ticket, raw, 'not a ticket: {job, try} is expected', aside)
        return nil
    end
    local job = load(c.k .. 'job:' .. id)
    if not job or not job.image or not job.model then
        -- A job of ours may be gone by now only if its retention passed while the ticket stood in line.
        if c.ms - (tonumber(string.match(ticket, '^%d+')) or 0) < setting(c, 'retention_ms') then
            garbage(c, stream, 'decode', ticket, raw, 'no such job', aside)
        else
            settle(stream, 'decode', ticket, aside)
        end
        return nil
    end
    if job.state ~= 'queued' or job.delayed or not names(job, lane, ticket, aside) then
        settle(stream, 'decode', ticket, aside)
        return nil
    end
    if model ~= '' and job.model ~= model then
        put_aside(c, stream, 'decode', lane, job.model, ticket, raw, c.k .. 'job:' .. id)
        return nil
    end
    job.ticket, job.aside = ticket, aside and '1' or nil
    if not still_good(c, id, job) then return nil end
    local lead, key = { ticket = ticket, aside = aside }, key_of(job)
    local taken = { 'work', key, lane }
    if try > 0 then
        taken[4] = take_job(c, id, job, lead, worker, lease, token)
    else
        local mates = mates_of(c, id, job, lane, key, n)
        local leads = 1
        for i, mate in ipairs(mates) do
            if mate.id == id then leads = i end
        end
        for i, mate in ipairs(mates) do
            if i ~= leads then drop_ticket(c, mate.job) end
            taken[#taken + 1] = take_job(c, mate.id, mate.job, i == leads and lead or nil, worker, lease, token)
        end
    end
    count(c, 'batches')
    return taken
end

-- Whether the next ticket of a line has stood there for `age` ms. One of the future counts: the clock was set back.
local function lags(c, stream, stage, age)
    local groups = redis.pcall('XINFO', 'GROUPS', stream)
    for _, each in ipairs(groups.err and {} or groups) do
        local group = table_of(each)
        if group.name == GROUP[stage] then
            local head = redis.call('XRANGE', stream, '(' .. group['last-delivered-id'], '+', 'COUNT', 1)[1]
            local stood = head and c.ms - (tonumber(string.match(head[1], '^%d+')) or c.ms)
            return stood ~= nil and (stood >= age or stood < 0)
        end
    end
    return false
end

local function take_from(c, stage, lane, worker, model, n, lease)
    local streams, own = { line_name(c, stage, lane) }, nil
    if model ~= '' and c.asides and redis.call('EXISTS', line_name(c, stage, lane, model)) == 1 then
        own = line_name(c, stage, lane, model)
        table.insert(streams, 1, own)
    end
    local taken = {}
    for _, stream in ipairs(streams) do
        while c.looked < SEARCH and (not c.age or lags(c, stream, stage, c.age)) do
            local ticket, fields, raw = next_ticket(stream, stage, worker)
            if not ticket then
                if stream == own and redis.call('XLEN', own) == 0 then redis.call('DEL', own) end
                break
            end
            c.looked = c.looked + 1
            c.token = c.now
            if stage == 'decode' then
                local aside = stream == own
                local batch = take_batch(c, stream, lane, ticket, fields, raw, worker, model, lease, c.token, n, aside)
                if batch then return batch end
            else
                take_flight(c, stream, lane, ticket, fields, raw, worker, model, lease, c.token, stream == own, taken)
                if #taken >= n then break end
            end
        end
        if #taken >= n then break end
    end
    if #taken == 0 then return nil end
    table.insert(taken, 1, 'work')
    return taken
end

-- How much of a lane is in line now.
local function in_line(c, stage, lane)
    local gauge = stage == 'encode' and 'encode_queued:' or 'queued:'
    if not c.counters[gauge .. lane] then
        -- With those that the take has moved.
        local names = { gauge .. 'interactive', gauge .. 'bulk' }
        for name in pairs(c.add) do names[#names + 1] = name end
        counters(c, names)
    end
    return c.counters[gauge .. lane] + (c.add[gauge .. lane] or 0)
end

-- The rule of the lanes, and its memory.
local function take_by_rule(c, stage, lane, worker, model, n, lease)
    local turn = redis.call('HMGET', c.k .. 'turn', stage, 'asides')
    c.asides = turn[2]
    if lane ~= 'any' then return take_from(c, stage, lane, worker, model, n, lease) end
    local streak = tonumber(turn[1]) or 0
    local order = streak >= setting(c, 'streak') and { 'bulk', 'interactive' } or LANES
    for _, each in ipairs(order) do
        local taken = take_from(c, stage, each, worker, model, n, lease)
        if taken then
            local after = 0
            if each == 'interactive' and in_line(c, stage, 'bulk') > 0 then after = streak + 1 end
            if after ~= streak then redis.call('HSET', c.k .. 'turn', stage, after) end
            return taken
        end
    end
end

register('kirie_take', function(c, args)
    local stage, worker, model, lane = args[1] or '', args[2] or '', args[3] or '', args[4] or ''
    local n, lease, age = whole(args[5], 1, 256), whole(args[6], 1, 86400000), whole(args[7] or 0, 0, 86400000)
    if not GROUP[stage] or not is_id(worker) or (model ~= '' and not is_model(model))
        or (lane ~= 'any' and not IS_LANE[lane]) or not n or not lease or not age
        or (args[8] and args[8] ~= 'last') then
        return refusal('BADCALL',
            'kirie_take <encode|decode> <worker> <model> <any|interactive|bulk> <count> <lease ms> [<age ms>] [last]')
    end
    -- No room for more results: what is done now could not be kept.
    if stage == 'decode' and counters(c, { 'result_bytes' }).result_bytes >= setting(c, 'result_bytes') then
        return { 'idle' }
    end
    c.looked = 0
    c.age = age > 0 and age or nil
    local taken = take_by_rule(c, stage, lane, worker, model, n, lease)
    if not taken and c.looked < SEARCH and promote(c, 16) + reclaim(c, 16) > 0 then
        taken = take_by_rule(c, stage, lane, worker, model, n, lease)
    end
    if taken then
        -- Of whatever model; what comes later rings a bell.
        if args[8] and in_line(c, stage, 'interactive') + in_line(c, stage, 'bulk') <= 0 then taken[1] = 'last' end
        return taken
    end
    return { c.looked >= SEARCH and 'again' or 'idle' }
end, { 'allow-oom' })

--[[ kirie_renew        FCALL kirie_renew 1 <prefix> <lease ms> (<encode|decode> <key or id> <token>)…
  Extends leases; they run lease ms from now.
  Reply: for each: renewed · unwanted (renewed, but no job waits for this encode any more) · lost (another worker has it,
  or will) · cancelled, expired, done, failed, dead (the job ended: drop the work). Errors: BADCALL. ]]
local function triples(args, first)
    local n = (#args - first + 1) / 3
    return n >= 1 and n <= BATCH and n == math.floor(n) and n or nil
end

register('kirie_renew', function(c, args)
    local lease, n = whole(args[1], 1, 86400000), triples(args, 2)
    if not lease or not n then
        return refusal('BADCALL', 'kirie_renew <lease ms> (<encode|decode> <key or id> <token>)…')
    end
    local replies = {}
    for i = 1, n do
        local stage, name, token = args[i * 3 - 1], args[i * 3], args[i * 3 + 1]
        if stage == 'encode' then
            local flight = redis.call('HMGET', c.k .. 'flight:' .. name, 'state', 'token')
            if flight[1] == 'in_work' and flight[2] == token then
                redis.call('ZADD', c.k .. 'leases', lease_clock(c) + lease, 'e:' .. name)
                replies[i] = wanted(c, name) and 'renewed' or 'unwanted'
            else
                forgive(c, 'flight:' .. name, load(c.k .. 'flight:' .. name), token)
                replies[i] = 'lost'
            end
        else
            local job = redis.call('HMGET', c.k .. 'job:' .. name, 'state', 'token')
            if job[1] == 'in_work' and job[2] == token then
                redis.call('ZADD', c.k .. 'leases', lease_clock(c) + lease, 'd:' .. name)
                replies[i] = 'renewed'
            else
                forgive(c, 'job:' .. name, load(c.k .. 'job:' .. name), token)
                replies[i] = TERMINAL[job[1]] and job[1] or 'lost'
            end
        end
    end
    return replies
end, { 'allow-oom' })

--[[ kirie_ready        FCALL kirie_ready 1 <prefix> <key> <token> <ttl ms> <record>
  Publishes an embedding and releases the jobs parked on it, up to "chunk" in this call. Where embeddings are kept in
  another Redis, the record is a short mark. A publication without the lease is stored if nothing is there, and ends
  nothing.
  Reply: ["published" | "late", released, left]; while left > 0: kirie_release.
  Errors: BADCALL, OOM (kirie_room, then again; renew meanwhile). ]]
local function ready(c, args)
    local key, token, ttl, record = args[1] or '', args[2] or '', whole(args[3], 1, 1e13), args[4] or ''
    if not is_key(key) or not ttl or record == '' then
        return refusal('BADCALL', 'kirie_ready <key> <token> <ttl ms> <record>')
    end
    local flight = load(c.k .. 'flight:' .. key)
    if not flight or flight.state ~= 'in_work' or flight.token ~= token then
        forgive(c, 'flight:' .. key, flight, token)
        redis.call('SET', c.k .. 'embedding:' .. key, record, 'PX', ttl, 'NX')
        may_go(c, 'embedding', key)
        count(c, 'encode_late')
        return { 'late', 0, 0 }
    end
    redis.call('SET', c.k .. 'embedding:' .. key, record, 'PX', ttl)
    may_go(c, 'embedding', key)
    end_flight(c, key, flight)
    count(c, 'encode_finished')
    count(c, 'encode_us', c.us - (tonumber(flight.started) or c.us))
    observe(c, 'encode_service:' .. flight.lane, flight.started)
    local released, left = release(c, key, setting(c, 'chunk'))
    return { 'published', released, left }
end

register('kirie_ready', ready)

--[[ kirie_ready_full   FCALL kirie_ready_full 1 <prefix> <key> <token> <ttl ms> <record>
  kirie_ready where Redis said OOM and kirie_room found nothing to drop: everything there is needed by jobs, which only
  this embedding can end. It goes beyond maxmemory, by one record a partition: not while jobs of this partition are in
  line or in work, whose ends make room.
  Reply and errors: those of kirie_ready, and BACKPRESSURE. ]]
register('kirie_ready_full', function(c, args)
    local held = counters(c, { 'queued:interactive', 'queued:bulk', 'in_work:interactive', 'in_work:bulk' })
    local jobs = held['queued:interactive'] + held['queued:bulk'] + held['in_work:interactive'] + held['in_work:bulk']
    if jobs > 0 then
        return refusal('BACKPRESSURE', 'Redis has reached its maxmemory, and ' .. jobs .. ' jobs of partition ' .. c.p
            .. ' are still to be decoded; retry after 200 ms')
    end
    return ready(c, args)
end, { 'allow-oom' })

--[[ kirie_release      FCALL kirie_release 1 <prefix> <key>
  Goes on releasing (or, after an encode that failed for good, ending) the jobs parked on a key.
  Reply: [moved, left]. Errors: BADCALL. ]]
register('kirie_release', function(c, args)
    if not is_key(args[1] or '') then return refusal('BADCALL', 'kirie_release <key>') end
    if redis.call('ZSCORE', c.k .. 'delayed', 'r:' .. args[1]) == false then return { 0, 0 } end
    local moved, left = continue_release(c, args[1], setting(c, 'chunk'))
    return { moved, left }
end, { 'allow-oom' })

--[[ kirie_missing      FCALL kirie_missing 1 <prefix> <key> <0|1> (<id> <token>)…
  A decoder holds these jobs and the embedding is gone, or (1) corrupt and to be dropped. They go back to waiting and one
  encode is asked for; where the embedding is there again meanwhile, they go back to their line. No attempt is counted,
  but after "misses" times a job is dead.
  Reply: for each: waiting_embedding · queued · dead · lost, or the state it ended in. Errors: BADCALL. ]]
register('kirie_missing', function(c, args)
    local key, drop, n = args[1] or '', args[2], (#args - 2) / 2
    if not is_key(key) or (drop ~= '0' and drop ~= '1') or n < 1 or n > BATCH or n ~= math.floor(n) then
        return refusal('BADCALL', 'kirie_missing <key> <0|1> (<id> <token>)…')
    end
    if drop == '1' then
        redis.call('DEL', c.k .. 'embedding:' .. key)
        count(c, 'corrupt')
    end
    local there = redis.call('EXISTS', c.k .. 'embedding:' .. key) == 1
    if not there then count(c, 'evictions') end
    local replies = {}
    for i = 1, n do
        local id, token = args[i * 2 + 1], args[i * 2 + 2]
        local job = load(c.k .. 'job:' .. id)
        if not job or job.state ~= 'in_work' or job.token ~= token or key_of(job) ~= key then
            forgive(c, 'job:' .. id, job, token)
            replies[i] = job and TERMINAL[job.state] and job.state or 'lost'
        else
            local misses = (tonumber(job.misses) or 0) + 1
            if misses > setting(c, 'misses') then
                local times = setting(c, 'misses')
                finish(c, id, job, 'dead', 'its embedding was evicted ' .. times .. ' times: raise maxmemory')
                replies[i] = 'dead'
            else
                out_of_place(c, id, job)
                job.attempts = tostring((tonumber(job.attempts) or 1) - 1)
                redis.call('HSET', c.k .. 'job:' .. id, 'misses', misses, 'attempts', job.attempts)
                if there then
                    into_line(c, id, job)
                    replies[i] = 'queued'
                else
                    redis.call('HSET', c.k .. 'job:' .. id, 'state', 'waiting_embedding')
                    if job.pinned then
                        unpin(c, key)
                        redis.call('HDEL', c.k .. 'job:' .. id, 'pinned')
                    end
                    park(c, id, job)
                    ask(c, key, job.lane)
                    replies[i] = 'waiting_embedding'
                end
            end
        end
    end
    return replies
end, { 'allow-oom' })

--[[ kirie_complete     FCALL kirie_complete 1 <prefix> (<id> <token> <result>)…
  The result, the state, the acknowledgement and the notifications of 1 to 1024 jobs in one step.
  Reply: for each [1, "done"]; [1, "failed"] where the result alone is larger than result_bytes; or [0, state] where nothing
  was changed: the job had ended before, or the lease is lost ("lost"), or nobody knows the id ("unknown"), or there is no
  room for the result ("full": renew, and complete again later).
  Errors: BADCALL, OOM (kirie_room, then again; renew meanwhile). ]]

-- What the end of a job gives back to a Redis that is full: its line, and its image if no other job needs it.
local function given_back(c, job)
    local held = redis.call('HMGET', c.k .. 'refs', job.image, 'b:' .. job.image)
    return (tonumber(job.bytes) or 0) + (held[1] == '1' and tonumber(held[2]) or 0)
end

local function has_room(c, job, result, oom)
    local limit = setting(c, 'result_bytes')
    local held = counters(c, { 'result_bytes' }).result_bytes + (c.add.result_bytes or 0) + #result + KEPT
    if held > limit then return false end
    return not oom or held <= OVERDRAFT or #result + KEPT <= given_back(c, job)
end

local function complete(c, args, oom)
    local n = triples(args, 1)
    if not n then return refusal('BADCALL', 'kirie_complete (<id> <token> <result>)…') end
    local replies = {}
    for i = 1, n do
        local id, token, result = args[i * 3 - 2], args[i * 3 - 1], args[i * 3]
        local job = load(c.k .. 'job:' .. id)
        if not job then
            replies[i] = { 0, 'unknown' }
        elseif TERMINAL[job.state] then
            count(c, 'duplicate_completions')
            replies[i] = { 0, job.state }
        elseif job.state ~= 'in_work' or job.token ~= token then
            count(c, 'lost')
            forgive(c, 'job:' .. id, job, token)
            replies[i] = { 0, 'lost' }
        elseif #result + KEPT > setting(c, 'result_bytes') then
            finish(c, id, job, 'failed', 'its result has ' .. #result .. ' bytes, and a partition keeps '
                .. micros(setting(c, 'result_bytes')) .. ' (result_bytes): ask for fewer masks in one job')
            replies[i] = { 1, 'failed' }
        elseif not has_room(c, job, result, oom) then
            replies[i] = { 0, 'full' }
        else
            observe(c, 'service:' .. job.lane, job.started)
            finish(c, id, job, 'done', nil, result)
            replies[i] = { 1, 'done' }
        end
    end
    return replies
end

register('kirie_complete', function(c, args) return complete(c, args, false) end)

--[[ kirie_complete_full FCALL kirie_complete_full 1 <prefix> (<id> <token> <result>)…
  kirie_complete where Redis said OOM and kirie_room found nothing to drop. Results that are no larger than what the end of
  their job gives back are taken all the same, others while the partition keeps less than 4 MiB of ended jobs.
  Reply and errors: those of kirie_complete. ]]
register('kirie_complete_full', function(c, args) return complete(c, args, true) end, { 'allow-oom' })

--[[ kirie_fail         FCALL kirie_fail 1 <prefix> <encode|decode> <key or id> <token> <1 retryable|0> <reason>
  Work that could not be done. Retryable: again after a backoff that doubles, until the attempts are used up; then dead.
  Not retryable (the picture cannot be read, the prompt makes no sense): failed; of an encode, every job parked on it.
  Reply: queued · failed · dead · lost, or the state in which the job ended before. Errors: BADCALL. ]]
register('kirie_fail', function(c, args)
    local stage, name, token, again = args[1], args[2] or '', args[3], args[4]
    local why = string.sub(args[5] or '', 1, 1000)
    if not GROUP[stage] or not token or (again ~= '0' and again ~= '1') or why == '' then
        return refusal('BADCALL', 'kirie_fail <encode|decode> <key or id> <token> <1|0> <reason>')
    end
    if stage == 'encode' then
        local flight = load(c.k .. 'flight:' .. name)
        if not flight or flight.state ~= 'in_work' or flight.token ~= token then
            forgive(c, 'flight:' .. name, flight, token)
            return 'lost'
        end
        if again == '1' then return try_flight_again(c, name, flight, why, true) end
        ground(c, name, flight, 'failed', why)
        return 'failed'
    end
    local job = load(c.k .. 'job:' .. name)
    if not job or job.state ~= 'in_work' or job.token ~= token then
        forgive(c, 'job:' .. name, job, token)
        return job and TERMINAL[job.state] and job.state or 'lost'
    end
    if again == '1' then return try_again(c, name, job, why, true) end
    finish(c, name, job, 'failed', why)
    return 'failed'
end, { 'allow-oom' })

--[[ kirie_return       FCALL kirie_return 1 <prefix> (<encode|decode> <key or id> <token>)…
  Hands work back unfinished (a worker that drains): at once in line again, no attempt counted.
  Reply: for each: queued · lost, or the state in which the job ended. Errors: BADCALL. ]]
register('kirie_return', function(c, args)
    local n = triples(args, 1)
    if not n then return refusal('BADCALL', 'kirie_return (<encode|decode> <key or id> <token>)…') end
    local replies = {}
    for i = 1, n do
        local stage, name, token = args[i * 3 - 2], args[i * 3 - 1], args[i * 3]
        local held = load(c.k .. (stage == 'encode' and 'flight:' or 'job:') .. name)
        if not held or held.state ~= 'in_work' or held.token ~= token then
            forgive(c, (stage == 'encode' and 'flight:' or 'job:') .. name, held, token)
            replies[i] = stage ~= 'encode' and held and TERMINAL[held.state] and held.state or 'lost'
        else
            local attempts = tostring(math.max((tonumber(held.attempts) or 1) - 1, 0))
            if stage == 'encode' then
                flight_out_of_place(c, name, held)
                flight_into_line(c, name, held.lane, attempts)
            else
                out_of_place(c, name, held)
                held.attempts = attempts
                redis.call('HSET', c.k .. 'job:' .. name, 'attempts', attempts)
                into_line(c, name, held)
            end
            replies[i] = 'queued'
        end
    end
    return replies
end, { 'allow-oom' })

--[[ kirie_cancel       FCALL kirie_cancel 1 <prefix> <id>…
  Ends jobs that have not ended. Whoever works on one learns it when renewing or completing.
  Reply: for each [1, "cancelled"], [0, state in which it had ended] or [0, "unknown"]. Errors: BADCALL. ]]
register('kirie_cancel', function(c, args)
    if #args < 1 or #args > BATCH then return refusal('BADCALL', 'kirie_cancel <id>…: 1 to 1024') end
    local replies = {}
    for i, id in ipairs(args) do
        local job = load(c.k .. 'job:' .. id)
        if not job then
            replies[i] = { 0, 'unknown' }
        elseif TERMINAL[job.state] then
            replies[i] = { 0, job.state }
        else
            finish(c, id, job, 'cancelled')
            replies[i] = { 1, 'cancelled' }
        end
    end
    return replies
end, { 'allow-oom' })

--[[ kirie_status       FCALL_RO kirie_status 1 <prefix> <id>…
  Reply: for each nothing (nil: unknown here) or the job's fields, flat: state, lane, image, model, attempts, submitted,
  started, finished, error, worker, misses, deadline, … Errors: BADCALL. ]]
local HIDDEN = {
    token = true, ticket = true, aside = true, client = true, sum = true, lapsed = true, pinned = true, letter = true,
    kept = true, empty = true,
}

local function read_only(name, body)
    redis.register_function {
        function_name = name, flags = { 'no-writes', 'allow-oom' },
        callback = function(keys, args)
            local c, problem = open(keys)
            if not c then return problem end
            return body(c, args)
        end,
    }
end

read_only('kirie_status', function(c, args)
    if #args < 1 or #args > BATCH then return refusal('BADCALL', 'kirie_status <id>…: 1 to 1024') end
    local replies = {}
    for i, id in ipairs(args) do
        local flat = redis.call('HGETALL', c.k .. 'job:' .. id)
        local shown = false
        for at = 1, #flat, 2 do
            if not HIDDEN[flat[at]] then
                shown = shown or {}
                shown[#shown + 1] = flat[at]; shown[#shown + 1] = flat[at + 1]
            end
        end
        replies[i] = shown
    end
    return replies
end)

--[[ kirie_reclaim      FCALL kirie_reclaim 1 <prefix> [<limit>]
  Puts work whose lease ran out back in line, or to the dead after its last attempt. The janitor does it too.
  Reply: how many. Errors: BADCALL. ]]
register('kirie_reclaim', function(c, args)
    local limit = whole(args[1] or 100, 1, 10000)
    if not limit then return refusal('BADCALL', 'kirie_reclaim [<limit>]') end
    return reclaim(c, limit)
end, { 'allow-oom' })

--[[ kirie_janitor      FCALL kirie_janitor 1 <prefix> [<limit>]
  Whatever time brings: backoffs end, leases run out, deadlines pass, retention ends, dead letters beyond the cap go, idle
  consumers leave; at most limit (100) of each.
  Reply: [promoted, reclaimed, expired, removed, trimmed, again (1: a limit was reached), ms until the next is due or -1].
  Errors: BADCALL. ]]
register('kirie_janitor', function(c, args)
    local limit = whole(args[1] or 100, 1, 10000)
    if not limit then return refusal('BADCALL', 'kirie_janitor [<limit>]') end
    local reply = {
        promote(c, limit), reclaim(c, limit), expire(c, limit), remove_ended(c, limit), trim_dead(c, limit), 0, -1,
    }
    forget_consumers(c)
    sample_totals(c)
    for i = 1, 5 do
        if reply[i] >= limit then reply[6] = 1 end
    end
    local function due(zset, now)
        local head = redis.call('ZRANGE', c.k .. zset, 0, 0, 'WITHSCORES')
        local wait = head[2] and math.max(math.ceil(tonumber(head[2]) - now), 0)
        if wait and (reply[7] < 0 or wait < reply[7]) then reply[7] = wait end
    end
    due('leases', lease_clock(c))
    due('delayed', lease_clock(c))
    due('deadlines', c.ms)
    return reply
end, { 'allow-oom' })

--[[ kirie_dead_retry   FCALL kirie_dead_retry 1 <prefix> <entry>…
  Brings dead jobs back with their attempts at zero; <entry> is the id of the dead letter (XRANGE <prefix>dead - +).
  Reply: for each: queued · waiting_embedding · unknown · not a job · NOIMAGE (the image is gone, and no embedding can be
  pinned: kirie_image first). Errors: BADCALL, OOM. ]]
register('kirie_dead_retry', function(c, args)
    if #args < 1 or #args > BATCH then return refusal('BADCALL', 'kirie_dead_retry <entry>…: 1 to 1024') end
    local replies = {}
    for i, entry in ipairs(args) do
        local found = string.find(entry, '^%d+-%d+$') and redis.call('XRANGE', c.k .. 'dead', entry, entry)[1]
        local id = found and (table_of(found[2]) or {}).job
        local job = id and load(c.k .. 'job:' .. id)
        if not found then
            replies[i] = 'unknown'
        elseif not job or job.state ~= 'dead' then
            replies[i] = 'not a job'
        else
            local key = key_of(job)
            local there = redis.call('EXISTS', c.k .. 'embedding:' .. key) == 1
            local stored = redis.call('EXISTS', c.k .. 'image:' .. job.image) == 1
            if not stored and not (there and redis.call('STRLEN', c.k .. 'embedding:' .. key) > MARK) then
                replies[i] = 'NOIMAGE'
            else
                remove_letter(c, entry, { job = id }, false)
                count(c, 'result_bytes', -(tonumber(job.kept) or 0))
                redis.call('DEL', c.k .. 'done:' .. id)
                redis.call('HDEL', c.k .. 'job:' .. id, 'error', 'finished', 'misses', 'deadline', 'token', 'worker',
                    'ticket', 'aside', 'delayed', 'kept', 'letter', 'lapsed', 'pinned')
                redis.call('HSET', c.k .. 'job:' .. id, 'attempts', 0, 'submitted', c.now,
                    'state', 'waiting_embedding')
                job.attempts, job.pinned, job.aside, job.ticket = '0', nil, nil, nil
                need_image(c, job.image)
                if not stored then
                    redis.call('HSET', c.k .. 'job:' .. id, 'pinned', 1)
                    pin(c, key)
                end
                count(c, 'bytes:' .. job.lane, tonumber(job.bytes) or 0)
                count(c, 'in:' .. job.lane)
                count(c, 'revived')
                if there and not encode_only(job) then
                    into_line(c, id, job)
                    replies[i] = 'queued'
                else
                    park(c, id, job)
                    ask(c, key, job.lane)
                    replies[i] = 'waiting_embedding'
                end
            end
        end
    end
    return replies
end)

--[[ kirie_dead_purge   FCALL kirie_dead_purge 1 <prefix> <entry>… | <count>
  Removes these dead letters, or the oldest <count> (at most 1024), with what is left of their jobs.
  Reply: how many. Errors: BADCALL. ]]
register('kirie_dead_purge', function(c, args)
    if #args < 1 or #args > BATCH then return refusal('BADCALL', 'kirie_dead_purge <entry>… | <count>') end
    local letters = {}
    local n = whole(args[1], 1, BATCH)
    if #args == 1 and n then
        letters = redis.call('XRANGE', c.k .. 'dead', '-', '+', 'COUNT', n)
    else
        for _, entry in ipairs(args) do
            local found = string.find(entry, '^%d+-%d+$') and redis.call('XRANGE', c.k .. 'dead', entry, entry)[1]
            if found then letters[#letters + 1] = found end
        end
    end
    local removed = 0
    for _, letter in ipairs(letters) do removed = removed + remove_letter(c, letter[1], table_of(letter[2]) or {}, true) end
    return removed
end, { 'allow-oom' })

--[[ kirie_stats        FCALL_RO kirie_stats 1 <prefix>
  What there is to watch, in one reply of bounded size: flat names and values.
    gauges, by lane: parked, queued, delayed, in_work (jobs); encode_queued, encode_delayed, encode_in_work (flights);
      bytes; and image_bytes, result_bytes, flights_open, dead_letters_kept
    totals: in, out, done, failed, dead, cancelled, expired, refused by lane; duplicates, flights, joins, retries, reclaimed,
      lost, batches, evictions, corrupt, duplicate_completions, garbage, revived, dead_letters, encode_started,
      encode_finished, encode_late, encode_failed, encode_dead, encode_retries, encode_reclaimed, encode_unwanted, encode_us;
      fetches and hits (of embeddings, which decoders add with HINCRBY <prefix>counters)
    lag:<stage>:<lane>, pending:<stage>:<lane>: of the group, as XINFO GROUPS says ("" unknown)
    age_ms:<stage>:<lane>: how long the head of the line stands there (0: nobody); age_ms:parked: the oldest flight
    rate_in:<lane>, rate_out:<lane>: jobs per second over the last minute
    hist:<series>:<lane>:<bucket>: observations; series wait (submit to take), service (take to complete), encode_wait,
      encode_service; bucket b holds 2^(b/4) <= microseconds < 2^((b+1)/4)
  Errors: BADCALL. ]]
read_only('kirie_stats', function(c)
    local flat = redis.call('HGETALL', c.k .. 'counters')
    local function add(name, value) flat[#flat + 1] = name; flat[#flat + 1] = tostring(value) end
    for stage, group in pairs(GROUP) do
        for _, lane in ipairs(LANES) do
            local name = stage .. ':' .. lane
            local stream = c.k .. name
            local age, lag, pending = 0, 0, 0
            local groups = redis.pcall('XINFO', 'GROUPS', stream)
            for _, each in ipairs(groups.err and {} or groups) do
                local info = table_of(each)
                if info.name == group then
                    -- Not Redis's own lag, which it does not know once an entry was taken out of the middle.
                    lag, pending = math.max(redis.call('XLEN', stream) - info.pending, 0), info.pending
                    -- The first tickets may be empty; a few are looked through for one that counts.
                    local next = redis.call('XRANGE', stream, '(' .. info['last-delivered-id'], '+', 'COUNT', 16)
                    for _, entry in ipairs(next) do
                        local fields = table_of(entry[2]) or {}
                        local owner = fields.job and ('job:' .. fields.job) or ('flight:' .. (fields.key or ''))
                        if redis.call('HGET', c.k .. owner, 'state') == 'queued' then
                            age = math.max(c.ms - tonumber(string.match(entry[1], '^%d+')), 0)
                            break
                        end
                    end
                end
            end
            add('lag:' .. name, lag)
            add('pending:' .. name, pending)
            add('age_ms:' .. name, age)
        end
    end
    local oldest = redis.call('ZRANGE', c.k .. 'flights', 0, 0, 'WITHSCORES')
    add('age_ms:parked', oldest[2] and math.max(c.ms - tonumber(oldest[2]), 0) or 0)
    add('flights_open', redis.call('ZCARD', c.k .. 'flights'))
    add('dead_letters_kept', redis.call('XLEN', c.k .. 'dead'))
    for name, value in pairs(rates(c)) do add('rate_' .. name, string.format('%.3f', value)) end
    local wanted_of = redis.call('HGETALL', c.k .. 'demand')
    for i = 1, #wanted_of, 2 do add('demand:' .. wanted_of[i], wanted_of[i + 1]) end
    return flat
end)

--[[ kirie_demand       FCALL_RO kirie_demand 1 <prefix> [<encode|decode> <model>]
  What is to be done in this partition, for autoscalers: how many encodes, or jobs, wait or are in work, in both lanes,
  pauses before the next attempt included. Summed over the partitions it is what the workers of a role and model have to
  do. Jobs that wait for their embedding are the encoders' demand, one for each picture. Cancelled and expired ones are
  not counted from the moment on at which they ended.
  Reply: that number, or, with no arguments, flat: "encode:<model>" or "decode:<model>", number, …; without those at zero.
  Errors: BADCALL. ]]
read_only('kirie_demand', function(c, args)
    if #args == 0 then return redis.call('HGETALL', c.k .. 'demand') end
    if not GROUP[args[1]] or not is_model(args[2] or '') then
        return refusal('BADCALL', 'kirie_demand [<encode|decode> <model>]')
    end
    return tonumber(redis.call('HGET', c.k .. 'demand', args[1] .. ':' .. args[2])) or 0
end)

--[[ kirie_room         FCALL kirie_room 1 <prefix> [<count>]
  Makes room in a Redis that said OOM and evicts nothing by itself (maxmemory-policy noeviction): drops images that no job
  needs; where there are none, embeddings that no job is in line for; first those that were of no use for the longest time.
  Looks at up to count (8, at most 1024) of them. Under volatile-lru Redis has done so before it says OOM.
  Reply: [dropped, their bytes]. Errors: BADCALL. ]]
local function drop_image(c, sha)
    local needed = redis.call('HGET', c.k .. 'refs', sha)
    if needed and needed ~= '0' then return 0 end   -- it comes back when it is let go of
    if needed then
        redis.call('ZREM', c.k .. 'ends', 'i:' .. sha)
        let_image_go(c, sha)
    end
    local bytes = redis.call('STRLEN', c.k .. 'image:' .. sha)
    redis.call('DEL', c.k .. 'image:' .. sha)
    return bytes
end

-- The bytes; nil where it has to stay: it is pinned, or in use, or was used since it was noted.
local function drop_embedding(c, key, noted)
    local name = c.k .. 'embedding:' .. key
    local idle = redis.pcall('OBJECT', 'IDLETIME', name)
    if type(idle) == 'number' and idle * 1000 < (c.ms - noted) / 2 then return nil, c.ms - idle * 1000 end
    for _, lane in ipairs(LANES) do
        if redis.call('EXISTS', c.k .. 'ready:' .. lane .. ':' .. key) == 1 then return nil, c.ms end
    end
    if redis.call('HEXISTS', c.k .. 'refs', 'p:' .. key) == 1 then return nil, c.ms end
    local bytes = redis.call('STRLEN', name)
    redis.call('DEL', name)
    return bytes
end

local function drop_idle(c, kind, limit, drop)
    local set, dropped, bytes = c.k .. 'idle:' .. kind, 0, 0
    local idle = redis.call('ZRANGE', set, 0, limit - 1, 'WITHSCORES')
    for i = 1, #idle, 2 do
        local freed, since = drop(c, idle[i], tonumber(idle[i + 1]))
        if not freed then
            redis.call('ZADD', set, micros(since), idle[i])
        else
            redis.call('ZREM', set, idle[i])
            if freed > 0 then dropped, bytes = dropped + 1, bytes + freed end
        end
    end
    return dropped, bytes
end

register('kirie_room', function(c, args)
    local limit = whole(args[1] or 8, 1, 1024)
    if not limit then return refusal('BADCALL', 'kirie_room [<count>]: 1 to 1024') end
    -- An image costs whoever has it a transfer; an embedding costs an encode.
    local dropped, bytes = drop_idle(c, 'image', limit, drop_image)
    if dropped == 0 then dropped, bytes = drop_idle(c, 'embedding', limit, drop_embedding) end
    count(c, 'room_made', dropped)
    return { dropped, bytes }
end, { 'allow-oom' })

--[[ kirie_renew        FCALL kirie_renew 1 <prefix> <lease ms> (<encode|decode> <key or id> <token>)…
  Extends leases; they run lease ms from now.
  Reply: for each: renewed · unwanted (renewed, but no job waits for this encode any more) · lost (another worker has it,
  or will) · cancelled, expired, done, failed, dead (the job ended: drop the work). Errors: BADCALL. ]]
local function triples(args, first)
    local n = (#args - first + 1) / 3
    return n >= 1 and n <= BATCH and n == math.floor(n) and n or nil
end

-- What a worker is told that does not hold this any more.
local function what_became(stage, found)
    return stage == 'decode' and found and TERMINAL[found.state] and found.state or 'lost'
end

register('kirie_renew', function(c, args)
    local lease, n = whole(args[1], 1, 86400000), triples(args, 2)
    if not lease or not n then
        return refusal('BADCALL', 'kirie_renew <lease ms> (<encode|decode> <key or id> <token>)…')
    end
    local replies = {}
    for i = 1, n do
        local stage, name, token = args[i * 3 - 1], args[i * 3], args[i * 3 + 1]
        local work = WORK[stage]
        if not work then return refusal('BADCALL', 'kirie_renew: a stage is encode or decode') end
        local state = redis.call('HMGET', c.k .. work.hash .. name, 'state', 'token')
        local is_held, found = state[1] == 'in_work' and state[2] == token, nil
        if not is_held then is_held, found = held_work(c, work, name, token) end
        if is_held then
            redis.call('ZADD', c.k .. 'leases', lease_clock(c) + lease, work.member .. name)
            replies[i] = (stage == 'decode' or wanted(c, name)) and 'renewed' or 'unwanted'
        else
            uncount_attempt(c, work, name, found, token)
            replies[i] = what_became(stage, found)
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
    local encode, found = held_work(c, WORK.encode, key, token)
    if not encode then
        uncount_attempt(c, WORK.encode, key, found, token)
        redis.call('SET', c.k .. 'embedding:' .. key, record, 'PX', ttl, 'NX')
        may_go(c, 'embedding', key)
        count(c, 'encode_late')
        return { 'late', 0, 0 }
    end
    redis.call('SET', c.k .. 'embedding:' .. key, record, 'PX', ttl)
    may_go(c, 'embedding', key)
    end_encode(c, key, encode)
    count(c, 'encode_finished')
    count(c, 'encode_us', c.us - (tonumber(encode.started) or c.us))
    observe(c, 'encode_service:' .. encode.lane, encode.started)
    local released, left = release(c, key, setting(c, 'chunk'))
    return { 'published', released, left }
end

register('kirie_ready', ready)

--[[ kirie_ready_full   FCALL kirie_ready_full 1 <prefix> <key> <token> <ttl ms> <record>
  kirie_ready where Redis said OOM and kirie_room found nothing to drop: everything there is needed by jobs, which only
  this embedding can end. It goes beyond maxmemory, by one record a partition: not while jobs of this partition are
  queued or in work, whose ends make room.
  Reply: that of kirie_ready. Errors: those of kirie_ready, and BACKPRESSURE. ]]
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
  encode is asked for; where the embedding is there again meanwhile, they go back to their stream. No attempt is counted,
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
        local job, found = held_work(c, WORK.decode, id, token)
        if not job or key_of(job) ~= key then
            uncount_attempt(c, WORK.decode, id, found, token)
            replies[i] = what_became('decode', found)
        else
            local misses = (tonumber(job.misses) or 0) + 1
            if misses > setting(c, 'misses') then
                local times = setting(c, 'misses')
                finish(c, id, job, 'dead', 'its embedding was evicted ' .. times .. ' times: raise maxmemory')
                replies[i] = 'dead'
            else
                withdraw_job(c, id, job)
                job.attempts = tostring((tonumber(job.attempts) or 1) - 1)
                redis.call('HSET', c.k .. 'job:' .. id, 'misses', misses, 'attempts', job.attempts)
                if there then
                    enqueue_job(c, id, job)
                    replies[i] = 'queued'
                else
                    redis.call('HSET', c.k .. 'job:' .. id, 'state', 'waiting_embedding')
                    if job.pinned then
                        unpin(c, key)
                        redis.call('HDEL', c.k .. 'job:' .. id, 'pinned')
                    end
                    park(c, id, job)
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
        local job = load_job(c, id)
        if not job then
            replies[i] = { 0, 'unknown' }
        elseif TERMINAL[job.state] then
            count(c, 'duplicate_completions')
            replies[i] = { 0, job.state }
        elseif job.state ~= 'in_work' or job.token ~= token then
            count(c, 'lost')
            uncount_attempt(c, WORK.decode, id, job, token)
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
  Reply: that of kirie_complete. Errors: those of kirie_complete. ]]
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
    local work = WORK[stage]
    local held, found = held_work(c, work, name, token)
    if not held then
        uncount_attempt(c, work, name, found, token)
        return what_became(stage, found)
    end
    if again == '1' then return retry(c, work, name, held, why, true) end
    work.give_up(c, name, held, 'failed', why)
    return 'failed'
end, { 'allow-oom' })

--[[ kirie_return       FCALL kirie_return 1 <prefix> (<encode|decode> <key or id> <token>)…
  Hands work back unfinished (a worker that drains): at once queued again, no attempt counted.
  Reply: for each: queued · lost, or the state in which the job ended. Errors: BADCALL. ]]
register('kirie_return', function(c, args)
    local n = triples(args, 1)
    if not n then return refusal('BADCALL', 'kirie_return (<encode|decode> <key or id> <token>)…') end
    local replies = {}
    for i = 1, n do
        local stage, name, token = args[i * 3 - 2], args[i * 3 - 1], args[i * 3]
        local work = WORK[stage]
        if not work then return refusal('BADCALL', 'kirie_return: a stage is encode or decode') end
        local held, found = held_work(c, work, name, token)
        if held then
            held.attempts = tostring(math.max((tonumber(held.attempts) or 1) - 1, 0))
            redis.call('HSET', c.k .. work.hash .. name, 'attempts', held.attempts)
            work.withdraw(c, name, held)
            work.enqueue(c, name, held)
            replies[i] = 'queued'
        else
            uncount_attempt(c, work, name, found, token)
            replies[i] = what_became(stage, found)
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
        local job = load_job(c, id)
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


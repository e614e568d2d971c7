--[[ kirie_reclaim      FCALL kirie_reclaim 1 <prefix> [<limit>]
  Puts work whose lease ran out back into its stream, or to the dead after its last attempt. The janitor does it too.
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
    local function next_due(zset, now)
        local head = redis.call('ZRANGE', c.k .. zset, 0, 0, 'WITHSCORES')
        local wait = head[2] and math.max(math.ceil(tonumber(head[2]) - now), 0)
        if wait and (reply[7] < 0 or wait < reply[7]) then reply[7] = wait end
    end
    next_due('leases', lease_clock(c))
    next_due('delayed', lease_clock(c))
    next_due('deadlines', c.ms)
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
        local job = id and load_job(c, id)
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
                owe(c, tenant_of(id), 'bytes', (tonumber(job.bytes) or 0) - (tonumber(job.kept) or 0))
                owe(c, tenant_of(id), 'jobs', 1)
                owe(c, tenant_of(id), 'in', 1)
                redis.call('DEL', c.k .. 'done:' .. id)
                redis.call('HDEL', c.k .. 'job:' .. id, 'error', 'finished', 'misses', 'deadline', 'token', 'worker',
                    'entry', 'aside', 'delayed', 'kept', 'letter', 'lapsed', 'pinned', 'parts', 'parts_left', 'divided')
                redis.call('HSET', c.k .. 'job:' .. id, 'attempts', 0, 'submitted', c.now,
                    'state', 'waiting_embedding')
                job.attempts, job.pinned, job.aside, job.entry, job.parts = '0', nil, nil, nil, nil
                need_image(c, job.image, tenant_of(id))
                if not stored then
                    redis.call('HSET', c.k .. 'job:' .. id, 'pinned', 1)
                    pin(c, key)
                end
                count(c, 'bytes:' .. job.lane, tonumber(job.bytes) or 0)
                count(c, 'in:' .. job.lane)
                count(c, 'revived')
                if there and not encode_only(job) then
                    enqueue_job(c, id, job)
                    replies[i] = 'queued'
                else
                    park(c, id, job)
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


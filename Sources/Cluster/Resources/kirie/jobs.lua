-- ---------------------------------------------------------------------------------------------------------------------
-- Jobs: into their stream, out of wherever they are, to their end.

local function load_job(c, id)
    local job = load(c.k .. 'job:' .. id)
    if job and job.ticket then      -- as an entry was called up to revision 5
        job.entry, job.ticket = job.entry or job.ticket, nil
        redis.call('HSET', c.k .. 'job:' .. id, 'entry', job.entry)
        redis.call('HDEL', c.k .. 'job:' .. id, 'ticket')
    end
    return job
end

local function ready_set(c, id, job)
    local tenant = tenant_of(id)
    return c.k .. 'ready:' .. job.lane .. (tenant and ('@' .. tenant) or '') .. ':' .. key_of(job)
end

-- Puts a job into its stream; returns the entry, which its hash has to name.
local function add_entry(c, id, job)
    count(c, 'queued:' .. job.lane)
    demand(c, 'decode', job.model, 1)
    local attempts = tonumber(job.attempts) or 0
    -- What is done in parts is done by many: none brings others along.
    if attempts == 0 and not job.parent and not job.parts then append(c, ready_set(c, id, job), id) end
    local tenant = tenant_of(id)
    line_up(c, 'decode', job.lane, tenant)
    return redis.call('XADD', stream_name(c, 'decode', job.lane, nil, tenant), '*', 'job', id, 'try', attempts)
end

local function enqueue_job(c, id, job)
    redis.call('HSET', c.k .. 'job:' .. id, 'state', 'queued', 'entry', add_entry(c, id, job))
    redis.call('HDEL', c.k .. 'job:' .. id, 'aside')
end

-- Takes a job's own entry out of its stream, where it has one: the others of a batch have none.
local function drop_entry(c, id, job)
    if not job.entry or job.entry == '' then return end
    local stream = stream_name(c, 'decode', job.lane, job.aside and job.model or nil, tenant_of(id))
    remove_entry(stream, 'decode', job.entry, job.aside)
end

local drop_unwanted_encode   -- below, with the encodes

-- Takes a job out of its place (parked, queued, delayed, in work) and of the gauges of that place.
local function withdraw_job(c, id, job, ending)
    if job.state == 'waiting_embedding' then
        count(c, 'parked:' .. job.lane, -1)
        local set = c.k .. 'waiting:' .. key_of(job)
        if ordered('ZREM', set, id) == 1 and redis.call('EXISTS', set) == 0 then drop_unwanted_encode(c, key_of(job)) end
    elseif job.state == 'queued' and job.delayed then
        redis.call('ZREM', c.k .. 'delayed', 'd:' .. id)
        if not ending then redis.call('HDEL', c.k .. 'job:' .. id, 'delayed') end
        count(c, 'delayed:' .. job.lane, -1)
        demand(c, 'decode', job.model, -1)
    elseif job.state == 'queued' then
        drop_entry(c, id, job)
        if (tonumber(job.attempts) or 0) == 0 then ordered('ZREM', ready_set(c, id, job), id) end
        count(c, 'queued:' .. job.lane, -1)
        demand(c, 'decode', job.model, -1)
    elseif job.state == 'in_work' then
        redis.call('ZREM', c.k .. 'leases', 'd:' .. id)
        count(c, 'in_work:' .. job.lane, -1)
        demand(c, 'decode', job.model, -1)
        drop_entry(c, id, job)
        if not ending then redis.call('HDEL', c.k .. 'job:' .. id, 'entry', 'aside') end
    elseif job.state == 'waiting_parts' then
        count(c, 'divided:' .. job.lane, -1)
    end
end

-- Removes what is left of an ended job.
local function remove_job(c, id, kept)
    local bytes = tonumber(kept or redis.call('HGET', c.k .. 'job:' .. id, 'kept') or nil)
        or redis.call('STRLEN', c.k .. 'result:' .. id)
    if bytes ~= 0 then
        count(c, 'result_bytes', -bytes)
        owe(c, tenant_of(id), 'bytes', -bytes)
    end
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

local finish

-- What is left of the parts of a job that ended.
local function drop_parts(c, id)
    for _, part in ipairs(redis.call('LRANGE', c.k .. 'parts:' .. id, 0, -1)) do
        local job = load_job(c, part)
        if job then
            if not TERMINAL[job.state] then
                withdraw_job(c, part, job, true)
                count(c, 'bytes:' .. job.lane, -(tonumber(job.bytes) or 0))
                owe(c, tenant_of(part), 'bytes', -(tonumber(job.bytes) or 0))
                local due = release_image(c, job.image)
                if #due > 0 then redis.call('ZADD', c.k .. 'ends', unpack(due)) end
                job.kept = '0'
            end
            remove_job(c, part, job.kept)
        end
    end
    redis.call('DEL', c.k .. 'parts:' .. id)
end

-- A part has ended: nobody is told, and the job that it is a part of goes on when it was the last.
local function finish_part(c, id, job, state, why, result)
    withdraw_job(c, id, job, true)
    local kept = KEPT + (result and #result or 0)
    redis.call('HSET', c.k .. 'job:' .. id, 'state', state, 'finished', c.now, 'kept', micros(kept))
    if result then redis.call('SET', c.k .. 'result:' .. id, result) end
    redis.call('DEL', c.k .. 'line:' .. id)
    count(c, 'result_bytes', kept)
    count(c, 'bytes:' .. job.lane, -(tonumber(job.bytes) or 0))
    owe(c, tenant_of(id), 'bytes', kept - (tonumber(job.bytes) or 0))
    count(c, 'parts_' .. state)
    local due = release_image(c, job.image)
    if #due > 0 then redis.call('ZADD', c.k .. 'ends', unpack(due)) end
    local whole = load_job(c, job.parent)
    if not whole or whole.state ~= 'waiting_parts' then return end
    if state ~= 'done' then
        finish(c, job.parent, whole, state, 'one of its parts: ' .. (why or state))
    elseif redis.call('HINCRBY', c.k .. 'job:' .. job.parent, 'parts_left', -1) <= 0 then
        withdraw_job(c, job.parent, whole)
        whole.attempts = '0'
        enqueue_job(c, job.parent, whole)
    end
end

function finish(c, id, job, state, why, result)
    if job.parent then return finish_part(c, id, job, state, why, result) end
    withdraw_job(c, id, job, true)
    if job.parts then drop_parts(c, id) end
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
    local tenant = tenant_of(id)
    owe(c, tenant, 'jobs', -1)
    owe(c, tenant, 'bytes', kept - bytes)
    owe(c, tenant, 'out', 1)
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


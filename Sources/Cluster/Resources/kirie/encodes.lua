-- ---------------------------------------------------------------------------------------------------------------------
-- Encodes in flight: one for each embedding key.

-- Up to revision 5 they lay under other names, and called their entry a ticket: `older` says by prefix whether there may
-- still be such. The functions never make any.
local older = {}

local function adopt_encode(c, key)
    if older[c.k] == nil then older[c.k] = redis.call('EXISTS', c.k .. 'flights') == 1 end
    if not older[c.k] or redis.call('EXISTS', c.k .. 'flight:' .. key) == 0 then return end
    local name = c.k .. 'encoding:' .. key
    redis.call('RENAME', c.k .. 'flight:' .. key, name)
    local ticket = redis.call('HGET', name, 'ticket')
    if ticket then redis.call('HSET', name, 'entry', ticket) end
    redis.call('HDEL', name, 'ticket')
    redis.call('ZADD', c.k .. 'encodings', redis.call('ZSCORE', c.k .. 'flights', key) or c.ms, key)
    redis.call('ZREM', c.k .. 'flights', key)
    if redis.call('EXISTS', c.k .. 'flights') == 0 then older[c.k] = false end
end

local function load_encode(c, key)
    if older[c.k] ~= false then adopt_encode(c, key) end
    return load(c.k .. 'encoding:' .. key)
end

local function enqueue_encode(c, key, encode)
    local attempts = tonumber(encode.attempts) or 0
    line_up(c, 'encode', encode.lane, encode.tenant)
    local stream = stream_name(c, 'encode', encode.lane, nil, encode.tenant)
    local entry = redis.call('XADD', stream, '*', 'key', key, 'try', attempts)
    redis.call('HSET', c.k .. 'encoding:' .. key, 'state', 'queued', 'lane', encode.lane, 'entry', entry,
        'attempts', attempts)
    redis.call('HDEL', c.k .. 'encoding:' .. key, 'aside', 'token')
    count(c, 'encode_queued:' .. encode.lane)
end

-- Takes an encode out of its place and of the gauges of that place.
local function withdraw_encode(c, key, encode)
    local _, model = split(key)
    local stream = stream_name(c, 'encode', encode.lane, encode.aside and model or nil, encode.tenant)
    if encode.state == 'queued' then
        if encode.entry then remove_entry(stream, 'encode', encode.entry, encode.aside) end
        count(c, 'encode_queued:' .. encode.lane, -1)
    elseif encode.state == 'delayed' then
        redis.call('ZREM', c.k .. 'delayed', 'e:' .. key)
        count(c, 'encode_delayed:' .. encode.lane, -1)
    elseif encode.state == 'in_work' then
        redis.call('ZREM', c.k .. 'leases', 'e:' .. key)
        count(c, 'encode_in_work:' .. encode.lane, -1)
        if encode.entry then remove_entry(stream, 'encode', encode.entry, encode.aside) end
    end
end

-- Asks for an embedding: begins an encode, or joins the one that is in flight. An interactive job hastens a bulk one; one
-- of a tenant that has fewer waiting takes it into that tenant's line. It is charged to who asked first all the same.
local function request_encode(c, key, lane, tenant)
    local encode = load_encode(c, key)
    if not encode then
        redis.call('HSET', c.k .. 'encoding:' .. key, 'since', c.now)
        if tenant then redis.call('HSET', c.k .. 'encoding:' .. key, 'tenant', tenant, 'payer', tenant) end
        redis.call('ZADD', c.k .. 'encodings', c.ms, key)
        enqueue_encode(c, key, { lane = lane, tenant = tenant })
        count(c, 'encodes')
        local _, model = split(key)
        demand(c, 'encode', model, 1)
        return
    end
    count(c, 'joins')
    if encode.state ~= 'queued' then return end
    local hastens = lane == 'interactive' and encode.lane == 'bulk'
    local moves = encode.tenant ~= tenant and (hastens or lane == encode.lane
        and redis.call('XLEN', stream_name(c, 'encode', lane, nil, tenant)) + 1
            < redis.call('XLEN', stream_name(c, 'encode', lane, nil, encode.tenant)))
    if not hastens and not moves then return end
    withdraw_encode(c, key, encode)
    if moves then
        redis.call('HSET', c.k .. 'encoding:' .. key, 'payer', encode.payer or 'default')
        if tenant then redis.call('HSET', c.k .. 'encoding:' .. key, 'tenant', tenant)
        else redis.call('HDEL', c.k .. 'encoding:' .. key, 'tenant') end
        encode.tenant = tenant
    end
    encode.lane = lane
    enqueue_encode(c, key, encode)
end

local function end_encode(c, key, encode)
    withdraw_encode(c, key, encode)
    redis.call('DEL', c.k .. 'encoding:' .. key)
    redis.call('ZREM', c.k .. 'encodings', key)
    if encode.state ~= 'failed' and encode.state ~= 'dead' then
        local _, model = split(key)
        demand(c, 'encode', model, -1)
    end
end

-- The last job that waited for an encode is gone: one that nobody works on is not asked for any more.
function drop_unwanted_encode(c, key)
    local encode = load_encode(c, key)
    if encode and (encode.state == 'queued' or encode.state == 'delayed') then
        end_encode(c, key, encode)
        count(c, 'encode_unwanted')
    end
end

-- Has a job wait for its embedding, and asks for that; once in a call for each key and lane.
local function park(c, id, job)
    local key = key_of(job)
    append(c, c.k .. 'waiting:' .. key, id)
    count(c, 'parked:' .. job.lane)
    local tenant = tenant_of(id)
    local name = key .. (tenant and ('@' .. tenant) or '')
    local asked = c.asked[name]
    if asked == 'interactive' or asked == job.lane then
        count(c, 'joins')
    else
        request_encode(c, key, job.lane, tenant)
        c.asked[name] = job.lane
    end
end

-- Up to `limit` parked jobs of a key, each handed to `act`; then says how many are left. What is left is continued by
-- kirie_release, by takes that find nothing else, and by the janitor.
local function unpark(c, key, limit, act)
    local set = c.k .. 'waiting:' .. key
    local popped = ordered('ZPOPMIN', set, limit)
    local moved = 0
    for i = 1, #popped, 2 do
        local id = popped[i]
        local job = load_job(c, id)
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
            enqueue_job(c, id, job)
        end
    end)
end

-- Ends the parked jobs of an encode that failed for good; the encode goes with the last of them.
local function end_parked(c, key, encode, limit)
    local moved, left = unpark(c, key, limit, function(id, job)
        job.attempts = encode.attempts
        job.worker = encode.worker
        finish(c, id, job, encode.state, encode.error)
    end)
    if left == 0 then end_encode(c, key, encode) end
    return moved, left
end

local function give_up_encode(c, key, encode, state, why)
    withdraw_encode(c, key, encode)
    local _, model = split(key)
    demand(c, 'encode', model, -1)
    encode.state, encode.error = state, why
    redis.call('HSET', c.k .. 'encoding:' .. key, 'state', state, 'error', why)
    count(c, 'encode_' .. state)
    return end_parked(c, key, encode, setting(c, 'chunk'))
end

local function continue_release(c, key, limit)
    local encode = load_encode(c, key)
    if not encode then return release(c, key, limit) end
    if encode.state == 'failed' or encode.state == 'dead' then return end_parked(c, key, encode, limit) end
    redis.call('ZREM', c.k .. 'delayed', 'r:' .. key)   -- a new encode is in flight; its end releases them
    return 0, 0
end

-- Whether a job still waits for this key; stale ids at the head of the set go on the way.
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

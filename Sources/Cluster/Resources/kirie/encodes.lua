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


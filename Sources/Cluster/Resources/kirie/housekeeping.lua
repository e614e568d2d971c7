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


-- ---------------------------------------------------------------------------------------------------------------------
-- Housekeeping, each part bounded by `limit`; returns how much was done.

-- Hands on what stands in a set up to `now`, at most `limit`, each taken out of the set first, until `act` says that it is
-- enough; returns how many.
local function each_due(c, set, now, limit, act)
    local done = 0
    for _, member in ipairs(redis.call('ZRANGEBYSCORE', c.k .. set, '-inf', now, 'LIMIT', 0, limit)) do
        redis.call('ZREM', c.k .. set, member)
        done = done + 1
        if act(string.sub(member, 1, 2), string.sub(member, 3), member) then break end
    end
    return done
end

local function promote(c, limit)
    return each_due(c, 'delayed', lease_clock(c), limit, function(kind, name)
        local work = WORK_OF[kind]
        if work then
            local found = work.load(c, name)
            if found and is_delayed(found) then
                work.withdraw(c, name, found)
                work.enqueue(c, name, found)
            end
        elseif kind == 'r:' then
            continue_release(c, name, setting(c, 'chunk'))
            return true     -- one chunk a call is enough
        end
    end)
end

local function reclaim(c, limit)
    return each_due(c, 'leases', lease_clock(c), limit, function(kind, name)
        local work = WORK_OF[kind]
        local held = work and work.load(c, name)
        if held and held.state == 'in_work' then
            count(c, work.gauge .. 'reclaimed')
            redis.call('HSET', c.k .. work.hash .. name, 'lapsed', held.token or '')
            local why = 'the lease of ' .. work.holder .. ' ' .. (held.worker or '?') .. ' ran out'
            retry(c, work, name, held, why, false)
        end
    end)
end

local function expire(c, limit)
    return each_due(c, 'deadlines', c.ms, limit, function(_, _, id)
        local job = load_job(c, id)
        if job and not TERMINAL[job.state] then finish(c, id, job, 'expired', 'the deadline passed') end
    end)
end

local function remove_ended(c, limit)
    return each_due(c, 'ends', c.ms, limit, function(kind, name)
        if kind == 'l:' then
            redis.call('DEL', c.k .. 'reply:' .. name)
        elseif kind == 'i:' then
            let_image_go(c, name)
        else
            remove_job(c, name)
        end
    end)
end

-- Once a minute: consumers that hold nothing and were not heard of for ten minutes leave their groups.
local function forget_consumers(c)
    local last = tonumber(redis.call('HGET', c.k .. 'clock', 'consumers')) or 0
    if math.abs(c.ms - last) < 60000 then return end
    redis.call('HSET', c.k .. 'clock', 'consumers', c.ms)
    for stage, group in pairs(GROUP) do
        for _, lane in ipairs(LANES) do
            local stream = stream_name(c, stage, lane)
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
            redis.pcall('XGROUP', 'CREATE', stream_name(c, stage, lane), group, '0', 'MKSTREAM')
        end
    end
end

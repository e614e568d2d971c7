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
        add = {}, wakes = {}, counters = {}, demand = {}, asked = {}, owed = {},
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

local settle_tenants    -- below, with the tenants

local function close(c)
    settle_tenants(c)
    local names = {}
    for name, n in pairs(c.add) do
        if n ~= 0 then names[#names + 1] = name end
    end
    if #names > 0 then
        local held, fields = counters(c, names), {}
        for i, name in ipairs(names) do
            local before, n = held[name], c.add[name]
            fields[i * 2 - 1], fields[i * 2] = name, micros(before + n)
            -- Not only where nothing was queued: a message too many costs nothing, one too few costs a second.
            if n > 0 and before < 16 and WAKES[name] then c.wakes[WAKES[name]] = true end
        end
        redis.call('HSET', c.k .. 'counters', unpack(fields))
    end
    for name, n in pairs(c.demand) do
        if n ~= 0 and redis.call('HINCRBY', c.k .. 'demand', name, micros(n)) <= 0 then
            redis.call('HDEL', c.k .. 'demand', name)
        end
    end
    for stage in pairs(c.wakes) do redis.call('PUBLISH', c.namespace .. ':wake:' .. stage, c.p) end
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

-- A tenant's name; the default tenant's stands nowhere.
local function is_tenant(s)
    return #s > 0 and #s <= 64 and s ~= 'default' and string.find(s, '^[a-z0-9]') ~= nil
        and not string.find(s, '[^a-z0-9._-]')
end
-- Whose a job is: its id begins with the tenant and a tilde; nil where it is the default tenant's.
local function tenant_of(id) return string.match(id, '^([^~]+)~') end
local function is_job_id(s)
    local tenant, rest = string.match(s, '^([^~]*)~(.*)$')
    if tenant then return is_tenant(tenant) and is_id(rest) end
    return is_id(s)
end

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


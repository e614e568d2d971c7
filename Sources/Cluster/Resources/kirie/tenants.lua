-- ---------------------------------------------------------------------------------------------------------------------
-- Tenants: what each has in the cluster, which pictures it may name, and whose turn it is.

-- Has a tenant's gauges and totals moved, when the call ends. The default tenant's (nil) are what is left of the whole.
local function owe(c, tenant, what, n)
    if not tenant or n == 0 then return end
    local moved = c.owed[tenant] or {}
    c.owed[tenant] = moved
    moved[what] = (moved[what] or 0) + n
    count(c, 'tenants_' .. what, n)
end

local TOTALS_OF = { 'in', 'out', 'refused', 'encodes' }

function settle_tenants(c)
    for tenant, moved in pairs(c.owed) do
        local left = false
        for _, what in ipairs({ 'jobs', 'bytes' }) do
            local set, n = c.k .. 'tenants:' .. what, moved[what] or 0
            local now = n == 0 and redis.call('ZSCORE', set, tenant) or n ~= 0 and redis.call('ZINCRBY', set, micros(n), tenant)
            if now and tonumber(now) > 0 then left = true elseif now then redis.call('ZREM', set, tenant) end
        end
        -- Totals go with the last job and the last byte, so that they are no more than those who are here.
        for _, what in ipairs(TOTALS_OF) do
            local field = tenant .. ':' .. what
            if not left then
                redis.call('HDEL', c.k .. 'tenants:totals', field)
            elseif (moved[what] or 0) ~= 0 then
                redis.call('HINCRBY', c.k .. 'tenants:totals', field, micros(moved[what]))
            end
        end
    end
end

-- Whether any tenant but the default one ever came to this partition. Before that there is nothing to keep apart.
local function is_shared(c)
    if c.shared == nil then c.shared = redis.call('HGET', c.k .. 'clock', 'tenants') ~= false end
    return c.shared
end

local function known_set(c, tenant) return c.k .. 'known:' .. (tenant or 'default') end

-- A picture may be named by its hash by who has sent its bytes, and by nobody else.
local function knows(c, tenant, sha)
    if not is_shared(c) then return not tenant end
    return redis.call('ZSCORE', known_set(c, tenant), sha) ~= false
end

-- Notes that a tenant has sent a picture, or names one again that it knows; returns whether that is new.
local function learn(c, tenant, sha)
    if not is_shared(c) then
        if not tenant then return false end
        redis.call('HSET', c.k .. 'clock', 'tenants', 1)
        c.shared = true
    end
    local set = known_set(c, tenant)
    local new = redis.call('ZADD', set, micros(c.ms), sha) == 1
    if new and redis.call('ZCARD', set) > setting(c, 'known') then redis.call('ZPOPMIN', set) end
    redis.call('PEXPIRE', set, micros(setting(c, 'known_ms')))
    return new
end

-- Turns go by start-time fair queueing (Goyal, Vin, Cheng: Start-time Fair Queueing, 1996). Each tenant of a stage and
-- lane has a tag, where its next take begins in virtual time: that is where its last one ended, or a little before now, if
-- it had nothing to do meanwhile: who takes less than its share has a few jobs go ahead of who takes more. A take lasts its
-- jobs over the tenant's weight. The least tag goes first, and is the time. Workers carry ends and times from partition to
-- partition, so that a tenant with work in one of them has its share of the whole.
--   shares:<stage>:<lane>          hash: tenant, where its last take ends; and :now
--   fair:<stage>:<lane>[:<model>]  zset: who may have something in their streams, by tag as it was last looked at; 0: new
-- A tag in the set is never too late: what was taken meanwhile is in the hash, and is looked up when the tenant comes first.
local UNIT = 27720              -- of virtual time, for a job and the weight 1: what 1 to 12 divide
local CREDIT = 16 * UNIT        -- who comes back, or is new, has so much go ahead and no more
local CLAIM = 256 * UNIT        -- who could not be served keeps a claim of so much and no more
local LOOKS = 32                -- tags one take looks at
local TOLD = 4                  -- tenants of which a worker is told
local NOW = ':now'

local function fair_set(c, stage, lane, model)
    return c.k .. 'fair:' .. stage .. ':' .. lane .. (model and (':' .. model) or '')
end

-- A tenant has something to do in this stage and lane. (Of the default tenant its stream says so.)
local function line_up(c, stage, lane, tenant, model)
    if tenant and redis.call('ZADD', fair_set(c, stage, lane, model), 'NX', '0', tenant) == 1 then c.wakes[stage] = true end
end

local function ends_at(turns, tenant) return tonumber(redis.call('HGET', turns.shares, tenant) or nil) or 0 end

-- What the worker knows of other partitions.
local function learn_ends(turns, carried)
    turns.now = math.max(turns.now, carried.now)
    local names = {}
    for tenant in pairs(carried.ends) do names[#names + 1] = tenant end
    if #names == 0 then return end
    local held, later = redis.call('HMGET', turns.shares, unpack(names)), {}
    for i, tenant in ipairs(names) do
        if carried.ends[tenant] > (tonumber(held[i]) or 0) then
            later[#later + 1] = tenant; later[#later + 1] = micros(carried.ends[tenant])
        end
    end
    if #later > 0 then redis.call('HSET', turns.shares, unpack(later)) end
end

-- The tenants of a stage and lane, or nil where there is only the default one, here and wherever the worker was.
local function turns_of(c, stage, lane, model)
    local carried = c.carried and c.carried[lane]
    local sets = { fair_set(c, stage, lane) }
    if model ~= '' then sets[2] = fair_set(c, stage, lane, model) end
    if not (carried and carried.now > 0) and redis.call('EXISTS', unpack(sets)) == 0 then return nil end
    local turns = { sets = sets, shares = c.k .. 'shares:' .. stage .. ':' .. lane, passed = {}, passes = 0 }
    turns.now = tonumber(redis.call('HGET', turns.shares, NOW)) or 0
    turns.ahead = c.ahead
    if carried then learn_ends(turns, carried) end
    if redis.call('XLEN', stream_name(c, stage, lane)) > 0
        or model ~= '' and c.asides and redis.call('EXISTS', stream_name(c, stage, lane, model)) == 1 then
        redis.call('ZADD', sets[1], 'NX', '0', 'default')
    end
    return turns
end

-- A tenant's tag, by what the set has. (Nobody's is 0: that is for who was not looked at yet.)
local function tag_of(turns, tenant, score)
    return math.max(score, ends_at(turns, tenant), turns.now - (score == 0 and CREDIT or CLAIM), 0)
end

-- Whose turn it is, and its tag; nil where nobody is left.
local function next_turn(turns)
    local tenant, tag
    for _ = 1, LOOKS do
        local set, seen
        for _, each in ipairs(turns.sets) do
            local heads = redis.call('ZRANGE', each, 0, turns.passes, 'WITHSCORES')
            for i = 1, #heads, 2 do
                if not turns.passed[heads[i]] then
                    local score = tonumber(heads[i + 1])
                    if not seen or score < seen then tenant, seen, set = heads[i], score, each end
                    break
                end
            end
        end
        if not seen then return nil end
        tag = tag_of(turns, tenant, seen)
        if tag <= seen then break end
        redis.call('ZADD', set, 'XX', micros(tag), tenant)
    end
    if turns.ahead and tag >= turns.now then return nil end
    return tenant, tag
end

-- This tenant is not to be asked again in this call.
local function pass_turn(turns, tenant)
    turns.passed[tenant], turns.passes = true, turns.passes + 1
end

-- Nothing is left in one of a tenant's streams.
local function leave_line(turns, place, tenant)
    if turns and turns.sets[place] then redis.call('ZREM', turns.sets[place], tenant) end
end

-- `n` takes of the tenant whose turn began at `tag` are charged to `payer`.
local function charge(c, turns, lane, tenant, tag, payer, n)
    local from = payer == tenant and tag or math.max(ends_at(turns, payer), turns.now)
    local weight = tonumber(redis.call('HGET', c.k .. 'weights', payer) or nil) or 1
    local ends = from + math.max(math.floor(n * UNIT / weight), 1)
    turns.now = math.max(turns.now, tag)
    redis.call('HSET', turns.shares, payer, micros(ends), NOW, micros(turns.now))
    -- Nobody goes by an end that is so long ago: two are looked at for each that is written.
    for _, other in ipairs(redis.call('HRANDFIELD', turns.shares, 2)) do
        if other ~= NOW and ends_at(turns, other) <= turns.now - CLAIM then redis.call('HDEL', turns.shares, other) end
    end
    c.charged = { lane, payer, micros(ends), micros(ends - from) }
end

-- For the worker: who was charged, for each lane the time and the next tenants with their tags, "" where nobody waits, and
-- how much was charged.
local function tell_turns(c, stage, model)
    local told = { c.charged[1], c.charged[2], c.charged[3] }
    for _, lane in ipairs(LANES) do
        local turns, heads = turns_of(c, stage, lane, model), {}
        for _, set in ipairs(turns and turns.sets or {}) do
            local found = redis.call('ZRANGE', set, 0, TOLD - 1, 'WITHSCORES')
            for i = 1, #found, 2 do
                heads[#heads + 1] = found[i] .. ' ' .. micros(tag_of(turns, found[i], tonumber(found[i + 1])))
            end
        end
        told[#told + 1] = micros(turns and turns.now or 0)
        told[#told + 1] = table.concat(heads, ' ')
    end
    told[#told + 1] = c.charged[4]
    return told
end

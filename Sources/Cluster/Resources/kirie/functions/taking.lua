--[[ kirie_take         FCALL kirie_take 1 <prefix> <encode|decode> <worker> <model> <lane> <count> <lease ms>
                           [<age ms>] [last] [<turns|ahead> <time> <time> (<interactive|bulk> <tenant> <end>)…]
  The next work of this partition under a lease. worker: the name that leases and consumers show. model: the only one
  that this worker serves ("" whatever comes, for clusters where no worker names one). lane: any (the rule above),
  interactive or bulk. count: 1 to 256, the batch: encodes of several images, or prompts on one image.
  age: only from streams whose head has waited for so long; an idle worker takes from another's partition that way.
  last: be told "last" instead of "work" where nothing is left queued here, so that there is no need to look again.
  turns: what the worker was told of other partitions: the times of both lanes, and where tenants' last takes end.
  ahead: the same, and only what a tenant has waiting that took less than its share: for a worker that is busy, and has such
  work pass. There are no others' turns then, and "idle" says nothing of those.
  Within a lane the tenants take turns, by their weights: see TENANTS.
  Reply: ["work", …] · ["idle"] nothing here now · ["again"] the bound of one call was reached: call again.
    encode: ["work", [key, token, attempt, since, lane]…]
    decode: ["work", key, lane, [id, token, attempt, submitted, line, deadline ms or ""]…]
    with turns, where there are tenants: ["turns", one of these, told], where told is lane, the tenant that it was charged to,
    its end, and of each lane, interactive first, the time and "<tenant> <tag> <tenant> <tag> …" of the next few; "" where
    nobody waits; and last how much was charged, by which its end is later: also where another take has moved it meanwhile.
  The image's bytes are at image:<sha>, the record at embedding:<key>: read them with GET.
  Errors: BADCALL. ]]
local function set_aside(c, stream, stage, lane, model, entry, raw, owner, tenant)
    local other = stream_name(c, stage, lane, model, tenant)
    line_up(c, stage, lane, tenant, model)
    local moved = redis.call('XADD', other, '*', unpack(raw))
    redis.pcall('XGROUP', 'CREATE', other, GROUP[stage], '0')
    redis.call('HSET', c.k .. 'turn', 'asides', 1)
    remove_entry(stream, stage, entry)
    redis.call('HSET', owner, 'entry', moved, 'aside', 1)
    c.wakes[stage] = true
end

-- Whether this entry of this lane is the one that the job or encode names; ids are unique only within one stream. (Before
-- revision 5 a job on its first try did not say which was its.)
local function names(owner, lane, entry, aside)
    if not owner.entry and owner.attempts == '0' and owner.lane == lane then return true end
    return owner.entry == entry and owner.lane == lane and (owner.aside ~= nil) == aside
end

local function take_encode(c, stream, lane, entry, fields, raw, worker, model, lease, token, aside, taken, tenant)
    local key, try = fields.key, tonumber(fields.try)
    if not key or not try or not is_key(key) then
        return reject_entry(c, stream, 'encode', entry, raw, 'an entry {key, try} is expected', aside)
    end
    local encode = load_encode(c, key)
    local _, wants = split(key)
    if not encode or encode.state ~= 'queued' or encode.tenant ~= tenant or not names(encode, lane, entry, aside) then
        remove_entry(stream, 'encode', entry, aside)
    elseif redis.call('EXISTS', c.k .. 'embedding:' .. key) == 1 then
        end_encode(c, key, encode)
        release(c, key, setting(c, 'chunk'))
    elseif not wanted(c, key) then
        end_encode(c, key, encode)
        count(c, 'encode_unwanted')
    elseif model ~= '' and wants ~= model then
        set_aside(c, stream, 'encode', lane, wants, entry, raw, c.k .. 'encoding:' .. key, tenant)
    else
        local attempt = (tonumber(encode.attempts) or 0) + 1
        redis.call('HSET', c.k .. 'encoding:' .. key, 'state', 'in_work', 'token', token, 'worker', worker,
            'attempts', attempt, 'started', c.now)
        redis.call('ZADD', c.k .. 'leases', lease_clock(c) + lease, 'e:' .. key)
        count(c, 'encode_queued:' .. encode.lane, -1)
        count(c, 'encode_in_work:' .. encode.lane)
        count(c, 'encode_started')
        if attempt == 1 then observe(c, 'encode_wait:' .. encode.lane, encode.since) end
        taken[#taken + 1] = { key, token, attempt, encode.since, encode.lane }
        owe(c, encode.payer, 'encodes', 1)
        return encode.payer or 'default'
    end
end

-- `lead`: the entry that was delivered for the batch, which this job keeps until it is done; the others have none.
local function take_job(c, id, job, lead, worker, lease, token)
    local attempt = (tonumber(job.attempts) or 0) + 1
    local key = c.k .. 'job:' .. id
    redis.call('HSET', key, 'state', 'in_work', 'started', c.now, 'token', token, 'attempts', micros(attempt),
        'worker', worker, 'entry', lead and lead.entry or '')
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

-- The next jobs on the image of a job whose entry was delivered, itself among them, or in the place of the first of them.
local function batch_of(c, id, job, lane, key, n)
    local set, batch, looked, itself = ready_set(c, id, job), {}, 0, false
    while #batch < n and looked < 512 do
        local popped = ordered('ZPOPMIN', set, n - #batch)
        if #popped == 0 then break end
        for i = 1, #popped, 2 do
            local member = popped[i]
            local it = member == id and job or load_job(c, member)
            looked = looked + 1
            if it and it.state == 'queued' and not it.delayed and it.attempts == '0' and it.lane == lane
                and key_of(it) == key and still_good(c, member, it) then
                batch[#batch + 1] = { id = member, job = it }
                itself = itself or member == id
            end
        end
    end
    if itself then return batch end
    if #batch == 0 then
        ordered('ZREM', set, id)
        return { { id = id, job = job } }
    end
    -- It stays queued with the entry of the first that goes before it.
    local first = batch[1].job
    if first.entry then
        redis.call('HSET', c.k .. 'job:' .. id, 'entry', first.entry)
        if first.aside then redis.call('HSET', c.k .. 'job:' .. id, 'aside', 1)
        else redis.call('HDEL', c.k .. 'job:' .. id, 'aside') end
        first.entry = nil
    else
        local tenant = tenant_of(id)
        line_up(c, 'decode', lane, tenant)
        local other = redis.call('XADD', stream_name(c, 'decode', lane, nil, tenant), '*', 'job', id, 'try', '0')
        redis.call('HSET', c.k .. 'job:' .. id, 'entry', other)
        redis.call('HDEL', c.k .. 'job:' .. id, 'aside')
    end
    return batch
end

local function take_batch(c, stream, lane, entry, fields, raw, worker, model, lease, token, n, aside, tenant)
    local id, try = fields.job, tonumber(fields.try)
    if not id or not try then
        reject_entry(c, stream, 'decode', entry, raw, 'an entry {job, try} is expected', aside)
        return nil
    end
    local job = load_job(c, id)
    if not job or not job.image or not job.model then
        -- A job of ours may be gone by now only if its retention passed while the entry stood in the stream.
        if c.ms - (tonumber(string.match(entry, '^%d+')) or 0) < setting(c, 'retention_ms') then
            reject_entry(c, stream, 'decode', entry, raw, 'no such job', aside)
        else
            remove_entry(stream, 'decode', entry, aside)
        end
        return nil
    end
    if job.state ~= 'queued' or job.delayed or tenant_of(id) ~= tenant or not names(job, lane, entry, aside) then
        remove_entry(stream, 'decode', entry, aside)
        return nil
    end
    if model ~= '' and job.model ~= model then
        set_aside(c, stream, 'decode', lane, job.model, entry, raw, c.k .. 'job:' .. id, tenant)
        return nil
    end
    job.entry, job.aside = entry, aside and '1' or nil
    if not still_good(c, id, job) then return nil end
    local lead, key = { entry = entry, aside = aside }, key_of(job)
    local taken = { 'work', key, lane }
    if try > 0 or job.parent or job.parts then
        taken[4] = take_job(c, id, job, lead, worker, lease, token)
    else
        local batch = batch_of(c, id, job, lane, key, n)
        local leads = 1
        for i, member in ipairs(batch) do
            if member.id == id then leads = i end
        end
        for i, member in ipairs(batch) do
            if i ~= leads then drop_entry(c, member.id, member.job) end
            taken[#taken + 1] = take_job(c, member.id, member.job, i == leads and lead or nil, worker, lease, token)
        end
    end
    count(c, 'batches')
    return taken
end

-- Whether the next entry of a stream has stood there for `age` ms. One of the future counts: the clock was set back.
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

-- What a worker takes of one tenant's streams, what was set aside for its model first; nil where there is nothing, or, with
-- an age, nothing so old.
local function take_of(c, stage, lane, worker, model, n, lease, taken, turns, turn, tag)
    local tenant = turn ~= 'default' and turn or nil
    local main, own = stream_name(c, stage, lane, nil, tenant), nil
    local streams = { main }
    if model ~= '' and c.asides then
        own = stream_name(c, stage, lane, model, tenant)
        if redis.call('EXISTS', own) == 1 then table.insert(streams, 1, own) else leave_line(turns, 2, turn) end
    end
    local old = false
    for _, stream in ipairs(streams) do
        while c.looked < SEARCH and (not c.age or lags(c, stream, stage, c.age)) do
            old = true
            local entry, fields, raw
            if not tenant or redis.call('EXISTS', stream) == 1 then entry, fields, raw = next_entry(stream, stage, worker) end
            if not entry then
                if stream ~= main or tenant then
                    if redis.call('XLEN', stream) == 0 then redis.call('DEL', stream) end
                end
                leave_line(turns, stream == main and 1 or 2, turn)
                break
            end
            c.looked = c.looked + 1
            c.token = c.now
            if stage == 'decode' then
                local batch = take_batch(
                    c, stream, lane, entry, fields, raw, worker, model, lease, c.token, n, stream == own, tenant)
                if batch then
                    if turns then charge(c, turns, lane, turn, tag, turn, #batch - 3) end
                    return batch
                end
            else
                local payer = take_encode(
                    c, stream, lane, entry, fields, raw, worker, model, lease, c.token, stream == own, taken, tenant)
                if payer and turns then
                    charge(c, turns, lane, turn, tag, payer, 1)
                    return taken
                end
                if #taken >= n then return taken end
            end
        end
    end
    -- Others may have what has stood for long enough.
    if c.age and not old and turns then pass_turn(turns, turn) end
    return not turns and #taken > 0 and taken or nil
end

local function take_from(c, stage, lane, worker, model, n, lease)
    local taken = {}
    local turns = turns_of(c, stage, lane, model)
    if not turns and c.ahead then
        return nil
    elseif not turns then
        taken = take_of(c, stage, lane, worker, model, n, lease, taken, nil, 'default')
    else
        local batch
        while c.looked < SEARCH and turns.passes < 16 and #taken < n do
            local turn, tag = next_turn(turns)
            if not turn then break end
            local had = #taken
            batch = take_of(c, stage, lane, worker, model, n, lease, taken, turns, turn, tag)
            if stage == 'decode' and batch then break end
            -- Where nothing came of it its streams are empty, or what stood in them was set aside: it left the line.
            if #taken == had then c.looked = c.looked + 1 end
        end
        if stage == 'decode' then taken = batch end
    end
    if not taken or #taken == 0 then return nil end
    if stage == 'encode' then table.insert(taken, 1, 'work') end
    return taken
end

-- How much of a lane is queued now.
local function queued_in(c, stage, lane)
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
            if each == 'interactive' and queued_in(c, stage, 'bulk') > 0 then after = streak + 1 end
            if after ~= streak then redis.call('HSET', c.k .. 'turn', stage, after) end
            return taken
        end
    end
end

-- What the worker carries from partition to partition; false where it is none.
local function carry(c, args)
    if #args < 9 then return true end
    if args[9] ~= 'turns' and args[9] ~= 'ahead' or (#args - 11) % 3 ~= 0 or #args > 11 + 3 * 64 then return false end
    c.carried, c.ahead = {}, args[9] == 'ahead'
    for i, lane in ipairs(LANES) do
        local now = whole(args[9 + i], 0, 2 ^ 53)
        if not now then return false end
        c.carried[lane] = { now = now, ends = {} }
    end
    for i = 12, #args, 3 do
        local ends = whole(args[i + 2], 0, 2 ^ 53)
        if not IS_LANE[args[i]] or not ends or not (is_tenant(args[i + 1]) or args[i + 1] == 'default') then return false end
        c.carried[args[i]].ends[args[i + 1]] = ends
    end
    return true
end

register('kirie_take', function(c, args)
    local stage, worker, model, lane = args[1] or '', args[2] or '', args[3] or '', args[4] or ''
    local n, lease, age = whole(args[5], 1, 256), whole(args[6], 1, 86400000), whole(args[7] or 0, 0, 86400000)
    if not GROUP[stage] or not is_id(worker) or (model ~= '' and not is_model(model))
        or (lane ~= 'any' and not IS_LANE[lane]) or not n or not lease or not age
        or (args[8] and args[8] ~= 'last') or not carry(c, args) then
        return refusal('BADCALL', 'kirie_take <encode|decode> <worker> <model> <any|interactive|bulk> <count> <lease ms> '
            .. '[<age ms>] [last] [<turns|ahead> <time> <time> (<interactive|bulk> <tenant> <end>)…]')
    end
    -- No room for more results: what is done now could not be kept.
    if stage == 'decode' and counters(c, { 'result_bytes' }).result_bytes >= setting(c, 'result_bytes') then
        return { 'idle' }
    end
    c.looked = 0
    c.age = age > 0 and age or nil
    local taken = take_by_rule(c, stage, lane, worker, model, n, lease)
    if not taken and not c.ahead and c.looked < SEARCH and promote(c, 16) + reclaim(c, 16) > 0 then
        taken = take_by_rule(c, stage, lane, worker, model, n, lease)
    end
    if taken then
        -- Of whatever model; of what comes later a message tells.
        if args[8] and queued_in(c, stage, 'interactive') + queued_in(c, stage, 'bulk') <= 0 then taken[1] = 'last' end
        if c.carried and c.charged then return { 'turns', taken, tell_turns(c, stage, model) } end
        return taken
    end
    return { c.looked >= SEARCH and 'again' or 'idle' }
end, { 'allow-oom' })


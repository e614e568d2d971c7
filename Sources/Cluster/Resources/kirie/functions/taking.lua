--[[ kirie_take         FCALL kirie_take 1 <prefix> <encode|decode> <worker> <model> <lane> <count> <lease ms>
                           [<age ms>] [last]
  The next work of this partition under a lease. worker: the name that leases and consumers show. model: the only one
  that this worker serves ("" whatever comes, for clusters where no worker names one). lane: any (the rule above),
  interactive or bulk. count: 1 to 256, the batch: encodes of several images, or prompts on one image.
  age: only from lines whose head has stood for so long; an idle worker takes from another's partition that way.
  last: be told "last" instead of "work" where nothing is left in line here, so that there is no need to look again.
  Reply: ["work", …] · ["idle"] nothing here now · ["again"] the bound of one call was reached: call again.
    encode: ["work", [key, token, attempt, since, lane]…]
    decode: ["work", key, lane, [id, token, attempt, submitted, line, deadline ms or ""]…]
  The image's bytes are at image:<sha>, the record at embedding:<key>: read them with GET.
  Errors: BADCALL. ]]
local function put_aside(c, stream, stage, lane, model, ticket, raw, owner)
    local other = line_name(c, stage, lane, model)
    local moved = redis.call('XADD', other, '*', unpack(raw))
    redis.pcall('XGROUP', 'CREATE', other, GROUP[stage], '0')
    redis.call('HSET', c.k .. 'turn', 'asides', 1)
    settle(stream, stage, ticket)
    redis.call('HSET', owner, 'ticket', moved, 'aside', 1)
    c.bells[stage] = true
end

-- Whether this ticket of this line is the one that the job or flight holds; ids are unique only within one stream. (Before
-- revision 5 a job on its first try did not say which was its.)
local function names(owner, lane, ticket, aside)
    if not owner.ticket and owner.attempts == '0' and owner.lane == lane then return true end
    return owner.ticket == ticket and owner.lane == lane and (owner.aside ~= nil) == aside
end

local function take_flight(c, stream, lane, ticket, fields, raw, worker, model, lease, token, aside, taken)
    local key, try = fields.key, tonumber(fields.try)
    if not key or not try or not is_key(key) then
        return garbage(c, stream, 'encode', ticket, raw, 'not a ticket: {key, try} is expected', aside)
    end
    local flight = load(c.k .. 'flight:' .. key)
    local _, wants = split(key)
    if not flight or flight.state ~= 'queued' or not names(flight, lane, ticket, aside) then
        settle(stream, 'encode', ticket, aside)
    elseif redis.call('EXISTS', c.k .. 'embedding:' .. key) == 1 then
        end_flight(c, key, flight)
        release(c, key, setting(c, 'chunk'))
    elseif not wanted(c, key) then
        end_flight(c, key, flight)
        count(c, 'encode_unwanted')
    elseif model ~= '' and wants ~= model then
        put_aside(c, stream, 'encode', lane, wants, ticket, raw, c.k .. 'flight:' .. key)
    else
        local attempt = (tonumber(flight.attempts) or 0) + 1
        redis.call('HSET', c.k .. 'flight:' .. key, 'state', 'in_work', 'token', token, 'worker', worker,
            'attempts', attempt, 'started', c.now)
        redis.call('ZADD', c.k .. 'leases', lease_clock(c) + lease, 'e:' .. key)
        count(c, 'encode_queued:' .. flight.lane, -1)
        count(c, 'encode_in_work:' .. flight.lane)
        count(c, 'encode_started')
        if attempt == 1 then observe(c, 'encode_wait:' .. flight.lane, flight.since) end
        taken[#taken + 1] = { key, token, attempt, flight.since, flight.lane }
    end
end

-- `lead`: the ticket that was delivered for the batch, which this job keeps until it is done; the others have none.
local function take_job(c, id, job, lead, worker, lease, token)
    local attempt = (tonumber(job.attempts) or 0) + 1
    local key = c.k .. 'job:' .. id
    redis.call('HSET', key, 'state', 'in_work', 'started', c.now, 'token', token, 'attempts', micros(attempt),
        'worker', worker, 'ticket', lead and lead.ticket or '')
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

-- The next jobs on the image of a job whose ticket was delivered, itself among them, or in the place of the first of them.
local function mates_of(c, id, job, lane, key, n)
    local set, mates, looked, itself = ready_set(c, job), {}, 0, false
    while #mates < n and looked < 512 do
        local popped = ordered('ZPOPMIN', set, n - #mates)
        if #popped == 0 then break end
        for i = 1, #popped, 2 do
            local mate = popped[i]
            local it = mate == id and job or load(c.k .. 'job:' .. mate)
            looked = looked + 1
            if it and it.state == 'queued' and not it.delayed and it.attempts == '0' and it.lane == lane
                and key_of(it) == key and still_good(c, mate, it) then
                mates[#mates + 1] = { id = mate, job = it }
                itself = itself or mate == id
            end
        end
    end
    if itself then return mates end
    if #mates == 0 then
        ordered('ZREM', set, id)
        return { { id = id, job = job } }
    end
    -- It stays in line with the ticket of the first that goes before it.
    local first = mates[1].job
    if first.ticket then
        redis.call('HSET', c.k .. 'job:' .. id, 'ticket', first.ticket)
        if first.aside then redis.call('HSET', c.k .. 'job:' .. id, 'aside', 1)
        else redis.call('HDEL', c.k .. 'job:' .. id, 'aside') end
        first.ticket = nil
    else
        local other = redis.call('XADD', line_name(c, 'decode', lane), '*', 'job', id, 'try', '0')
        redis.call('HSET', c.k .. 'job:' .. id, 'ticket', other)
        redis.call('HDEL', c.k .. 'job:' .. id, 'aside')
    end
    return mates
end

local function take_batch(c, stream, lane, ticket, fields, raw, worker, model, lease, token, n, aside)
    local id, try = fields.job, tonumber(fields.try)
    if not id or not try then
        garbage(c, stream, 'decode', ticket, raw, 'not a ticket: {job, try} is expected', aside)
        return nil
    end
    local job = load(c.k .. 'job:' .. id)
    if not job or not job.image or not job.model then
        -- A job of ours may be gone by now only if its retention passed while the ticket stood in line.
        if c.ms - (tonumber(string.match(ticket, '^%d+')) or 0) < setting(c, 'retention_ms') then
            garbage(c, stream, 'decode', ticket, raw, 'no such job', aside)
        else
            settle(stream, 'decode', ticket, aside)
        end
        return nil
    end
    if job.state ~= 'queued' or job.delayed or not names(job, lane, ticket, aside) then
        settle(stream, 'decode', ticket, aside)
        return nil
    end
    if model ~= '' and job.model ~= model then
        put_aside(c, stream, 'decode', lane, job.model, ticket, raw, c.k .. 'job:' .. id)
        return nil
    end
    job.ticket, job.aside = ticket, aside and '1' or nil
    if not still_good(c, id, job) then return nil end
    local lead, key = { ticket = ticket, aside = aside }, key_of(job)
    local taken = { 'work', key, lane }
    if try > 0 then
        taken[4] = take_job(c, id, job, lead, worker, lease, token)
    else
        local mates = mates_of(c, id, job, lane, key, n)
        local leads = 1
        for i, mate in ipairs(mates) do
            if mate.id == id then leads = i end
        end
        for i, mate in ipairs(mates) do
            if i ~= leads then drop_ticket(c, mate.job) end
            taken[#taken + 1] = take_job(c, mate.id, mate.job, i == leads and lead or nil, worker, lease, token)
        end
    end
    count(c, 'batches')
    return taken
end

-- Whether the next ticket of a line has stood there for `age` ms. One of the future counts: the clock was set back.
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

local function take_from(c, stage, lane, worker, model, n, lease)
    local streams, own = { line_name(c, stage, lane) }, nil
    if model ~= '' and c.asides and redis.call('EXISTS', line_name(c, stage, lane, model)) == 1 then
        own = line_name(c, stage, lane, model)
        table.insert(streams, 1, own)
    end
    local taken = {}
    for _, stream in ipairs(streams) do
        while c.looked < SEARCH and (not c.age or lags(c, stream, stage, c.age)) do
            local ticket, fields, raw = next_ticket(stream, stage, worker)
            if not ticket then
                if stream == own and redis.call('XLEN', own) == 0 then redis.call('DEL', own) end
                break
            end
            c.looked = c.looked + 1
            c.token = c.now
            if stage == 'decode' then
                local aside = stream == own
                local batch = take_batch(c, stream, lane, ticket, fields, raw, worker, model, lease, c.token, n, aside)
                if batch then return batch end
            else
                take_flight(c, stream, lane, ticket, fields, raw, worker, model, lease, c.token, stream == own, taken)
                if #taken >= n then break end
            end
        end
        if #taken >= n then break end
    end
    if #taken == 0 then return nil end
    table.insert(taken, 1, 'work')
    return taken
end

-- How much of a lane is in line now.
local function in_line(c, stage, lane)
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
            if each == 'interactive' and in_line(c, stage, 'bulk') > 0 then after = streak + 1 end
            if after ~= streak then redis.call('HSET', c.k .. 'turn', stage, after) end
            return taken
        end
    end
end

register('kirie_take', function(c, args)
    local stage, worker, model, lane = args[1] or '', args[2] or '', args[3] or '', args[4] or ''
    local n, lease, age = whole(args[5], 1, 256), whole(args[6], 1, 86400000), whole(args[7] or 0, 0, 86400000)
    if not GROUP[stage] or not is_id(worker) or (model ~= '' and not is_model(model))
        or (lane ~= 'any' and not IS_LANE[lane]) or not n or not lease or not age
        or (args[8] and args[8] ~= 'last') then
        return refusal('BADCALL',
            'kirie_take <encode|decode> <worker> <model> <any|interactive|bulk> <count> <lease ms> [<age ms>] [last]')
    end
    -- No room for more results: what is done now could not be kept.
    if stage == 'decode' and counters(c, { 'result_bytes' }).result_bytes >= setting(c, 'result_bytes') then
        return { 'idle' }
    end
    c.looked = 0
    c.age = age > 0 and age or nil
    local taken = take_by_rule(c, stage, lane, worker, model, n, lease)
    if not taken and c.looked < SEARCH and promote(c, 16) + reclaim(c, 16) > 0 then
        taken = take_by_rule(c, stage, lane, worker, model, n, lease)
    end
    if taken then
        -- Of whatever model; what comes later rings a bell.
        if args[8] and in_line(c, stage, 'interactive') + in_line(c, stage, 'bulk') <= 0 then taken[1] = 'last' end
        return taken
    end
    return { c.looked >= SEARCH and 'again' or 'idle' }
end, { 'allow-oom' })


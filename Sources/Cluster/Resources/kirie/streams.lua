-- ---------------------------------------------------------------------------------------------------------------------
-- Streams.

local function stream_name(c, stage, lane, model, tenant)
    return c.k .. stage .. ':' .. lane .. (tenant and ('@' .. tenant) or '') .. (model and (':' .. model) or '')
end

-- Takes an entry out of its stream, whether or not it was delivered; a stream of what was set aside, and one of a tenant,
-- goes with its last.
local function remove_entry(stream, stage, entry, aside)
    redis.call('XACK', stream, GROUP[stage], entry)
    redis.call('XDEL', stream, entry)
    if (aside or string.find(stream, '@', 1, true)) and redis.call('XLEN', stream) == 0 then redis.call('DEL', stream) end
end

-- Jobs in the order in which they came are sorted sets, so that one in the middle leaves at once. Before revision 5 they
-- were lists: one that is met becomes a set.
local function ordered(command, set, ...)
    local reply = redis.pcall(command, set, ...)
    if type(reply) ~= 'table' or not reply.err then return reply end
    if not string.find(reply.err, 'WRONGTYPE', 1, true) then error(reply.err, 0) end
    local ids = redis.call('LRANGE', set, 0, -1)
    redis.call('DEL', set)
    for i, id in ipairs(ids) do redis.call('ZADD', set, i, id) end
    return redis.call(command, set, ...)
end

local function append(c, set, id)
    c.order = (c.order or c.us - 1) + 1
    ordered('ZADD', set, micros(c.order), id)
end

-- The next entry of a stream for this worker, or nil; makes the group where it is missing.
local function next_entry(stream, stage, worker)
    local reply = redis.pcall('XREADGROUP', 'GROUP', GROUP[stage], worker, 'COUNT', '1', 'STREAMS', stream, '>')
    if reply and reply.err then
        if not string.find(reply.err, 'NOGROUP') then error(reply.err, 0) end
        redis.call('XGROUP', 'CREATE', stream, GROUP[stage], '0', 'MKSTREAM')
        reply = redis.call('XREADGROUP', 'GROUP', GROUP[stage], worker, 'COUNT', '1', 'STREAMS', stream, '>')
    end
    if not reply or not reply[1] or not reply[1][2][1] then return nil end
    local entry = reply[1][2][1]
    return entry[1], table_of(entry[2]) or {}, entry[2]
end

local function dead_letter(c, fields)
    local flat = { 'at', c.now }
    for name, value in pairs(fields) do flat[#flat + 1] = name; flat[#flat + 1] = value end
    count(c, 'dead_letters')
    count(c, 'dead_bytes', KEPT)
    return redis.call('XADD', c.k .. 'dead', '*', unpack(flat))
end

local function reject_entry(c, stream, stage, entry, raw, why, aside)
    local fine, text = pcall(cjson.encode, raw or {})
    dead_letter(c, {
        source = 'stream', stream = string.sub(stream, #c.k + 1), entry = entry, reason = why,
        fields = fine and string.sub(text, 1, 1024) or '(fields that are no text)',
    })
    remove_entry(stream, stage, entry, aside)
    count(c, 'malformed')
end


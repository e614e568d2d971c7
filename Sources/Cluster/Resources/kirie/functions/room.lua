--[[ kirie_room         FCALL kirie_room 1 <prefix> [<count>]
  Makes room in a Redis that said OOM and evicts nothing by itself (maxmemory-policy noeviction): drops images that no job
  needs; where there are none, candidates, and then embeddings that no job is queued for; first those that were of no use for the longest time.
  Looks at up to count (8, at most 1024) of them. Under volatile-lru Redis has done so before it says OOM.
  Reply: [dropped, their bytes]. Errors: BADCALL. ]]
local function drop_image(c, sha)
    local needed = redis.call('HGET', c.k .. 'refs', sha)
    if needed and needed ~= '0' then return 0 end   -- it comes back when it is let go of
    if needed then
        redis.call('ZREM', c.k .. 'ends', 'i:' .. sha)
        let_image_go(c, sha)
    end
    local bytes = redis.call('STRLEN', c.k .. 'image:' .. sha)
    redis.call('DEL', c.k .. 'image:' .. sha)
    return bytes
end

-- The bytes; nil where it has to stay: it is pinned, or in use, or was used since it was noted.
local function drop_embedding(c, key, noted)
    local name = c.k .. 'embedding:' .. key
    local idle = redis.pcall('OBJECT', 'IDLETIME', name)
    if type(idle) == 'number' and idle * 1000 < (c.ms - noted) / 2 then return nil, c.ms - idle * 1000 end
    for _, lane in ipairs(LANES) do
        if redis.call('EXISTS', c.k .. 'ready:' .. lane .. ':' .. key) == 1 then return nil, c.ms end
        -- Of some tenants: where it is dropped under another's jobs, it is encoded again.
        for _, tenant in ipairs(redis.call('ZRANGE', fair_set(c, 'decode', lane), 0, 31)) do
            if redis.call('EXISTS', c.k .. 'ready:' .. lane .. '@' .. tenant .. ':' .. key) == 1 then return nil, c.ms end
        end
    end
    if redis.call('HEXISTS', c.k .. 'refs', 'p:' .. key) == 1 then return nil, c.ms end
    local bytes = redis.call('STRLEN', name)
    redis.call('DEL', name)
    return bytes
end

local function drop_candidates(c, name)
    local bytes = redis.call('STRLEN', c.k .. 'candidates:' .. name)
    redis.call('DEL', c.k .. 'candidates:' .. name)
    return bytes
end

local function drop_idle(c, kind, limit, drop)
    local set, dropped, bytes = c.k .. 'idle:' .. kind, 0, 0
    local idle = redis.call('ZRANGE', set, 0, limit - 1, 'WITHSCORES')
    for i = 1, #idle, 2 do
        local freed, since = drop(c, idle[i], tonumber(idle[i + 1]))
        if not freed then
            redis.call('ZADD', set, micros(since), idle[i])
        else
            redis.call('ZREM', set, idle[i])
            if freed > 0 then dropped, bytes = dropped + 1, bytes + freed end
        end
    end
    return dropped, bytes
end

register('kirie_room', function(c, args)
    local limit = whole(args[1] or 8, 1, 1024)
    if not limit then return refusal('BADCALL', 'kirie_room [<count>]: 1 to 1024') end
    -- An image costs whoever has it a transfer; an embedding costs an encode.
    local dropped, bytes = drop_idle(c, 'image', limit, drop_image)
    if dropped == 0 then dropped, bytes = drop_idle(c, 'candidates', limit, drop_candidates) end
    if dropped == 0 then dropped, bytes = drop_idle(c, 'embedding', limit, drop_embedding) end
    count(c, 'room_made', dropped)
    return { dropped, bytes }
end, { 'allow-oom' })

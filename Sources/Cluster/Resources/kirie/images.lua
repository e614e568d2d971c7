-- ---------------------------------------------------------------------------------------------------------------------
-- Images: counted by the unfinished jobs that need them.

-- `bytes`: of the image, where the caller knows that no job needed it so far. It is the tenant's whose job needs it first.
local function need_image(c, sha, tenant, bytes)
    if not bytes then
        if redis.call('HEXISTS', c.k .. 'refs', sha) == 1 then
            redis.call('HINCRBY', c.k .. 'refs', sha, '1')
            return
        end
        bytes = redis.call('STRLEN', c.k .. 'image:' .. sha)
    end
    if bytes > 0 then
        redis.call('PERSIST', c.k .. 'image:' .. sha)
        redis.call('HSET', c.k .. 'refs', sha, '1', 'b:' .. sha, micros(bytes))
        count(c, 'image_bytes', bytes)
        if tenant then
            redis.call('HSET', c.k .. 'refs', 't:' .. sha, tenant)
            owe(c, tenant, 'bytes', bytes)
        end
    else
        redis.call('HSET', c.k .. 'refs', sha, 1)
    end
end

-- Counts a job that needs the image no more; returns what is to stand in `ends` where it was the last one. Whoever clicks
-- on a picture does so again and again: only a while later is the image given its time, by the janitor.
local function release_image(c, sha)
    if redis.call('HINCRBY', c.k .. 'refs', sha, '-1') > 0 then return {} end
    return { micros(c.ms + setting(c, 'image_grace_ms')), 'i:' .. sha }
end

-- What may be dropped when memory is short and Redis evicts nothing by itself: images and embeddings by when they were
-- last known to be of use. Members whose keys are gone go by the way: each addition looks at two, so that they never come to
-- be more than the others.
local function may_go(c, kind, name)
    local set = c.k .. 'idle:' .. kind
    redis.call('ZADD', set, micros(c.ms), name)
    for _, other in ipairs(redis.call('ZRANDMEMBER', set, 2)) do
        if redis.call('EXISTS', c.k .. kind .. ':' .. other) == 0 then redis.call('ZREM', set, other) end
    end
end

local function let_image_go(c, sha)
    local held = redis.call('HMGET', c.k .. 'refs', sha, 'b:' .. sha, 't:' .. sha)
    if held[1] ~= '0' then return false end
    redis.call('HDEL', c.k .. 'refs', sha, 'b:' .. sha, 't:' .. sha)
    if held[2] then
        count(c, 'image_bytes', -tonumber(held[2]))
        owe(c, held[3] or nil, 'bytes', -tonumber(held[2]))
        redis.call('PEXPIRE', c.k .. 'image:' .. sha, micros(setting(c, 'image_ttl_ms')))
        may_go(c, 'image', sha)
    end
    return true
end

-- An embedding whose image is not there must not be evicted while a job needs it: it has no time to live meanwhile, and
-- gets back what was left of it. Refs hold, behind p:<key>, how many jobs, its bytes and that time.
local function pin(c, key)
    local held = redis.call('HGET', c.k .. 'refs', 'p:' .. key)
    local jobs, bytes, ttl = string.match(held or '', '^(%d+) (%d+) (%d+)$')
    if not jobs then
        jobs, bytes = 0, redis.call('STRLEN', c.k .. 'embedding:' .. key)
        ttl = math.max(redis.call('PTTL', c.k .. 'embedding:' .. key), 1)
        redis.call('PERSIST', c.k .. 'embedding:' .. key)
        count(c, 'image_bytes', bytes)
    end
    redis.call('HSET', c.k .. 'refs', 'p:' .. key, string.format('%d %d %d', jobs + 1, bytes, ttl))
end

local function unpin(c, key)
    local jobs, bytes, ttl = string.match(redis.call('HGET', c.k .. 'refs', 'p:' .. key) or '', '^(%d+) (%d+) (%d+)$')
    if not jobs then return end
    if tonumber(jobs) > 1 then
        redis.call('HSET', c.k .. 'refs', 'p:' .. key, string.format('%d %d %d', jobs - 1, bytes, ttl))
        return
    end
    redis.call('HDEL', c.k .. 'refs', 'p:' .. key)
    redis.call('PEXPIRE', c.k .. 'embedding:' .. key, ttl)
    count(c, 'image_bytes', -tonumber(bytes))
    may_go(c, 'embedding', key)
end


--[[ kirie_divide       FCALL kirie_divide 1 <prefix> <id> <token> (<image sha256> <image> <line>)…
  A decoder that holds a job has it done in parts: 1 to 1024 jobs of their own, which any decoder takes, each alone, and
  whose ends nobody is told of. image: what is stored under that hash unless something is ("" nothing: it is there), such
  as "crop:<sha256>:<x0>,<y0>,<x1>,<y1>", a part of another picture of this partition.
  The job is waiting_parts until all are done; then it is queued again, its attempts at zero, and whoever takes it finds
  the ids of its parts in the list parts:<id>, in their order, and their results at result:<part>. It may be divided
  again: its parts come behind those of before. A part that ends in another way ends the job that way. With the end of
  the job all its parts go.
  Reply: how many parts it has · lost, or the state in which the job ended. Harmless when repeated.
  Errors: BADCALL, BADJOB (which field, why), OOM (kirie_room, then again). ]]
local MOST_PARTS = 1024

local function make_part(c, parent, job, sha, image, line)
    local tenant = tenant_of(parent)
    local id = string.format('%s%s-%x-%x', tenant and (tenant .. '~') or '', c.p, c.ms,
        redis.call('HINCRBY', c.k .. 'clock', 'ids', 1))
    local key = sha .. ':' .. job.model
    if c.there[key] == nil then c.there[key] = redis.call('EXISTS', c.k .. 'embedding:' .. key) == 1 end
    if image ~= '' and redis.call('EXISTS', c.k .. 'image:' .. sha) == 0 then
        redis.call('SET', c.k .. 'image:' .. sha, image)
        if redis.call('HEXISTS', c.k .. 'refs', sha) == 1 then
            redis.call('HSET', c.k .. 'refs', 'b:' .. sha, micros(#image))
            count(c, 'image_bytes', #image)
        end
    end
    need_image(c, sha, tenant)
    owe(c, tenant, 'bytes', #line)
    local part = {
        lane = job.lane, image = sha, model = job.model, attempts = '0', bytes = tostring(#line), parent = parent,
    }
    redis.call('HSET', c.k .. 'job:' .. id, 'lane', job.lane, 'image', sha, 'model', job.model, 'attempts', '0',
        'submitted', c.now, 'bytes', micros(#line), 'parent', parent, 'state', 'waiting_embedding')
    redis.call('SET', c.k .. 'line:' .. id, line)
    count(c, 'bytes:' .. job.lane, #line)
    if c.there[key] then
        enqueue_job(c, id, part)
    else
        part.state = 'waiting_embedding'
        park(c, id, part)
    end
    return id
end

register('kirie_divide', function(c, args)
    local id, token, n = args[1] or '', args[2] or '', (#args - 2) / 3
    if not is_job_id(id) or n < 1 or n > BATCH or n ~= math.floor(n) then
        return refusal('BADCALL', 'kirie_divide <id> <token> (<image> <image or ""> <line>)…: 1 to 1024 parts')
    end
    local job, found = held_work(c, WORK.decode, id, token)
    if not job then
        if found and found.divided == token and not TERMINAL[found.state] then
            return redis.call('LLEN', c.k .. 'parts:' .. id)
        end
        uncount_attempt(c, WORK.decode, id, found, token)
        return what_became('decode', found)
    end
    local before = redis.call('LLEN', c.k .. 'parts:' .. id)
    if job.parent or before + n > MOST_PARTS then
        return refusal('BADJOB', 'parts: at most ' .. MOST_PARTS .. ' of a job, and none of a part')
    end
    for i = 1, n do
        local sha, line = args[i * 3], args[i * 3 + 2]
        local image = args[i * 3 + 1]
        if not is_sha(sha) or foreign(c, sha) then return refusal('BADJOB', 'image: a hash of this partition') end
        if #line == 0 or #line > LINE_BYTES then return refusal('BADJOB', 'line: 1 to ' .. LINE_BYTES .. ' bytes') end
        if image == '' and redis.call('EXISTS', c.k .. 'image:' .. sha) == 0
            and redis.call('EXISTS', c.k .. 'embedding:' .. sha .. ':' .. job.model) == 0 then
            return refusal('BADJOB', 'image: ' .. sha .. ' is not there')
        end
    end
    withdraw_job(c, id, job)
    redis.call('HSET', c.k .. 'job:' .. id, 'state', 'waiting_parts', 'divided', token, 'attempts', '0',
        'parts', micros(before + n), 'parts_left', micros(n))
    redis.call('HDEL', c.k .. 'job:' .. id, 'token')
    count(c, 'divided:' .. job.lane)
    c.there = {}
    for i = 1, n do
        redis.call('RPUSH', c.k .. 'parts:' .. id, make_part(c, id, job, args[i * 3], args[i * 3 + 1], args[i * 3 + 2]))
    end
    return before + n
end)

--[[ kirie_keep         FCALL kirie_keep 1 <prefix> <name> <ttl ms> <bytes>
  Keeps what took time to find and can be found again, such as the masks of everything mode, at candidates:<name>; it may
  be evicted. name: an embedding's key and what else it depends on.
  Reply: OK. Errors: BADCALL, OOM. ]]
register('kirie_keep', function(c, args)
    local name, ttl, bytes = args[1] or '', whole(args[2], 1, 1e13), args[3] or ''
    if not is_key(string.match(name, '^[^/]*') or '') or #name > 256 or not ttl or bytes == '' then
        return refusal('BADCALL', 'kirie_keep <embedding key>/<what> <ttl ms> <bytes>')
    end
    redis.call('SET', c.k .. 'candidates:' .. name, bytes, 'PX', ttl)
    may_go(c, 'candidates', name)
    return redis.status_reply('OK')
end)

--[[ kirie_image        FCALL kirie_image 1 <prefix> <sha256> [<bytes>] [<tenant>]
  Stores the file of an image once by content (or "ref:" and an address that the encoders can read). With no bytes it
  only asks. What is there is never overwritten. An image that no job needs yet stays for image_ttl_ms. What another tenant
  has sent is told by nothing: to who asks it is not there, and to who sends it, it is new.
  Reply: 1 stored now · 0 was there · -1 (asked) not there · -2 (asked) not there, and this tenant may not name it: its
  embedding, where there is one, answers only who has sent the bytes. Errors: BADCALL, BADJOB (wrong partition), BACKPRESSURE. ]]
local function foreign(c, sha)
    local partitions = setting(c, 'partitions')
    return partitions > 0 and tonumber(string.sub(sha, 1, 8), 16) % partitions ~= tonumber(c.p)
end

-- Jobs per second, in and out of each lane, from now back to the oldest sample of the last minute.
local TOTALS = { 'in:interactive', 'in:bulk', 'out:interactive', 'out:bulk' }

local function totals(c)
    local now = redis.call('HMGET', c.k .. 'counters', unpack(TOTALS))
    for i = 1, 4 do now[i] = (tonumber(now[i]) or 0) + (c.add[TOTALS[i]] or 0) end
    return now
end

local function rates(c)
    local now, per_second, since, sample = totals(c), {}, 0, nil
    for _, text in ipairs(redis.call('LRANGE', c.k .. 'rates', 0, -1)) do
        local fields = {}
        for number in string.gmatch(text, '%d+') do fields[#fields + 1] = tonumber(number) end
        local age = c.ms - (fields[1] or 0)
        if #fields == 5 and age > since and age <= 65000 then since, sample = age, fields end
    end
    for i, name in ipairs(TOTALS) do
        per_second[name] = sample and math.max(now[i] - sample[i + 1], 0) / since * 1000 or 0
    end
    return per_second
end

local function sample_totals(c)
    local last = tonumber(redis.call('HGET', c.k .. 'clock', 'sampled')) or 0
    if math.abs(c.ms - last) < 5000 then return end
    redis.call('HSET', c.k .. 'clock', 'sampled', c.ms)
    local now = totals(c)
    for i = 1, 4 do now[i] = micros(now[i]) end
    redis.call('LPUSH', c.k .. 'rates', c.ms .. ' ' .. table.concat(now, ' '))
    redis.call('LTRIM', c.k .. 'rates', 0, 12)
end

local function come_back(c, lane)
    local out = rates(c)['out:' .. lane]
    if out == 0 then return 1000 end
    -- The time in which a fiftieth of the limit flows out.
    return math.floor(math.min(math.max(setting(c, 'jobs:' .. lane) / 50 / out * 1000, 100), 30000))
end

local function backpressure(c, lane, what, held, limit)
    count(c, 'refused:' .. lane)
    return 'BACKPRESSURE ' .. what .. ' of partition ' .. c.p .. ' are at their limit (' .. string.format('%.0f', held)
        .. ' of ' .. string.format('%.0f', limit) .. '); retry after ' .. come_back(c, lane) .. ' ms'
end

-- Whether the image is there, or may not come: 0 (and its time begins anew), an error, or nil. `size`: of its file.
local function before_image(c, sha, size)
    if foreign(c, sha) then return refusal('BADJOB', 'image ' .. sha .. ' does not belong to partition ' .. c.p) end
    if redis.call('EXISTS', c.k .. 'image:' .. sha) == 1 then
        if redis.call('HEXISTS', c.k .. 'refs', sha) == 0 then
            redis.call('PEXPIRE', c.k .. 'image:' .. sha, setting(c, 'image_ttl_ms'))
            redis.call('ZADD', c.k .. 'idle:image', micros(c.ms), sha)
        end
        return 0
    end
    local held = tonumber(redis.call('HGET', c.k .. 'counters', 'image_bytes')) or 0
    if held + size > setting(c, 'image_bytes') then
        return redis.error_reply(backpressure(c, 'bulk', 'the bytes of images', held, setting(c, 'image_bytes')))
    end
end

-- What becomes of an image that has just been stored.
local function after_image(c, sha, size)
    if redis.call('HEXISTS', c.k .. 'refs', sha) == 1 then
        redis.call('PERSIST', c.k .. 'image:' .. sha)
        redis.call('HSET', c.k .. 'refs', 'b:' .. sha, size)
        count(c, 'image_bytes', size)
    else
        redis.call('PEXPIRE', c.k .. 'image:' .. sha, setting(c, 'image_ttl_ms'))
        may_go(c, 'image', sha)
    end
    return 1
end

-- The tenant of a call's last argument: nil for the default one, false where it is none.
local function named_tenant(text)
    if not text or text == '' or text == 'default' then return nil end
    return is_tenant(text) and text
end

register('kirie_image', function(c, args)
    local sha, bytes, tenant = args[1] or '', args[2] or '', named_tenant(args[3])
    if not is_sha(sha) or tenant == false then
        return refusal('BADCALL', 'kirie_image <sha256> [<bytes>] [<tenant>]: the hash is 64 lower-case hexadecimal digits')
    end
    if bytes == '' and not knows(c, tenant, sha) then return -2 end
    local answer = before_image(c, sha, #bytes)
    if bytes == '' then return answer or -1 end
    if answer == 0 then return learn(c, tenant, sha) and 1 or 0 end
    if answer then return answer end
    redis.call('SET', c.k .. 'image:' .. sha, bytes)
    learn(c, tenant, sha)
    return after_image(c, sha, #bytes)
end)

--[[ kirie_image_part   FCALL kirie_image_part 1 <prefix> <sha256> <upload> <offset> <bytes>
  Keeps a part of a file that is too large for one call, at its offset: a number of bytes from the file's start. upload: 1 to
  64 letters and digits that the sender chooses, so that two senders of one image do not meet. Harmless when repeated. Parts
  of which nothing more comes go after a minute.
  Reply: the bytes so far. Errors: BADCALL, BADJOB (wrong partition), BACKPRESSURE, OOM. ]]
local UPLOAD_MS = 60000

local function upload_key(c, sha, upload)
    if not is_sha(sha) or not string.match(upload, '^%w+$') or #upload > 64 then return nil end
    return c.k .. 'upload:' .. sha .. ':' .. upload
end

register('kirie_image_part', function(c, args)
    local sha, bytes = args[1] or '', args[4] or ''
    local key, offset = upload_key(c, sha, args[2] or ''), whole(args[3], 0, 536870912)
    if not key or not offset or bytes == '' or offset + #bytes > 536870912 then
        return refusal('BADCALL', 'kirie_image_part <sha256> <upload> <offset> <bytes>: a hash of 64 digits, 1 to 64 letters '
            .. 'and digits, an offset within 512 MiB, and bytes')
    end
    if foreign(c, sha) then return refusal('BADJOB', 'image ' .. sha .. ' does not belong to partition ' .. c.p) end
    local held = tonumber(redis.call('HGET', c.k .. 'counters', 'image_bytes')) or 0
    if held + offset + #bytes > setting(c, 'image_bytes') then
        return redis.error_reply(backpressure(c, 'bulk', 'the bytes of images', held, setting(c, 'image_bytes')))
    end
    local length = redis.call('SETRANGE', key, args[3], bytes)
    redis.call('PEXPIRE', key, UPLOAD_MS)
    return length
end)

--[[ kirie_image_whole  FCALL kirie_image_whole 1 <prefix> <sha256> <upload> <bytes> [<tenant>]
  Makes an image of the parts that came, as kirie_image does of a file. bytes: how many there must be. Harmless when repeated.
  Reply: 1 stored now · 0 was there · -1 the parts are not all there: send them again.
  Errors: BADCALL, BADJOB (wrong partition), BACKPRESSURE. ]]
register('kirie_image_whole', function(c, args)
    local sha = args[1] or ''
    local key, bytes = upload_key(c, sha, args[2] or ''), whole(args[3], 1, 536870912)
    local tenant = named_tenant(args[4])
    if not key or not bytes or tenant == false then
        return refusal('BADCALL', 'kirie_image_whole <sha256> <upload> <bytes>: as of kirie_image_part, and their number')
    end
    local answer = before_image(c, sha, bytes)
    if answer == 0 and not knows(c, tenant, sha) then
        -- Another tenant's: all of it has to have come from this one, too.
        if redis.call('STRLEN', key) ~= bytes then return -1 end
        learn(c, tenant, sha)
        answer = 1
    end
    if answer then
        redis.call('UNLINK', key)
        return answer
    end
    if redis.call('STRLEN', key) ~= bytes then return -1 end
    learn(c, tenant, sha)
    redis.call('RENAME', key, c.k .. 'image:' .. sha)
    return after_image(c, sha, bytes)
end)

--[[ kirie_submit       FCALL kirie_submit 1 <prefix> <client> (<id> <lane> <image sha256> <model> <ttl ms> <line>)…
  1 to 1024 jobs of one partition, six arguments each. client: who is told of the ends ("" nobody in particular). id: ""
  lets the function choose. ttl: the job expires so many ms from now ("0" never). line: the job line as JSON, without the
  image's bytes; an empty line asks only for the embedding. Behind the line a note may stand: the separator 0x1E and one
  JSON object such as {"path":"a.jpg","line":12,"meta":…}, which comes back with the answer, and with a failure in the
  field "note" of kirie_status.
  A known id of the same image, model and line changes nothing and returns that job's state, so a submit may be repeated.
  One that ended without a result (failed, dead, cancelled, expired) is submitted anew, unless the client is the one that
  had submitted it, which repeats itself and learns the end. Another image, model or line under a known id: CONFLICT.
  Where the embedding is there and the image is not, the embedding is pinned: it has no time to live until the job ended.
  An id <tenant>~<id> makes the job that tenant's: it waits in that tenant's streams, and needs an image that the tenant has
  sent. (tenant: at most 64 of a-z 0-9 . _ -, the first a letter or digit; "<tenant>~" lets the function choose the rest.)
  Reply: for each job [id, state, 1 accepted | 0 known] or [id, "refused", error]. A call of a single job gives its
  refusal as an error reply.
  Errors: BADCALL; BADJOB (which field, why); CONFLICT (what differs); NOIMAGE (the image is not there, and no embedding
  that can be pinned: kirie_image, then again); BACKPRESSURE … retry after <n> ms; OOM (kirie_room, then again). ]]
local function bad_job(c, id, lane, sha, model, ttl, line)
    if id ~= '' and not is_job_id(id) and not is_tenant(string.match(id, '^([^~]+)~$') or '') then
        return 'id: at most 128 of A-Z a-z 0-9 . _ : @ / + -, behind a tenant\'s name and ~ where it is a tenant\'s'
    end
    if not IS_LANE[lane] then return 'lane: interactive or bulk' end
    if not is_sha(sha) then return 'image: 64 lower-case hexadecimal digits of its SHA-256' end
    if not is_model(model) then return 'model: 1 to 64 of A-Z a-z 0-9 . _ : -' end
    if not whole(ttl, 0, 1e13) then return 'ttl: whole milliseconds, 0 for none' end
    if #line > LINE_BYTES then return 'line: ' .. #line .. ' bytes; at most ' .. LINE_BYTES end
    if foreign(c, sha) then return 'image: ' .. sha .. ' does not belong to partition ' .. c.p end
end

local function over_limit(c, lane, bytes, new_image_bytes)
    local held = c.held
    if not held['jobs:' .. lane] then
        -- With those that the submit is going to move.
        local saved = counters(c, {
            'parked:' .. lane, 'queued:' .. lane, 'delayed:' .. lane, 'in_work:' .. lane, 'bytes:' .. lane, 'in:' .. lane,
            'image_bytes', 'result_bytes',
        })
        held['jobs:' .. lane] = saved['parked:' .. lane] + saved['queued:' .. lane] + saved['delayed:' .. lane]
            + saved['in_work:' .. lane]
        held['bytes:' .. lane] = saved['bytes:' .. lane]
        held.image_bytes, held.result_bytes = held.image_bytes or saved.image_bytes, saved.result_bytes
    end
    if held['jobs:' .. lane] >= setting(c, 'jobs:' .. lane) then
        return backpressure(c, lane, 'the jobs of lane ' .. lane, held['jobs:' .. lane], setting(c, 'jobs:' .. lane))
    elseif held['bytes:' .. lane] + bytes > setting(c, 'bytes:' .. lane) then
        return backpressure(c, lane, 'the bytes of lane ' .. lane, held['bytes:' .. lane], setting(c, 'bytes:' .. lane))
    elseif new_image_bytes > 0 and held.image_bytes + new_image_bytes > setting(c, 'image_bytes') then
        return backpressure(c, lane, 'the bytes of images', held.image_bytes, setting(c, 'image_bytes'))
    elseif held.result_bytes >= setting(c, 'result_bytes') then
        return backpressure(c, lane, 'the bytes of results', held.result_bytes, setting(c, 'result_bytes'))
    end
end

-- The answer to a submit under an id that is known, or nil where the job is to be made; then also what is known of one of
-- that id that ended without a result, whose place it takes.
local function known_job(c, client, id, sha, model, sum)
    local held = redis.call('HMGET', c.k .. 'job:' .. id, 'state', 'image', 'model', 'sum', 'client', 'letter', 'kept')
    local state = held[1]
    if not state then return nil end
    if TERMINAL[state] and state ~= 'done' and (client == '' or held[5] ~= client) then
        return nil, { letter = held[6], kept = held[7] }
    end
    local differs = held[2] ~= sha and 'image' or held[3] ~= model and 'model' or held[4] and held[4] ~= sum and 'job line'
    if differs then
        return { id, 'refused', 'CONFLICT ' .. id .. ' is ' .. state .. ', submitted with another ' .. differs
            .. ': take another id, or wait until what is left of that job is gone' }
    end
    count(c, 'duplicates')
    return { id, state, 0 }
end

local function take_place_of(c, id, former)
    if former.letter then remove_letter(c, former.letter, { job = id }, false) end
    redis.call('ZREM', c.k .. 'ends', 'j:' .. id)
    remove_job(c, id, former.kept)
    count(c, 'revived')
end

local NO_IMAGE = ': put the image with kirie_image, then submit again'

local function submit_one(c, client, id, lane, sha, model, ttl, line)
    local problem = bad_job(c, id, lane, sha, model, ttl, line)
    if problem then return { id, 'refused', 'BADJOB ' .. problem } end
    local tenant = tenant_of(id)
    if id == '' or string.sub(id, -1) == '~' then
        id = string.format('%s%s-%x-%x', id, c.p, c.ms, redis.call('HINCRBY', c.k .. 'clock', 'ids', 1))
    end
    local bare = without_note(line)
    local sum = string.sub(redis.sha1hex(bare), 1, 16)
    local known, former = known_job(c, client, id, sha, model, sum)
    if known then return known end
    local mine = c.known[sha .. (tenant or '')]
    if mine == nil then
        mine = knows(c, tenant, sha)
        if mine then learn(c, tenant, sha) end
        c.known[sha .. (tenant or '')] = mine
    end
    if not mine then return { id, 'refused', 'NOIMAGE ' .. sha .. NO_IMAGE } end
    local key = sha .. ':' .. model
    if c.there[key] == nil then c.there[key] = redis.call('EXISTS', c.k .. 'embedding:' .. key) == 1 end
    local unneeded      -- the bytes of an image that no job needs so far
    if not c.needed[sha] then
        c.needed[sha] = redis.call('HEXISTS', c.k .. 'refs', sha) == 1
        if not c.needed[sha] then unneeded = redis.call('STRLEN', c.k .. 'image:' .. sha) end
    end
    if not c.stored[sha] then c.stored[sha] = (unneeded or redis.call('STRLEN', c.k .. 'image:' .. sha)) > 0 end
    local pinned = not c.stored[sha]
    if pinned and not (c.there[key] and redis.call('STRLEN', c.k .. 'embedding:' .. key) > MARK) then
        return { id, 'refused', 'NOIMAGE ' .. sha .. NO_IMAGE }
    end
    local full = over_limit(c, lane, #line, unneeded or 0)
    if full then
        owe(c, tenant, 'refused', 1)
        return { id, 'refused', full }
    end
    if former then take_place_of(c, id, former) end

    local job = { lane = lane, image = sha, model = model, attempts = '0', bytes = tostring(#line), state = 'new' }
    local fields = {
        'lane', lane, 'image', sha, 'model', model, 'attempts', '0', 'submitted', c.now, 'bytes', micros(#line),
        'sum', sum, 'state', c.there[key] and 'queued' or 'waiting_embedding',
    }
    if #bare == 0 and #line > 0 then
        job.empty = '1'
        fields[#fields + 1] = 'empty'; fields[#fields + 1] = '1'
    end
    if client ~= '' then
        job.client = client
        fields[#fields + 1] = 'client'; fields[#fields + 1] = client
    end
    if tonumber(ttl) > 0 then
        job.deadline = c.ms + tonumber(ttl)
        fields[#fields + 1] = 'deadline'; fields[#fields + 1] = job.deadline
        redis.call('ZADD', c.k .. 'deadlines', job.deadline, id)
    end
    if pinned then
        job.pinned = 1
        fields[#fields + 1] = 'pinned'; fields[#fields + 1] = 1
        pin(c, key)
    end
    if c.there[key] and #bare > 0 then
        fields[#fields + 1] = 'entry'; fields[#fields + 1] = add_entry(c, id, job)
    end
    redis.call('HSET', c.k .. 'job:' .. id, unpack(fields))
    if #line > 0 then redis.call('SET', c.k .. 'line:' .. id, line) end
    if unneeded then
        need_image(c, sha, tenant, unneeded)
        c.needed[sha] = true
    else
        redis.call('HINCRBY', c.k .. 'refs', sha, '1')
    end
    c.held['jobs:' .. lane] = c.held['jobs:' .. lane] + 1
    c.held['bytes:' .. lane] = c.held['bytes:' .. lane] + #line
    c.held.image_bytes = c.held.image_bytes + (unneeded or 0)
    count(c, 'bytes:' .. lane, #line)
    count(c, 'in:' .. lane)
    owe(c, tenant, 'jobs', 1)
    owe(c, tenant, 'bytes', #line)
    owe(c, tenant, 'in', 1)
    if not c.there[key] then
        park(c, id, job)
        return { id, 'waiting_embedding', 1 }
    elseif #bare == 0 then
        embedded(c, id, job)
        c.held['jobs:' .. lane] = c.held['jobs:' .. lane] - 1
        return { id, 'done', 1 }
    end
    return { id, 'queued', 1 }
end

register('kirie_submit', function(c, args)
    local jobs = (#args - 1) / 6
    local client = args[1] or ''
    if jobs < 1 or jobs > BATCH or jobs ~= math.floor(jobs) then
        return refusal('BADCALL', 'kirie_submit <client> (<id> <lane> <image> <model> <ttl> <line>)…: 1 to 1024 jobs')
    elseif client ~= '' and not is_id(client) then
        return refusal('BADCALL', 'client: at most 128 of A-Z a-z 0-9 . _ : @ / + -')
    end
    c.there, c.needed, c.stored, c.held, c.known = {}, {}, {}, {}, {}
    local replies = {}
    for i = 1, jobs do
        local at = 2 + (i - 1) * 6
        replies[i] = submit_one(c, client, unpack(args, at, at + 5))
    end
    if jobs == 1 and replies[1][2] == 'refused' then return redis.error_reply(replies[1][3]) end
    return replies
end)


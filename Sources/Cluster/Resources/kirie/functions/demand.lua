--[[ kirie_stats        FCALL_RO kirie_stats 1 <prefix>
  What there is to watch, in one reply of bounded size. Of tenants' streams lag, pending and age_ms know those of 32.
  Reply: flat names and values.
    gauges, by lane: parked, queued, delayed, in_work (jobs); encode_queued, encode_delayed, encode_in_work (encodes);
      bytes; and image_bytes, result_bytes, encodes_in_flight, dead_letters_kept
    totals: in, out, done, failed, dead, cancelled, expired, refused by lane; duplicates, encodes, joins, retries, reclaimed,
      lost, batches, evictions, corrupt, duplicate_completions, malformed, revived, dead_letters, encode_started,
      encode_finished, encode_late, encode_failed, encode_dead, encode_retries, encode_reclaimed, encode_unwanted, encode_us;
      fetches and hits (of embeddings, which decoders add with HINCRBY <prefix>counters)
    lag:<stage>:<lane>, pending:<stage>:<lane>: of the group, as XINFO GROUPS says ("" unknown)
    age_ms:<stage>:<lane>: how long the head of the stream waits (0: nothing); age_ms:parked: the oldest encode in
      flight
    rate_in:<lane>, rate_out:<lane>: jobs per second over the last minute
    tenants (how many have something here), tenants_jobs, tenants_bytes, tenants_in, …: of all tenants but the default one;
      tenant:<jobs|bytes|in|out|refused|encodes>:<name>: of the 16 with the most jobs and of the 16 with the most bytes
    hist:<series>:<lane>:<bucket>: observations; series wait (submit to take), service (take to complete), encode_wait,
      encode_service; bucket b holds 2^(b/4) <= microseconds < 2^((b+1)/4)
  Errors: BADCALL. ]]
read_only('kirie_stats', function(c)
    local flat = redis.call('HGETALL', c.k .. 'counters')
    local function add(name, value) flat[#flat + 1] = name; flat[#flat + 1] = tostring(value) end
    for stage, group in pairs(GROUP) do
        for _, lane in ipairs(LANES) do
            local name = stage .. ':' .. lane
            local age, lag, pending = 0, 0, 0
            local function look(stream)
                local groups = redis.pcall('XINFO', 'GROUPS', stream)
                local length = redis.call('XLEN', stream)
                -- Without a group nothing of it was ever taken.
                if groups.err or #groups == 0 then groups = { { 'name', group, 'pending', 0, 'last-delivered-id', '0-0' } } end
                for _, each in ipairs(groups) do
                    local info = table_of(each)
                    if info.name == group then
                        -- Not Redis's own lag, which it does not know once an entry was taken out of the middle.
                        lag, pending = lag + math.max(length - info.pending, 0), pending + info.pending
                        -- The first entries may be empty; a few are looked through for one that counts.
                        local next = redis.call('XRANGE', stream, '(' .. info['last-delivered-id'], '+', 'COUNT', 16)
                        for _, entry in ipairs(next) do
                            local fields = table_of(entry[2]) or {}
                            local owner = fields.job and ('job:' .. fields.job) or ('encoding:' .. (fields.key or ''))
                            if redis.call('HGET', c.k .. owner, 'state') == 'queued' then
                                age = math.max(age, c.ms - tonumber(string.match(entry[1], '^%d+')))
                                break
                            end
                        end
                    end
                end
            end
            look(c.k .. name)
            for _, tenant in ipairs(redis.call('ZRANGE', fair_set(c, stage, lane), 0, 31)) do
                if tenant ~= 'default' then look(stream_name(c, stage, lane, nil, tenant)) end
            end
            add('lag:' .. name, lag)
            add('pending:' .. name, pending)
            add('age_ms:' .. name, age)
        end
    end
    local oldest = redis.call('ZRANGE', c.k .. 'encodings', 0, 0, 'WITHSCORES')
    add('age_ms:parked', oldest[2] and math.max(c.ms - tonumber(oldest[2]), 0) or 0)
    add('encodes_in_flight', redis.call('ZCARD', c.k .. 'encodings'))
    add('dead_letters_kept', redis.call('XLEN', c.k .. 'dead'))
    for name, value in pairs(rates(c)) do add('rate_' .. name, string.format('%.3f', value)) end
    local here = redis.call('ZCARD', c.k .. 'tenants:bytes')
    if here > 0 then
        add('tenants', here)
        local shown = {}
        for _, what in ipairs({ 'jobs', 'bytes' }) do
            for _, tenant in ipairs(redis.call('ZREVRANGE', c.k .. 'tenants:' .. what, 0, 15)) do
                if not shown[tenant] then
                    shown[tenant] = true
                    add('tenant:jobs:' .. tenant, redis.call('ZSCORE', c.k .. 'tenants:jobs', tenant) or 0)
                    add('tenant:bytes:' .. tenant, redis.call('ZSCORE', c.k .. 'tenants:bytes', tenant) or 0)
                    local names = {}
                    for i, total in ipairs(TOTALS_OF) do names[i] = tenant .. ':' .. total end
                    for i, n in ipairs(redis.call('HMGET', c.k .. 'tenants:totals', unpack(names))) do
                        add('tenant:' .. TOTALS_OF[i] .. ':' .. tenant, n or 0)
                    end
                end
            end
        end
    end
    local wanted_of = redis.call('HGETALL', c.k .. 'demand')
    for i = 1, #wanted_of, 2 do add('demand:' .. wanted_of[i], wanted_of[i + 1]) end
    return flat
end)

--[[ kirie_demand       FCALL_RO kirie_demand 1 <prefix> [<encode|decode> <model>]
  What is to be done in this partition, for autoscalers: how many encodes, or jobs, wait or are in work, in both lanes,
  pauses before the next attempt included. Summed over the partitions it is what the workers of a role and model have to
  do. Jobs that wait for their embedding are the encoders' demand, one for each picture. Cancelled and expired ones are
  not counted from the moment on at which they ended.
  Reply: that number, or, with no arguments, flat: "encode:<model>" or "decode:<model>", number, …; without those at zero.
  Errors: BADCALL. ]]
read_only('kirie_demand', function(c, args)
    if #args == 0 then return redis.call('HGETALL', c.k .. 'demand') end
    if not GROUP[args[1]] or not is_model(args[2] or '') then
        return refusal('BADCALL', 'kirie_demand [<encode|decode> <model>]')
    end
    return tonumber(redis.call('HGET', c.k .. 'demand', args[1] .. ':' .. args[2])) or 0
end)


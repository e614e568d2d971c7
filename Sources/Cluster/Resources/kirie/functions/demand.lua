--[[ kirie_stats        FCALL_RO kirie_stats 1 <prefix>
  What there is to watch, in one reply of bounded size.
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
    hist:<series>:<lane>:<bucket>: observations; series wait (submit to take), service (take to complete), encode_wait,
      encode_service; bucket b holds 2^(b/4) <= microseconds < 2^((b+1)/4)
  Errors: BADCALL. ]]
read_only('kirie_stats', function(c)
    local flat = redis.call('HGETALL', c.k .. 'counters')
    local function add(name, value) flat[#flat + 1] = name; flat[#flat + 1] = tostring(value) end
    for stage, group in pairs(GROUP) do
        for _, lane in ipairs(LANES) do
            local name = stage .. ':' .. lane
            local stream = c.k .. name
            local age, lag, pending = 0, 0, 0
            local groups = redis.pcall('XINFO', 'GROUPS', stream)
            for _, each in ipairs(groups.err and {} or groups) do
                local info = table_of(each)
                if info.name == group then
                    -- Not Redis's own lag, which it does not know once an entry was taken out of the middle.
                    lag, pending = math.max(redis.call('XLEN', stream) - info.pending, 0), info.pending
                    -- The first entries may be empty; a few are looked through for one that counts.
                    local next = redis.call('XRANGE', stream, '(' .. info['last-delivered-id'], '+', 'COUNT', 16)
                    for _, entry in ipairs(next) do
                        local fields = table_of(entry[2]) or {}
                        local owner = fields.job and ('job:' .. fields.job) or ('encoding:' .. (fields.key or ''))
                        if redis.call('HGET', c.k .. owner, 'state') == 'queued' then
                            age = math.max(c.ms - tonumber(string.match(entry[1], '^%d+')), 0)
                            break
                        end
                    end
                end
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


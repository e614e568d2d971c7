--[[ kirie_tenant       FCALL kirie_tenant 1 <prefix> <tenant> <weight> [<jobs> <bytes> <rate>]
  Sets what a tenant's takes weigh in this partition: its share of them is its weight's, 1 to 100 (1 unless set); 0 forgets
  the tenant's settings. To be called for every partition. In the tenant's home, the partition of the SHA-256 of its name,
  its quotas stand, too: unfinished jobs, bytes (of its job lines, of images that its jobs need, of what is kept of its
  ended jobs) and jobs a second, each 0 for none. The default tenant, "default", has a weight and no quotas: it has the
  limits of the partitions.
  Reply: OK. Errors: BADCALL. ]]
register('kirie_tenant', function(c, args)
    local tenant, weight, jobs = args[1] or '', whole(args[2], 0, 100), whole(args[3] or 0, 0, COUNT)
    local bytes, rate = whole(args[4] or 0, 0, BYTES), tonumber(args[5] or 0)
    local fine = (is_tenant(tenant) or tenant == 'default') and weight and jobs and bytes and rate and rate >= 0
        and rate <= 1e6 and (#args == 2 or #args == 5 and tenant ~= 'default')
    if not fine then
        return refusal('BADCALL', 'kirie_tenant <tenant> <weight> [<jobs> <bytes> <rate>]: a name of 1 to 64 of a-z 0-9 . _ -, '
            .. 'a weight from 1 to 100 or 0, and numbers, 0 for none, of any tenant but the default one')
    end
    if weight > 1 then redis.call('HSET', c.k .. 'weights', tenant, micros(weight))
    else redis.call('HDEL', c.k .. 'weights', tenant) end
    if weight == 0 then
        redis.call('HDEL', c.k .. 'quotas', tenant)
        redis.call('DEL', c.k .. 'spent:' .. tenant)
    elseif #args == 5 then
        redis.call('HSET', c.k .. 'quotas', tenant,
            string.format('%d %d %d %.6g', weight, jobs, bytes, rate))
    end
    return redis.status_reply('OK')
end, { 'allow-oom' })

--[[ kirie_admit        FCALL kirie_admit 1 <prefix> <tenant> <jobs> <bytes> [<held jobs> <held bytes>]
  Asks a tenant's home partition for leave to submit so many jobs, whose lines have so many bytes, and counts them against
  the tenant's rate. held: what the tenant has in all partitions, by the scores of tenants:jobs and tenants:bytes. What is
  submitted by others at the same moment is not seen in them. A number of jobs below 0 gives back what was not accepted.
  Reply: ["free"] it has no quotas · ["look"] call again with what it holds · ["admitted", jobs]: so many, of which the
  caller submits the first.
  Errors: BADCALL, BACKPRESSURE (which quota of which tenant … retry after <n> ms). ]]
local SECONDS = 1       -- of its rate a tenant may have at once

register('kirie_admit', function(c, args)
    local tenant, jobs, bytes = args[1] or '', whole(args[2], -1e6, 1e6), whole(args[3], 0, BYTES)
    local held_jobs, held_bytes = whole(args[4], 0, BYTES), whole(args[5], 0, BYTES)
    if not is_tenant(tenant) or not jobs or not bytes or #args ~= 3 and not (held_jobs and held_bytes and #args == 5) then
        return refusal('BADCALL', 'kirie_admit <tenant> <jobs> <bytes> [<held jobs> <held bytes>]')
    end
    local quotas = redis.call('HGET', c.k .. 'quotas', tenant)
    local most_jobs, most_bytes, rate = string.match(quotas or '', '^%d+ (%d+) (%d+) (%S+)$')
    most_jobs, most_bytes, rate = tonumber(most_jobs) or 0, tonumber(most_bytes) or 0, tonumber(rate) or 0
    if most_jobs == 0 and most_bytes == 0 and rate == 0 then return { 'free' } end
    local function refuse(what, ms)
        return refusal('BACKPRESSURE', 'tenant ' .. tenant .. ' has ' .. what .. '; retry after '
            .. micros(math.min(math.max(math.ceil(ms), 1), 3600000)) .. ' ms')
    end
    local key, now, burst, tokens = c.k .. 'spent:' .. tenant, lease_clock(c), math.max(rate * SECONDS, 1), nil
    if rate > 0 then
        local spent = redis.call('HMGET', key, 'tokens', 'at')
        tokens = tonumber(spent[1]) or burst
        tokens = math.min(burst, tokens + math.max(now - (tonumber(spent[2]) or now), 0) * rate / 1000)
    end
    local n = jobs
    if jobs > 0 then
        if (most_jobs > 0 or most_bytes > 0) and not held_jobs then return { 'look' } end
        if most_jobs > 0 then
            n = math.min(n, most_jobs - held_jobs)
            if n < 1 then return refuse(micros(held_jobs) .. ' unfinished jobs of ' .. micros(most_jobs), 1000) end
        end
        if most_bytes > 0 and held_bytes + bytes > most_bytes then
            return refuse(micros(held_bytes) .. ' bytes of ' .. micros(most_bytes)
                .. ', in jobs, pictures and results', 2000)
        end
        if rate > 0 then
            n = math.min(n, math.floor(tokens + 1e-9))
            if n < 1 then
                return refuse('its ' .. string.format('%.6g', rate) .. ' jobs a second', (1 - tokens) * 1000 / rate)
            end
        end
    end
    if rate > 0 then
        redis.call('HSET', key, 'tokens', string.format('%.17g', math.min(burst, tokens - n)), 'at', micros(now))
        redis.call('PEXPIRE', key, micros(math.ceil(burst / rate * 1000) + 60000))
    end
    return { 'admitted', n }
end)

-- ---------------------------------------------------------------------------------------------------------------------
-- Work: what jobs and encodes in flight have in common, by the stage whose workers do it.

local WORK = {
    decode = {
        hash = 'job:', member = 'd:', gauge = '', holder = 'worker',
        load = load_job, withdraw = withdraw_job, enqueue = enqueue_job,
        give_up = finish,
        delay = function(c, id, job)
            redis.call('HSET', c.k .. 'job:' .. id, 'state', 'queued', 'delayed', 1)
            demand(c, 'decode', job.model, 1)
        end,
    },
    encode = {
        hash = 'encoding:', member = 'e:', gauge = 'encode_', holder = 'encoder',
        load = load_encode, withdraw = withdraw_encode, enqueue = enqueue_encode,
        give_up = give_up_encode,
        delay = function(c, key)
            redis.call('HSET', c.k .. 'encoding:' .. key, 'state', 'delayed')
            redis.call('HDEL', c.k .. 'encoding:' .. key, 'token')
        end,
    },
}
-- By what stands before their names in the sets of leases and of delays.
local WORK_OF = { ['d:'] = WORK.decode, ['e:'] = WORK.encode }

-- Work that was taken under this token and is still held under it, or nil; then also what there is under that name.
local function held_work(c, work, name, token)
    local found = work.load(c, name)
    if found and found.state == 'in_work' and found.token == token then return found end
    return nil, found
end

-- A worker whose lease ran out is heard of again: what it held did not kill it, so that attempt does not count. `found`
-- is what there is now under the name.
local function uncount_attempt(c, work, name, found, token)
    if not found or not token or token == '' or found.lapsed ~= token or TERMINAL[found.state] then return end
    redis.call('HDEL', c.k .. work.hash .. name, 'lapsed')
    redis.call('HSET', c.k .. work.hash .. name, 'attempts', math.max((tonumber(found.attempts) or 1) - 1, 0))
    count(c, 'forgiven')
end

local function backoff(c, attempts)
    local doubled = setting(c, 'backoff_ms') * 2 ^ math.min(math.max(attempts - 1, 0), 20)
    local full = math.min(doubled, setting(c, 'backoff_max_ms'))
    -- Jitter from the clock's microseconds: math.random gives the same numbers in each call of a function.
    return math.floor(full * (0.5 + c.us % 1000 / 2000))
end

-- Work that was held goes back: at once, or after the backoff, or to its end when the attempts are used up.
local function retry(c, work, name, held, why, delayed)
    local attempts = tonumber(held.attempts) or 0
    if attempts >= setting(c, 'attempts') then
        work.give_up(c, name, held, 'dead', why)
        return 'dead'
    end
    count(c, work.gauge .. 'retries')
    work.withdraw(c, name, held)
    redis.call('HSET', c.k .. work.hash .. name, 'error', why)
    if delayed then
        work.delay(c, name, held)
        redis.call('ZADD', c.k .. 'delayed', lease_clock(c) + backoff(c, attempts), work.member .. name)
        count(c, work.gauge .. 'delayed:' .. held.lane)
    else
        work.enqueue(c, name, held)
    end
    return 'queued'
end

-- Whether it waits for the end of its backoff.
local function is_delayed(found) return found.state == 'delayed' or found.state == 'queued' and found.delayed ~= nil end

--[[ kirie_status       FCALL_RO kirie_status 1 <prefix> <id>…
  Reply: for each nothing (nil: unknown here) or the job's fields, flat: state, lane, image, model, attempts, submitted,
  started, finished, error, worker, misses, deadline, … Errors: BADCALL. ]]
local HIDDEN = {
    token = true, entry = true, aside = true, client = true, sum = true, lapsed = true, pinned = true, letter = true,
    kept = true, empty = true, divided = true, parent = true,
}

local function read_only(name, body)
    redis.register_function {
        function_name = name, flags = { 'no-writes', 'allow-oom' },
        callback = function(keys, args)
            local c, problem = open(keys)
            if not c then return problem end
            return body(c, args)
        end,
    }
end

read_only('kirie_status', function(c, args)
    if #args < 1 or #args > BATCH then return refusal('BADCALL', 'kirie_status <id>…: 1 to 1024') end
    local replies = {}
    for i, id in ipairs(args) do
        local flat = redis.call('HGETALL', c.k .. 'job:' .. id)
        local shown = false
        for at = 1, #flat, 2 do
            if not HIDDEN[flat[at]] then
                shown = shown or {}
                shown[#shown + 1] = flat[at]; shown[#shown + 1] = flat[at + 1]
            end
        end
        replies[i] = shown
    end
    return replies
end)


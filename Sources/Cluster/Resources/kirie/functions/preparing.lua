-- ---------------------------------------------------------------------------------------------------------------------
-- The functions.

--[[ kirie_version      FCALL_RO kirie_version 0
  Reply: [protocol, revision], two numbers. Another protocol number speaks another language: do not mix. A loader
  replaces a lower revision and leaves a higher one alone. ]]
redis.register_function {
    function_name = 'kirie_version', flags = { 'no-writes', 'allow-oom', 'allow-stale' },
    callback = function() return { PROTOCOL, REVISION } end,
}

--[[ kirie_prepare      FCALL kirie_prepare 1 <prefix> <P>
  Makes the groups, so that autoscalers find them before the first job, and notes P. Harmless when repeated.
  Reply: OK. Errors: BADCALL. ]]
register('kirie_prepare', function(c, args)
    local partitions = whole(args[1], 1, 16384)
    if not partitions or tonumber(c.p) >= partitions then
        return refusal('BADCALL', 'kirie_prepare <P>: P is a number greater than that of the partition, at most 16384')
    end
    set(c, { 'partitions', micros(partitions) })
    make_groups(c)
    lease_clock(c)
    return redis.status_reply('OK')
end)

--[[ kirie_limits       FCALL kirie_limits 1 <prefix> (<name> <value>)…
  Changes settings of this partition (SETTINGS), whole numbers within their bounds: all of them, or none.
  Reply: OK. Errors: BADCALL (which setting, and its bounds). ]]
register('kirie_limits', function(c, args)
    local fine = #args >= 2 and #args <= 64 and #args % 2 == 0
    for i = 1, #args, 2 do
        fine = fine and args[i] ~= 'partitions' and bounded(args[i], args[i + 1])
        if not fine then
            local bounds = SETTINGS[args[i]]
            return refusal('BADCALL', 'kirie_limits: ' .. (bounds and args[i] ~= 'partitions'
                and args[i] .. ' takes a whole number from ' .. micros(bounds[2]) .. ' to ' .. micros(bounds[3])
                or 'there is no setting of the name ' .. string.sub(args[i], 1, 64)))
        end
    end
    if not fine then return refusal('BADCALL', 'kirie_limits (<name> <value>)…: 1 to 32 settings and their values') end
    set(c, args)
    return redis.status_reply('OK')
end, { 'allow-oom' })


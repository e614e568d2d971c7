local PROTOCOL, REVISION = 1, 10

-- SETTINGS: fields of the hash <prefix>limits, each with its default, its least and its greatest value. kirie_limits
-- changes them at once; of what else is written there the functions learn within a second, and take what lies outside
-- these bounds for the nearest that does not.
local COUNT, BYTES, TIME = 1e9, 1e15, 1e13
local SETTINGS = {
    ['jobs:interactive'] = { 131072, 0, COUNT }, ['jobs:bulk'] = { 131072, 0, COUNT },  -- unfinished jobs of a lane
    ['bytes:interactive'] = { 134217728, 0, BYTES }, ['bytes:bulk'] = { 134217728, 0, BYTES },  -- bytes of their job lines
    image_bytes = { 1073741824, 0, BYTES },     -- images, and pinned embeddings, that unfinished jobs need
    result_bytes = { 1073741824, 0, BYTES },    -- what is kept of ended jobs: results, and KEPT for each
    dead_bytes = { 67108864, 0, BYTES },        -- what is kept of dead jobs
    dead = { 1000, 0, COUNT },                  -- dead letters kept
    attempts = { 5, 1, 1e6 },                   -- takes before a job or an encode is dead
    misses = { 200, 0, COUNT },                 -- evictions a job survives
    retention_ms = { 3600000, 0, TIME },        -- what is left of a job stays so long
    image_ttl_ms = { 600000, 1, TIME },         -- an image that no job needs
    image_grace_ms = { 2000, 0, TIME },         -- how long it must be so before that time begins
    backoff_ms = { 500, 1, TIME },              -- the pause after a first failed attempt; it doubles from then on
    backoff_max_ms = { 60000, 1, TIME },        -- and grows no longer than this
    known = { 65536, 1, COUNT },                -- pictures that a tenant may name by their hash, the last it named
    known_ms = { 604800000, 1, TIME },          -- and so long after it named one of them
    streak = { 8, 1, COUNT },                   -- interactive takes in a row while bulk waits
    clock_step_ms = { 2000, 100, TIME },        -- what the lease clock goes forward at most between two calls
    chunk = { 200, 1, 10000 },                  -- parked jobs that one call releases
    partitions = { 0, 0, 16384 },               -- P, to check that an image belongs here; 0 = do not check
}

local TERMINAL = { done = true, failed = true, dead = true, cancelled = true, expired = true }
local LANES = { 'interactive', 'bulk' }
local IS_LANE = { interactive = true, bulk = true }
local GROUP = { encode = 'encoders', decode = 'decoders' }
local WAKES = {
    ['queued:interactive'] = 'decode', ['queued:bulk'] = 'decode',
    ['encode_queued:interactive'] = 'encode', ['encode_queued:bulk'] = 'encode',
}
local SEARCH = 64               -- entries one take looks at
local BATCH = 1024              -- jobs one call may name
local LINE_BYTES = 8388608      -- of one job
local SEPARATOR = '\30'         -- between a job line and the note behind it
local NOTE_BYTES = 49152        -- the longest note that is kept
local PUSHED = 32768            -- bytes of a result that goes along with the news of it
local KEPT = 512                -- what an ended job takes beside its result, and a dead letter beside its job line
local MARK = 64                 -- a shorter record is a mark: the embedding lies in another Redis
local OVERDRAFT = 4194304       -- bytes of results that a partition may add to a Redis that is full


-- Admits one entry (after rule.lua).
--
-- KEYS[1]  the entry's address
-- ARGV[1]  the sealed envelope
-- ARGV[2]  its life in milliseconds, at least 1
--
-- Returns what `admit` returns. One call is one atomic step and names one key, so that it also runs where keys are
-- spread over servers.

return admit(KEYS[1], ARGV[1], ARGV[2])

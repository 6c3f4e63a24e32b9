-- For wrk: asks in turn for the paths given behind "--", and tells the sums as a line of JSON.

local requests = {}
local turn = 0

function init(arguments)
    for index, path in ipairs(arguments) do -- the URL is number 0
        requests[index] = wrk.format("GET", path)
    end
end

function request()
    turn = turn % #requests + 1
    return requests[turn]
end

function done(summary)
    local failed = summary.errors
    io.write(string.format(
        '{"requests": %d, "bytes": %d, "seconds": %.6f, "refused": %d, "broken": %d}\n',
        summary.requests, summary.bytes, summary.duration / 1e6, failed.status,
        failed.connect + failed.read + failed.write + failed.timeout
    ))
end

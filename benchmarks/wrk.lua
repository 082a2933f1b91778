-- What wrk sends, and how it tells what it measured.
--
--     wrk ... -s wrk.lua URL -- COOKIES PATH...
--
-- Each line of the file COOKIES is what one user sends; an empty one is a user
-- without a cookie. Every user asks for every path, one after another.

local requests, sent = {}, 0

function init(args)
   for cookie in io.lines(args[1]) do
      local headers = {}
      if cookie ~= "" then headers["Cookie"] = cookie end
      for index = 2, #args do
         requests[#requests + 1] = wrk.format("GET", args[index], headers)
      end
   end
end

function request()
   sent = sent % #requests + 1
   return requests[sent]
end

function done(summary, latency)
   local errors = summary.errors
   io.write(string.format(
      'measured {"requests": %d, "seconds": %.6f, '
      .. '"broken": %d, "statuses": %d, "timeouts": %d, '
      .. '"mean_us": %.1f, "p50_us": %d, "p99_us": %d}\n',
      summary.requests, summary.duration / 1e6,
      errors.connect + errors.read + errors.write, errors.status, errors.timeout,
      latency.mean, latency:percentile(50), latency:percentile(99)
   ))
end

-- What wrk sends, and how it tells what it measured.
--
--     wrk ... -s wrk.lua URL -- COOKIES PATH
--
-- Each line of the file COOKIES is what one user sends; an empty one is a user
-- without a cookie. The users take turns. After /login a user sends the new cookie,
-- and the old one never again.

local path, requests, next = nil, {}, 1

function add(cookie)
   local headers = {}
   if cookie ~= "" then headers["Cookie"] = cookie end
   requests[#requests + 1] = wrk.format("GET", path, headers)
end

function follow(status, headers)
   add(headers["Set-Cookie"]:match("^[^;]+"))
end

function init(args)
   path = args[2]
   for cookie in io.lines(args[1]) do add(cookie) end
   if path == "/login" then response = follow end
end

function request()
   local chosen = requests[next]
   next = next + 1
   if not response and next > #requests then next = 1 end
   return chosen
end

function done(summary, latency)
   local errors = 0
   for _, count in pairs(summary.errors) do errors = errors + count end
   io.write(string.format(
      'measured {"requests": %d, "seconds": %.6f, "errors": %d, '
      .. '"mean_us": %.1f, "p50_us": %d, "p99_us": %d}\n',
      summary.requests, summary.duration / 1e6, errors,
      latency.mean, latency:percentile(50), latency:percentile(99)
   ))
end

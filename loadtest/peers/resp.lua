-- A Redis client of a dozen lines: one command, one answer, over a kept connection.
local resp = {}

local function encode(arguments)
    local parts = { "*" .. #arguments .. "\r\n" }
    for _, argument in ipairs(arguments) do
        argument = tostring(argument)
        parts[#parts + 1] = "$" .. #argument .. "\r\n" .. argument .. "\r\n"
    end
    return table.concat(parts)
end

local function read(socket)
    local line, failure = socket:receive("*l")
    if not line then return nil, failure end
    local kind, rest = line:sub(1, 1), line:sub(2)
    if kind == "+" or kind == ":" then return rest end
    if kind == "-" then return nil, rest end
    if kind == "$" then
        local length = tonumber(rest)
        if length < 0 then return false end
        local value = socket:receive(length)
        socket:receive(2)
        return value
    end
    local items = {}
    for place = 1, tonumber(rest) do items[place] = read(socket) end
    return items
end

function resp.call(port, ...)
    local socket = ngx.socket.tcp()
    socket:settimeouts(1000, 1000, 1000)
    local connected, failure = socket:connect("127.0.0.1", port, { pool_size = 128 })
    if not connected then return nil, failure end
    socket:send(encode({ ... }))
    local answer, refused = read(socket)
    socket:setkeepalive(60000, 128)
    return answer, refused
end

return resp

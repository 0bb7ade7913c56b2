-- HMAC-SHA256 over `Timestamp . Idempotency-Key . body`, and a single-use claim of the token in Redis.
-- No signature of its own, no idempotency, nothing settled, nothing durable.
local ffi = require "ffi"
local resp = require "resp"
ffi.cdef [[
typedef struct evp_md_st EVP_MD;
const EVP_MD *EVP_sha256(void);
unsigned char *HMAC(const EVP_MD *md, const void *key, int key_len, const unsigned char *data, size_t n,
                    unsigned char *out, unsigned int *out_len);
int CRYPTO_memcmp(const void *a, const void *b, size_t len);
]]
local C = ffi.C
local secret = "{{secret}}"
local redis = {{redis}}
local sha256 = C.EVP_sha256()
local tag, tag_length = ffi.new("unsigned char[32]"), ffi.new("unsigned int[1]")
local base64 = require "ngx.base64"

local gateway = {}

local function refuse(status, code)
    ngx.status = status
    ngx.header["Content-Type"] = "application/json"
    ngx.say('{"type":"invalid_request","code":"', code, '"}')
    return ngx.exit(status)
end

function gateway.access()
    local headers = ngx.req.get_headers()
    ngx.req.read_body()
    local body = ngx.req.get_body_data() or ""
    local key, stamp = headers["idempotency-key"], headers["timestamp"]
    local given = headers["signature"] and base64.decode_base64url(headers["signature"])
    if not (key and stamp and given) or #given ~= 32 then return refuse(401, "signature_required") end
    local year, month, day, hour, minute, second = stamp:match("^(%d+)-(%d+)-(%d+)T(%d+):(%d+):(%d+)")
    if not year then return refuse(401, "signature_malformed") end
    local at = os.time { year = year, month = month, day = day, hour = hour, min = minute, sec = second }
    if math.abs(ngx.time() - at) > 300 then return refuse(401, "signature_outside_window") end
    local signed = stamp .. "." .. key .. "." .. body
    C.HMAC(sha256, secret, #secret, signed, #signed, tag, tag_length)
    if C.CRYPTO_memcmp(tag, given, 32) ~= 0 then return refuse(401, "signature_invalid") end
    local token = body:match('"token":"(vt_[A-Za-z0-9]+)"')
    if not token then return refuse(400, "invalid") end
    local claimed, failure = resp.call(redis, "SET", "claim:" .. token, key, "NX", "EX", 3600)
    if failure then return refuse(503, "service_unavailable") end
    if not claimed then return refuse(409, "token_consumed") end
end

return gateway

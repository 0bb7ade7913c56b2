-- The whole job, as far as one would write it oneself: RFC 9421 with Ed25519 verified, key and token
-- claimed in Redis in one round trip, the request countersigned, the answer settled and stored under
-- its key in another.
local ffi = require "ffi"
local resp = require "resp"
ffi.cdef [[
typedef struct evp_pkey_st EVP_PKEY;
typedef struct evp_md_ctx_st EVP_MD_CTX;
EVP_PKEY *EVP_PKEY_new_raw_public_key(int type, void *e, const unsigned char *key, size_t len);
EVP_PKEY *EVP_PKEY_new_raw_private_key(int type, void *e, const unsigned char *key, size_t len);
EVP_MD_CTX *EVP_MD_CTX_new(void);
int EVP_MD_CTX_reset(EVP_MD_CTX *ctx);
int EVP_DigestVerifyInit(EVP_MD_CTX *ctx, void *pctx, const void *type, void *e, EVP_PKEY *pkey);
int EVP_DigestVerify(EVP_MD_CTX *ctx, const unsigned char *sig, size_t siglen, const unsigned char *data, size_t n);
int EVP_DigestSignInit(EVP_MD_CTX *ctx, void *pctx, const void *type, void *e, EVP_PKEY *pkey);
int EVP_DigestSign(EVP_MD_CTX *ctx, unsigned char *sig, size_t *siglen, const unsigned char *data, size_t n);
unsigned char *SHA256(const unsigned char *d, size_t n, unsigned char *md);
]]
local C = ffi.C
local ED25519 = 1087
local redis = {{redis}}
local context = C.EVP_MD_CTX_new()
local digest = ffi.new("unsigned char[32]")
local signature, signature_length = ffi.new("unsigned char[64]"), ffi.new("size_t[1]")

local keys = {}
for id, raw in pairs(require "agents") do
    local bytes = raw:gsub("%x%x", function(pair) return string.char(tonumber(pair, 16)) end)
    keys[id] = C.EVP_PKEY_new_raw_public_key(ED25519, nil, bytes, #bytes)
end
local own = string.rep("\7", 32)
own = C.EVP_PKEY_new_raw_private_key(ED25519, nil, own, #own)

local CLAIM = [[
local stored = redis.call("GET", KEYS[1])
if stored then return stored end
if not redis.call("SET", KEYS[2], ARGV[1], "NX", "EX", 3600) then return "taken" end
redis.call("SET", KEYS[1], "held", "EX", 90000)
return "claimed"
]]
local SETTLE = [[
redis.call("SET", KEYS[1], ARGV[1], "EX", 90000)
redis.call("SET", KEYS[2], "consumed", "EX", 90000)
return "settled"
]]
local claim_sha, settle_sha

local gateway = {}

local function refuse(status, code)
    ngx.status = status
    ngx.header["Content-Type"] = "application/json"
    ngx.say('{"type":"invalid_request","code":"', code, '"}')
    return ngx.exit(status)
end

local function content_digest(body)
    C.SHA256(body, #body, digest)
    return "sha-256=:" .. ngx.encode_base64(ffi.string(digest, 32)) .. ":"
end

local function verifies(headers, path)
    local input, given = headers["signature-input"], headers["signature"]
    local parameters = input and input:match("^sig1=(.+)$")
    local raw = given and given:match("^sig1=:(.+):$")
    local key = parameters and keys[parameters:match(';keyid="([^"]+)"')]
    local created = parameters and tonumber(parameters:match(";created=(%d+)"))
    local expires = parameters and tonumber(parameters:match(";expires=(%d+)"))
    if not (raw and key and created and expires) then return false end
    local now = ngx.time()
    if math.abs(now - created) > 300 or expires < now or expires - created > 300 then return false end
    local lines, covered = {}, {}
    for name in parameters:match("^%((.-)%)"):gmatch('"([^"]+)"') do
        local value
        if name == "@method" then value = ngx.req.get_method()
        elseif name == "@authority" then value = headers["host"]
        elseif name == "@path" then value = path
        else value = headers[name] end
        if not value then return false end
        covered[name] = true
        lines[#lines + 1] = '"' .. name .. '": ' .. value
    end
    for _, name in ipairs { "@method", "@authority", "@path", "content-digest", "idempotency-key" } do
        if not covered[name] then return false end
    end
    lines[#lines + 1] = '"@signature-params": ' .. parameters
    local base = table.concat(lines, "\n")
    raw = ngx.decode_base64(raw)
    if not raw or #raw ~= 64 then return false end
    C.EVP_MD_CTX_reset(context)
    if C.EVP_DigestVerifyInit(context, nil, nil, nil, key) ~= 1 then return false end
    return C.EVP_DigestVerify(context, raw, 64, base, #base) == 1
end

local function countersign(headers, path, digest_header, grant)
    local now = ngx.time()
    local parameters = '("@method" "@target-uri" "content-digest" "content-type" "idempotency-key" "api-version"'
        .. ' "countersign-context");created=' .. now .. ";expires=" .. (now + 300) .. ';keyid="own";tag="countersign"'
    local base = table.concat({
        '"@method": ' .. ngx.req.get_method(),
        '"@target-uri": http://merchant' .. path,
        '"content-digest": ' .. digest_header,
        '"content-type": ' .. headers["content-type"],
        '"idempotency-key": ' .. headers["idempotency-key"],
        '"api-version": ' .. headers["api-version"],
        '"countersign-context": ' .. grant,
        '"@signature-params": ' .. parameters,
    }, "\n")
    C.EVP_MD_CTX_reset(context)
    signature_length[0] = 64
    C.EVP_DigestSignInit(context, nil, nil, nil, own)
    C.EVP_DigestSign(context, signature, signature_length, base, #base)
    ngx.req.set_header("Signature-Input", "countersign=" .. parameters)
    ngx.req.set_header("Signature", "countersign=:" .. ngx.encode_base64(ffi.string(signature, 64)) .. ":")
    ngx.req.set_header("Countersign-Context", grant)
    ngx.req.set_header("Countersign-Grant", "none")
end

local function run(script, sha, ...)
    local answer, failure = resp.call(redis, "EVALSHA", sha, ...)
    if failure and failure:find("^NOSCRIPT") then
        return resp.call(redis, "EVAL", script, ...)
    end
    return answer, failure
end

local function loaded()
    claim_sha = claim_sha or resp.call(redis, "SCRIPT", "LOAD", CLAIM)
    settle_sha = settle_sha or resp.call(redis, "SCRIPT", "LOAD", SETTLE)
    return claim_sha and settle_sha
end

function gateway.content()
    local headers, path = ngx.req.get_headers(), ngx.var.uri
    ngx.req.read_body()
    local body = ngx.req.get_body_data() or ""
    local digest_header = content_digest(body)
    if headers["content-digest"] ~= digest_header then return refuse(401, "content_digest_mismatch") end
    if not verifies(headers, path) then return refuse(401, "signature_invalid") end
    local key, token = headers["idempotency-key"], body:match('"token":"(vt_[A-Za-z0-9]+)"')
    if not token then return refuse(400, "invalid") end
    if not loaded() then return refuse(503, "service_unavailable") end
    local key_record, token_record = "key:" .. key, "token:" .. token
    local claimed, failure = run(CLAIM, claim_sha, 2, key_record, token_record, key)
    if failure then return refuse(503, "service_unavailable") end
    if claimed == "held" then return refuse(409, "idempotency_in_flight") end
    if claimed == "taken" then return refuse(409, "token_consumed") end
    if claimed ~= "claimed" then
        ngx.header["Idempotent-Replayed"] = "true"
        return ngx.print(claimed)
    end
    countersign(headers, path, digest_header, 'merchant="shop", token="' .. token .. '", claim="' .. key .. '"')
    local answer = ngx.location.capture("/upstream" .. path, { method = ngx.HTTP_POST, body = body })
    local settled, unsettled = run(SETTLE, settle_sha, 2, key_record, token_record, answer.body)
    if not settled or unsettled then return refuse(503, "outcome_unknown") end
    ngx.status = answer.status
    ngx.header["Content-Type"] = answer.header["Content-Type"]
    ngx.header["Content-Length"] = #answer.body
    ngx.print(answer.body)
end

return gateway

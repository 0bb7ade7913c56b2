#!/usr/bin/python3
"""What a merchant checks of a request that came through Countersign. Copy it.

    verify.py REQUEST.json JWKS.json MERCHANT_ID UNIX_SECONDS

REQUEST.json: {"method", "target_uri", "headers": [[name, value], ...], "body_base64"}.
`target_uri` is the URL you were asked for, by your public name: behind a proxy, rebuild it from your
configuration, never from `Host` or `Forwarded`. JWKS.json: the gateway's /.well-known/jwks.json, fetched
over TLS. Prints `ok` and what the gateway vouches for, or exits 1 naming the check that failed.
Needs Debian's python3-jwt and python3-cryptography.

A request repeated within its five minutes carries the same Idempotency-Key: answer it as you answered
the first. The `amount` vouched for is in minor units: charge no more.
"""

import base64
import hashlib
import json
import re
import sys
from urllib.parse import urlsplit

import jwt

LONGEST_LIFE = 300  # seconds from `created` to `expires`
CLOCK_SKEW = 30  # seconds the gateway's clock may be ahead of yours
ALGORITHMS = {"Ed25519": "EdDSA", "P-256": "ES256"}  # by the key's curve


class Refused(Exception):
    """The check that failed, and why."""

    def __init__(self, check, why):
        super().__init__(f"{check}: {why}")


def verify(request, jwks, merchant, now):
    """Gives what the gateway vouches for. Raises Refused."""
    body = base64.b64decode(request["body_base64"])
    verify_digest(request, body)
    verify_signature(request, jwks, now)
    # Only now is any header worth reading.
    context = read_dictionary(header(request, "countersign-context"))
    # Or another merchant of the gateway could pass on to you what was sent to it.
    if context.get("merchant") != merchant:
        raise Refused("merchant", "the request is for another merchant")
    if request["method"] == "POST" and urlsplit(request["target_uri"]).path.endswith("/complete"):
        token = find_token(json.loads(body))
        # A purchase order has neither token nor grant. A token without a grant is worth nothing.
        if token is not None or "token" in context:
            verify_grant(request, jwks, merchant, now, context, token)
    return context


def verify_digest(request, body):
    """The signature covers this header, and this header the body (RFC 9530)."""
    expected = "sha-256=:" + base64.b64encode(hashlib.sha256(body).digest()).decode() + ":"
    digests = header(request, "content-digest") or ""
    if expected not in [digest.strip() for digest in digests.split(",")]:
        raise Refused("content-digest", "not the SHA-256 of the body")


# The member `countersign` of each header. Your proxies may have added signatures under other labels.
INPUT = re.compile(
    r"(?:^|,)[ \t]*countersign="
    r'(\(((?:"[^"\\]+" ?)+)\)((?:;(?:created|expires)=[0-9]{1,12}|;[a-z]+="[^"\\]*")*))[ \t]*(?=,|$)'
)
SIGNATURE = re.compile(r"(?:^|,)[ \t]*countersign=:([A-Za-z0-9+/]{86}==):[ \t]*(?=,|$)")


def verify_signature(request, jwks, now):
    """RFC 9421, section 3.2."""
    inputs = INPUT.findall(header(request, "signature-input") or "")
    signatures = SIGNATURE.findall(header(request, "signature") or "")
    if len(inputs) != 1 or len(signatures) != 1:
        raise Refused("signature-input", "there must be one signature labelled countersign")
    received, names, parameters = inputs[0]
    names = re.findall(r'"([^"]+)"', names)

    def parameter(name, default=""):
        return next(iter(re.findall(f';{name}="?([^";]*)', parameters)), default)

    # What is not covered may have been changed, added or taken away since it was signed.
    required = ["@method", "@target-uri", "content-digest", "countersign-context"]
    required += [n for n in ("idempotency-key", "countersign-grant") if header(request, n) is not None]
    for name in required:
        if name not in names:
            raise Refused("coverage", f"{name} is not covered")
    # What the gateway signed for another purpose says nothing about this request.
    if parameter("tag") != "countersign":
        raise Refused("tag", "signed for another purpose")
    created, expires = int(parameter("created", 0)), int(parameter("expires", 0))
    if created > now + CLOCK_SKEW:
        raise Refused("created", "signed in the future")
    if now >= expires or expires - created > LONGEST_LIFE:
        raise Refused("expires", "expired, or valid for too long")

    key, _ = find_key(jwks, parameter("keyid"), "keyid")
    lines = [f'"{name}": {component(request, name)}' for name in names]
    # The parameters as received: written anew they might differ in a byte.
    base = "\n".join([*lines, f'"@signature-params": {received}'])
    if not key.Algorithm.verify(base.encode(), key.key, base64.b64decode(signatures[0])):
        raise Refused("signature", "does not verify")


def component(request, name):
    """A covered part of the request (RFC 9421, section 2)."""
    if name == "@method":
        return request["method"]
    if name == "@target-uri":
        return request["target_uri"]
    value = header(request, name)
    if value is None:
        raise Refused("signature", f"covers {name}, which is missing")
    return value


def find_key(jwks, kid, check):
    """The key of that name, its RFC 7638 thumbprint. If there is none, fetch the set anew, once a minute."""
    for entry in jwks["keys"]:
        if entry.get("kid") == kid and entry.get("crv") in ALGORITHMS:
            # The algorithm follows from the key. What a message says about it is not to be trusted.
            algorithm = ALGORITHMS[entry["crv"]]
            return jwt.PyJWK(entry, algorithm), algorithm
    raise Refused(check, "the gateway has no key of this name")


def verify_grant(request, jwks, merchant, now, context, token):
    """The allowance of the token. Seen once it can be copied: only the countersignature gives it force."""
    grant = header(request, "countersign-grant")
    if grant is None:
        raise Refused("grant", "a token without a grant")
    # Signature alone: the claims are judged below, by your clock and names.
    unjudged = {"verify_aud": False, "verify_exp": False, "verify_iat": False, "verify_nbf": False}
    try:
        head = jwt.get_unverified_header(grant)
        key, algorithm = find_key(jwks, head.get("kid"), "grant-signature")
        claims = jwt.decode(grant, key.key, algorithms=[algorithm], options=unjudged)
    except jwt.InvalidTokenError:
        raise Refused("grant-signature", "does not verify") from None
    # Another kind of token, signed by the same key, is no grant (RFC 8725, section 3.11).
    if head.get("typ") != "payment-grant+jwt":
        raise Refused("grant-typ", "not a grant")
    if claims["aud"] != merchant:
        raise Refused("grant-aud", "granted to another merchant")
    if now >= claims["exp"]:
        raise Refused("grant-exp", "the grant has expired")
    if not claims["jti"] == token == context.get("token"):
        raise Refused("grant-jti", "granted for another token than the body's")
    amount, allowance = context.get("amount"), claims["allowance"]
    if context.get("currency") != allowance["currency"]:
        raise Refused("currency", "not the allowance's")
    if type(amount) is not int or amount > allowance["max_amount"]:
        raise Refused("amount", "above the allowance's maximum")


def find_token(body):
    """The token: as 2026-01-30 and later write it, or as earlier versions do."""
    payment = member(body, "payment_data")
    token = member(member(member(payment, "instrument"), "credential"), "token")
    return member(payment, "token") if token is None else token


def member(value, name):
    return value.get(name) if isinstance(value, dict) else None


def header(request, name):
    """All lines of a header as one value (RFC 9421, section 2.1); None when there is none."""
    lines = [value.strip(" \t") for field, value in request["headers"] if field.lower() == name]
    return ", ".join(lines) if lines else None


MEMBER = re.compile(r'([a-z][a-z0-9_]*)(?:=(?:"((?:[^"\\]|\\["\\])*)"|(-?[0-9]{1,15})|\?([01])))?(?:, *|$)')


def read_dictionary(text):
    """As much of RFC 8941 as the gateway writes: strings, integers, booleans; a bare name is true."""
    members, at = {}, 0
    while at < len(text):
        found = MEMBER.match(text, at)
        if found is None:
            raise Refused("context", "not a dictionary")
        name, string, integer, boolean = found.groups()
        if string is not None:
            members[name] = re.sub(r"\\(.)", r"\1", string)
        else:
            members[name] = boolean != "0" if integer is None else int(integer)
        at = found.end()
    return members


if __name__ == "__main__":
    request_file, jwks_file, me, unix_seconds = sys.argv[1:]
    with open(request_file) as request_text, open(jwks_file) as jwks_text:
        received_request, key_set = json.load(request_text), json.load(jwks_text)
    try:
        vouched_for = verify(received_request, key_set, me, int(unix_seconds))
    except Refused as refused:
        sys.exit(f"refused: {refused}")
    print("ok", json.dumps(vouched_for))

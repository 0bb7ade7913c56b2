#!/usr/bin/env node
// What a merchant checks of a request that came through Countersign. Copy it.
//
//     node verify.mjs REQUEST.json JWKS.json MERCHANT_ID UNIX_SECONDS
//
// REQUEST.json: {"method", "target_uri", "headers": [[name, value], ...], "body_base64"}.
// `target_uri` is the URL you were asked for, by your public name: behind a proxy, rebuild it from your
// configuration, never from `Host` or `Forwarded`. JWKS.json: the gateway's /.well-known/jwks.json,
// fetched over TLS. Prints `ok` and what the gateway vouches for, or exits 1 naming the check that failed.
// Needs Node 18 and no packages.
//
// A request repeated within its five minutes carries the same Idempotency-Key: answer it as you answered
// the first. The `amount` vouched for is in minor units: charge no more.

import { createHash, createPublicKey, verify as verifyBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { argv, exit } from "node:process";
import { pathToFileURL } from "node:url";

const LONGEST_LIFE = 300; // seconds from `created` to `expires`
const CLOCK_SKEW = 30; // seconds the gateway's clock may be ahead of yours
const ALGORITHMS = { "Ed25519": "EdDSA", "P-256": "ES256" }; // by the key's curve

/** The check that failed, and why. */
export class Refused extends Error {
  constructor(check, why) {
    super(`${check}: ${why}`);
  }
}

function demand(holds, check, why) {
  if (!holds) throw new Refused(check, why);
}

/** Gives what the gateway vouches for. Throws Refused. */
export function verify(request, jwks, merchant, now) {
  const body = Buffer.from(request.body_base64, "base64");
  verifyDigest(request, body);
  verifySignature(request, jwks, now);
  // Only now is any header worth reading.
  const context = readDictionary(header(request, "countersign-context"));
  // Or another merchant of the gateway could pass on to you what was sent to it.
  demand(context.merchant === merchant, "merchant", "the request is for another merchant");
  if (request.method === "POST" && new URL(request.target_uri).pathname.endsWith("/complete")) {
    const token = findToken(JSON.parse(body));
    // A purchase order has neither token nor grant. A token without a grant is worth nothing.
    if (token !== undefined || context.token !== undefined) {
      verifyGrant(request, jwks, merchant, now, context, token);
    }
  }
  return context;
}

/** The signature covers this header, and this header the body (RFC 9530). */
function verifyDigest(request, body) {
  const expected = `sha-256=:${createHash("sha256").update(body).digest("base64")}:`;
  const digests = (header(request, "content-digest") ?? "").split(",").map((digest) => digest.trim());
  demand(digests.includes(expected), "content-digest", "not the SHA-256 of the body");
}

// The member `countersign` of each header. Your proxies may have added signatures under other labels.
const INPUT = new RegExp(
  String.raw`(?:^|,)[ \t]*countersign=(\(((?:"[^"\\]+" ?)+)\)` +
    String.raw`((?:;(?:created|expires)=[0-9]{1,12}|;[a-z]+="[^"\\]*")*))[ \t]*(?=,|$)`,
  "g",
);
const SIGNATURE = /(?:^|,)[ \t]*countersign=:([A-Za-z0-9+/]{86}==):[ \t]*(?=,|$)/g;

/** RFC 9421, section 3.2. */
function verifySignature(request, jwks, now) {
  const inputs = [...(header(request, "signature-input") ?? "").matchAll(INPUT)];
  const signatures = [...(header(request, "signature") ?? "").matchAll(SIGNATURE)];
  const single = inputs.length === 1 && signatures.length === 1;
  demand(single, "signature-input", "there must be one signature labelled countersign");
  const [, received, list, rest] = inputs[0];
  const names = [...list.matchAll(/"([^"]+)"/g)].map(([, name]) => name);
  const parameter = (name) => new RegExp(`;${name}="?([^";]*)`).exec(rest)?.[1];

  // What is not covered may have been changed, added or taken away since it was signed.
  const isPresent = (name) => header(request, name) !== undefined;
  const present = ["idempotency-key", "countersign-grant"].filter(isPresent);
  for (const name of ["@method", "@target-uri", "content-digest", "countersign-context", ...present]) {
    demand(names.includes(name), "coverage", `${name} is not covered`);
  }
  // What the gateway signed for another purpose says nothing about this request.
  demand(parameter("tag") === "countersign", "tag", "signed for another purpose");
  const created = Number(parameter("created") ?? 0);
  const expires = Number(parameter("expires") ?? 0);
  demand(created <= now + CLOCK_SKEW, "created", "signed in the future");
  demand(now < expires && expires - created <= LONGEST_LIFE, "expires", "expired, or valid for too long");

  const { key } = findKey(jwks, parameter("keyid"), "keyid");
  const lines = names.map((name) => `"${name}": ${component(request, name)}`);
  // The parameters as received: written anew they might differ in a byte.
  const base = [...lines, `"@signature-params": ${received}`].join("\n");
  demand(isSignedBy(key, base, Buffer.from(signatures[0][1], "base64")), "signature", "does not verify");
}

/** A covered part of the request (RFC 9421, section 2). */
function component(request, name) {
  if (name === "@method") return request.method;
  if (name === "@target-uri") return request.target_uri;
  const value = header(request, name);
  demand(value !== undefined, "signature", `covers ${name}, which is missing`);
  return value;
}

/** The key of that name, its RFC 7638 thumbprint. If there is none, fetch the set anew, once a minute. */
function findKey(jwks, kid, check) {
  const entry = jwks.keys.find((entry) => entry.kid === kid && Object.hasOwn(ALGORITHMS, entry.crv));
  demand(entry !== undefined, check, "the gateway has no key of this name");
  // The algorithm follows from the key. What a message says about it is not to be trusted.
  return { key: createPublicKey({ key: entry, format: "jwk" }), algorithm: ALGORITHMS[entry.crv] };
}

/** Ed25519, or ECDSA P-256 with SHA-256; both sign with 64 raw bytes, not DER. */
function isSignedBy(key, text, signature) {
  const digest = key.asymmetricKeyType === "ed25519" ? null : "sha256";
  return verifyBytes(digest, Buffer.from(text), { key, dsaEncoding: "ieee-p1363" }, signature);
}

/** The allowance of the token. Seen once it can be copied: only the countersignature gives it force. */
function verifyGrant(request, jwks, merchant, now, context, token) {
  const grant = header(request, "countersign-grant");
  demand(grant !== undefined, "grant", "a token without a grant");
  const { head, claims } = readJwt(grant, jwks);
  // Another kind of token, signed by the same key, is no grant (RFC 8725, section 3.11).
  demand(head.typ === "payment-grant+jwt", "grant-typ", "not a grant");
  demand(claims.aud === merchant, "grant-aud", "granted to another merchant");
  demand(now < claims.exp, "grant-exp", "the grant has expired");
  const sameToken = claims.jti === token && token === context.token;
  demand(sameToken, "grant-jti", "granted for another token than the body's");
  const { currency, max_amount: most } = claims.allowance;
  demand(context.currency === currency, "currency", "not the allowance's");
  const fits = Number.isInteger(context.amount) && context.amount <= most;
  demand(fits, "amount", "above the allowance's maximum");
}

/** The parts of a JWT that a key of the gateway signed (RFC 7515, section 5.2). */
function readJwt(jwt, jwks) {
  const parts = jwt.split(".");
  demand(parts.length === 3, "grant-signature", "not a JWT");
  const [head, claims, signature] = parts;
  const read = (part) => JSON.parse(Buffer.from(part, "base64url"));
  let named;
  try {
    named = read(head);
  } catch {
    throw new Refused("grant-signature", "not a JWT");
  }
  const { key, algorithm } = findKey(jwks, named?.kid, "grant-signature");
  const bytes = Buffer.from(signature, "base64url");
  const isSigned = named.alg === algorithm && isSignedBy(key, `${head}.${claims}`, bytes);
  demand(isSigned, "grant-signature", "does not verify");
  return { head: named, claims: read(claims) };
}

/** The token: as 2026-01-30 and later write it, or as earlier versions do. */
function findToken(body) {
  const payment = body?.payment_data;
  return payment?.instrument?.credential?.token ?? payment?.token ?? undefined;
}

/** All lines of a header as one value (RFC 9421, section 2.1); undefined when there is none. */
function header(request, name) {
  const lines = request.headers.filter(([field]) => field.toLowerCase() === name);
  const values = lines.map(([, value]) => value.replace(/^[ \t]+|[ \t]+$/g, ""));
  return values.length > 0 ? values.join(", ") : undefined;
}

const MEMBER = /([a-z][a-z0-9_]*)(?:=(?:"((?:[^"\\]|\\["\\])*)"|(-?[0-9]{1,15})|\?([01])))?(?:, *|$)/y;

/** As much of RFC 8941 as the gateway writes: strings, integers, booleans; a bare name is true. */
function readDictionary(text) {
  const members = {};
  MEMBER.lastIndex = 0;
  while (MEMBER.lastIndex < text.length) {
    const found = MEMBER.exec(text);
    demand(found !== null, "context", "not a dictionary");
    const [, name, string, integer, boolean] = found;
    if (string !== undefined) members[name] = string.replace(/\\(.)/g, "$1");
    else members[name] = integer === undefined ? boolean !== "0" : Number(integer);
  }
  return members;
}

if (import.meta.url === pathToFileURL(argv[1] ?? "").href) {
  const [requestFile, jwksFile, merchant, now] = argv.slice(2);
  const read = (file) => JSON.parse(readFileSync(file, "utf8"));
  try {
    console.log("ok", JSON.stringify(verify(read(requestFile), read(jwksFile), merchant, Number(now))));
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    console.error(`refused: ${error.message}`);
    exit(1);
  }
}

import base64, datetime, hashlib, json, os, ssl, time, urllib.request
from urllib.parse import urlsplit
from cryptography.hazmat.primitives.serialization import load_pem_private_key

gateway = os.environ["GATEWAY"]
trust = ssl.create_default_context(cafile=os.environ["CA"])
with open(os.environ["AGENT_KEY"], "rb") as pem:
    key = load_pem_private_key(pem.read(), None)


def base64_of(data):
    return base64.b64encode(data).decode()


def call(path, body, idempotency_key):
    """Signs a POST (RFC 9421, Ed25519) and sends it."""
    body = json.dumps(body).encode()
    digest = f"sha-256=:{base64_of(hashlib.sha256(body).digest())}:"
    now = int(time.time())
    covered = {
        "@method": "POST",
        "@authority": urlsplit(gateway).netloc,
        "@path": path,
        "content-digest": digest,
        "idempotency-key": idempotency_key,
    }
    names = " ".join(f'"{name}"' for name in covered)
    what = f'({names});created={now};expires={now + 300};keyid="{os.environ["AGENT_KEY_ID"]}"'
    lines = [f'"{name}": {value}' for name, value in covered.items()]
    base = "\n".join([*lines, f'"@signature-params": {what}'])
    headers = {
        "Authorization": f"Bearer {os.environ['AGENT_CREDENTIAL']}",
        "API-Version": "2026-04-17",
        "Content-Type": "application/json",
        "Content-Digest": digest,
        "Idempotency-Key": idempotency_key,
        "Signature-Input": f"sig1={what}",
        "Signature": f"sig1=:{base64_of(key.sign(base.encode()))}:",
    }
    request = urllib.request.Request(gateway + path, body, headers)
    with urllib.request.urlopen(request, context=trust) as answer:
        return json.load(answer)


attempt = time.time_ns()
address = {
    "name": "Ada Lovelace",
    "line_one": "1234 Chat Road",
    "city": "San Francisco",
    "state": "CA",
    "country": "US",
    "postal_code": "94131",
}
checkout = {
    "currency": "usd",
    "line_items": [{"id": "item_lamp"}],
    "capabilities": {"interventions": {"supported": ["3ds"]}},
    "fulfillment_details": {"name": "Ada Lovelace", "email": "ada@example.com", "address": address},
    "selected_fulfillment_options": [
        {"type": "shipping", "option_id": "ship_standard", "item_ids": ["item_lamp"]}
    ],
}
session = call("/m/homegoods/checkout_sessions", checkout, f"checkout-{attempt}")
total = next(row["amount"] for row in session["totals"] if row["type"] == "total")
print(session["id"], session["status"], total)

soon = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(minutes=30)
mint = {
    "payment_method": {
        "type": "card",
        "card_number_type": "fpan",
        "number": "4242424242424242",
        "exp_month": "11",
        "exp_year": "2099",
        "name": "Ada Lovelace",
        "cvc": "223",
        "display_card_funding_type": "credit",
        "virtual": False,
        "metadata": {},
    },
    "allowance": {
        "reason": "one_time",
        "max_amount": total,
        "currency": "usd",
        "merchant_id": "homegoods",
        "checkout_session_id": session["id"],
        "expires_at": soon.isoformat(timespec="seconds"),
    },
    "billing_address": address,
    "risk_signals": [{"type": "card_testing", "score": 5, "action": "authorized"}],
    "metadata": {},
}
token = call("/agentic_commerce/delegate_payment", mint, f"mint-{attempt}")["id"]
print(token)

complete = {
    "buyer": {"first_name": "Ada", "last_name": "Lovelace", "email": "ada@example.com"},
    "payment_data": {
        "handler_id": "card_tokenized",
        "instrument": {"type": "card", "credential": {"type": "spt", "token": token}},
    },
}
# Sent once more, signed anew, it gives the same answer, and nobody pays twice.
for _ in range(2):
    done = call(f"/m/homegoods/checkout_sessions/{session['id']}/complete", complete, f"complete-{attempt}")
    print(done["status"], done["order"]["id"])

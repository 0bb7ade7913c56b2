"""A shop behind the gateway, for deploy/compose.yaml: one lamp, kept in memory.

It shows what a merchant does for each request: checks the countersignature (verify.py, which is
tests/merchant/verify.py), claims the idempotency key before it works, takes the card for the claim, charges
no more than was vouched for. From the environment: PORT, BASE_URL (as in the gateway's entry), GATEWAY, CA,
and the files CREDENTIAL (the gateway's here) and REDEEMER_CREDENTIAL (ours there).
"""

import base64
import hmac
import http.server
import json
import os
import re
import secrets
import ssl
import threading
import time
import urllib.error
import urllib.request

import verify

NAME = "homegoods"
BASE_URL, GATEWAY = os.environ["BASE_URL"], os.environ["GATEWAY"]
TRUST = ssl.create_default_context(cafile=os.environ["CA"])
DECLINED = "4000000000000002"
SHIPPING = {"ship_standard": ("Standard", 500), "ship_express": ("Express", 1500)}
PRICE, TAX = 7900, 632


def secret(name):
    with open(os.environ[name]) as file:
        return file.read().strip()


CREDENTIAL, REDEEMER_CREDENTIAL = secret("CREDENTIAL"), secret("REDEEMER_CREDENTIAL")

LOCK = threading.Lock()
SESSIONS = {}
# By idempotency key: the answer, or None while the first request is at work.
ANSWERS = {}
KEYS = {"fetched": 0, "set": {"keys": []}}


class Answer(Exception):
    def __init__(self, status, body):
        self.status, self.body = status, body


def error(status, code, message):
    kind = "processing_error" if status >= 500 else "invalid_request"
    return Answer(status, {"type": kind, "code": code, "message": message})


def ask_gateway(path, body=None, credential=None):
    headers = {"Content-Type": "application/json"}
    if credential:
        headers["Authorization"] = f"Bearer {credential}"
    request = urllib.request.Request(GATEWAY + path, body and json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=5, context=TRUST) as answer:
        return json.load(answer)


def checked(request):
    """What the gateway vouches for. A key that is not known is looked for once a minute."""
    for known in (True, False):
        try:
            return verify.verify(request, KEYS["set"], NAME, int(time.time()))
        except verify.Refused as refused:
            if not known or "keyid" not in str(refused) or time.time() - KEYS["fetched"] < 60:
                raise error(401, "unauthorized", str(refused)) from None
            KEYS.update(fetched=time.time(), set=ask_gateway("/.well-known/jwks.json"))


def total_of(session):
    return next(row["amount"] for row in session["totals"] if row["type"] == "total")


def priced(session, asked):
    """Puts what was asked for into a session, and adds it up."""
    for name in ("fulfillment_details", "buyer"):
        if name in asked:
            session[name] = asked[name]
    chosen = [one for one in asked.get("selected_fulfillment_options", []) if one.get("option_id") in SHIPPING]
    if chosen:
        session["selected_fulfillment_options"] = chosen
    quantity = sum(int(item.get("quantity", 1)) for item in asked.get("line_items", [])) or session["quantity"]
    session["quantity"] = quantity
    chosen = session.get("selected_fulfillment_options")
    shipping = SHIPPING[chosen[0]["option_id"]][1] if chosen else 0
    goods, tax = PRICE * quantity, TAX * quantity
    rows = [("items_base_amount", "Items", goods), ("subtotal", "Subtotal", goods), ("tax", "Tax", tax)]
    rows += [("fulfillment", "Shipping", shipping)] if chosen else []
    rows.append(("total", "Total", goods + tax + shipping))
    session["totals"] = [{"type": kind, "display_text": text, "amount": amount} for kind, text, amount in rows]
    item = {"id": "line_item_lamp", "item": {"id": "item_lamp"}, "name": "Walnut desk lamp", "quantity": quantity}
    item["unit_amount"] = PRICE
    item["totals"] = [
        {"type": "items_base_amount", "display_text": "Base amount", "amount": goods},
        {"type": "subtotal", "display_text": "Subtotal", "amount": goods},
        {"type": "tax", "display_text": "Tax", "amount": tax},
        {"type": "total", "display_text": "Total", "amount": goods + tax},
    ]
    session["line_items"] = [item]
    ready = "address" in session.get("fulfillment_details", {}) and chosen
    session["status"] = "ready_for_payment" if ready else "not_ready_for_payment"
    return session


def create(asked):
    if not asked.get("line_items") or any(item.get("id") != "item_lamp" for item in asked["line_items"]):
        raise error(400, "invalid", "There is only item_lamp.")
    handler = {
        "id": "card_tokenized", "name": "dev.acp.tokenized.card", "version": "2026-01-22",
        "spec": "https://acp.dev/handlers/tokenized.card", "requires_delegate_payment": True,
        "requires_pci_compliance": False, "psp": "countersign",
        "config_schema": "https://acp.dev/schemas/handlers/tokenized.card/config.json",
        "instrument_schemas": ["https://acp.dev/schemas/handlers/tokenized.card/instrument.json"],
        "config": {"merchant_id": NAME, "psp": "countersign"},
    }  # fmt: skip
    session = {
        "id": f"cs_{secrets.token_hex(8)}", "protocol": {"version": "2026-04-17"}, "currency": "usd",
        "capabilities": {"interventions": {"supported": []}, "payment": {"handlers": [handler]}},
        "fulfillment_options": [
            {"type": "shipping", "id": name, "title": title,
             "totals": [{"type": "total", "display_text": "Shipping", "amount": amount}]}
            for name, (title, amount) in SHIPPING.items()
        ],
        "messages": [], "links": [{"type": "terms_of_use", "url": f"{BASE_URL}/terms"}], "quantity": 1,
    }  # fmt: skip
    SESSIONS[session["id"]] = priced(session, asked)
    return Answer(201, session)


def complete(session, vouched, key):
    """The key is ours from here on: whatever happens, this is done once."""
    token, total = vouched.get("token"), total_of(session)
    with LOCK:
        if session["status"] != "ready_for_payment" or not token:
            raise error(400, "invalid", "This session cannot be paid like that.")
        if (total, session["currency"]) != (vouched["amount"], vouched["currency"]):
            raise error(409, "invalid", "The total has changed since it was checked.")
        session["status"] = "in_progress"
    try:
        return charge(session, token, total, key)
    finally:
        if session["status"] == "in_progress":
            session["status"] = "ready_for_payment"


def charge(session, token, total, key):
    redeem = {"claim": key, "checkout_session_id": session["id"], "amount": total, "currency": session["currency"]}
    try:
        card = ask_gateway(f"/agentic_commerce/granted_tokens/{token}/redeem", redeem, REDEEMER_CREDENTIAL)
    except urllib.error.HTTPError as refused:
        raise error(503 if refused.code >= 500 else 400, "invalid", "There is no card for this.") from None
    if card["payment_method"]["number"] == DECLINED:
        session["messages"] = [
            {"type": "error", "code": "payment_declined", "content_type": "plain", "content": "Declined."}
        ]
        session["status"] = "ready_for_payment"
        return Answer(200, session)
    # Here the payment provider would be asked.
    number = f"ord_{secrets.token_hex(8)}"
    print(f"charged {total} {session['currency']} for {session['id']}: {number}", flush=True)
    order = {"id": number, "checkout_session_id": session["id"], "permalink_url": f"{BASE_URL}/orders/{number}"}
    session.update(status="completed", order=order, messages=[])
    return Answer(200, session)


def answer_to(request, body):
    vouched = checked(request)
    path = request["target_uri"].removeprefix(BASE_URL)
    route = re.fullmatch(r"/checkout_sessions(?:/(cs_\w+)(/complete|/cancel)?)?", path)
    if not route:
        raise error(404, "not_found", "There is nothing here.")
    name, verb = route.groups()
    if name and name not in SESSIONS:
        raise error(404, "not_found", "There is no such session.")
    session = SESSIONS.get(name)
    if request["method"] == "GET" and name and not verb:
        return Answer(200, session)
    if request["method"] != "POST":
        raise error(405, "invalid", "Not like that.")
    key = verify.header(request, "idempotency-key")
    with LOCK:
        if key in ANSWERS:
            if ANSWERS[key] is None:
                raise error(409, "idempotency_in_flight", "The first of these is still at work.")
            return ANSWERS[key]
        if key:
            ANSWERS[key] = None
    try:
        if verb == "/complete":
            done = complete(session, vouched, key)
        elif session and session["status"] in ("completed", "canceled"):
            done = error(405, "invalid", "This session is over.")
        elif verb == "/cancel":
            session["status"] = "canceled"
            done = Answer(200, session)
        else:
            done = Answer(200, priced(session, json.loads(body))) if session else create(json.loads(body))
    except Answer as refused:
        done = refused
    except Exception as failure:
        print(f"failed: {failure!r}", flush=True)
        done = error(500, "processing_error", "The shop failed.")
    if key:
        # As it is now: the session goes on changing. After a 5xx nothing was charged: the next may try.
        done.body = json.loads(json.dumps(done.body))
        with LOCK:
            ANSWERS[key] = done
            if done.status >= 500:
                del ANSWERS[key]
    return done


class Shop(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def serve(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        request = {
            "method": self.command, "target_uri": BASE_URL + self.path, "headers": self.headers.items(),
            "body_base64": base64.b64encode(body).decode(),
        }  # fmt: skip
        try:
            if not hmac.compare_digest(self.headers.get("Authorization", ""), f"Bearer {CREDENTIAL}"):
                raise error(401, "unauthorized", "Who are you?")
            done = answer_to(request, body)
        except Answer as refused:
            done = refused
        except (OSError, ValueError) as failure:
            print(f"failed: {failure!r}", flush=True)
            done = error(500, "processing_error", "The shop failed.")
        text = json.dumps(done.body, separators=(",", ":")).encode()
        self.send_response(done.status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    do_GET = do_POST = serve

    def log_message(self, *_):
        pass


if __name__ == "__main__":
    http.server.ThreadingHTTPServer(("", int(os.environ["PORT"])), Shop).serve_forever()

"""A first shop by somebody who has read deploy/merchants.md: GATEWAY REDEEMER-CREDENTIAL LEDGER."""
import http.server, json, sys, threading, urllib.request, uuid
GATEWAY, CREDENTIAL, LEDGER = sys.argv[1:]
SESSIONS, ANSWERS, LOCK, TOTAL = {}, {}, threading.Lock(), {"amount": 7900, "currency": "usd"}
class Shop(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.answer(200, SESSIONS[self.path.split("/")[2]])
    def do_POST(self):
        body, key = self.rfile.read(int(self.headers.get("Content-Length", 0))), self.headers["Idempotency-Key"]
        if key not in ANSWERS:
            ANSWERS[key] = self.work(json.loads(body or "{}"), key, *self.path.split("/")[2:])
        self.answer(*ANSWERS[key])
    def work(self, body, key, session=None, verb=None):
        if session is None:
            session = "cs_" + uuid.uuid4().hex
            SESSIONS[session] = {"id": session, "status": "ready_for_payment", "currency": "usd", "totals": [{"type": "total", **TOTAL}]}
            return 201, SESSIONS[session]
        if verb == "complete":
            token = body["payment_data"]["instrument"]["credential"]["token"]
            redeem = json.dumps({"claim": key, "checkout_session_id": session, **TOTAL}).encode()
            card = json.load(urllib.request.urlopen(urllib.request.Request(f"{GATEWAY}/agentic_commerce/granted_tokens/{token}/redeem", redeem, {"Authorization": f"Bearer {CREDENTIAL}"})))
            print(session, card["payment_method"]["number"], file=open(LEDGER, "a"))
            SESSIONS[session].update(status="completed", order={"id": "ord_" + uuid.uuid4().hex, "checkout_session_id": session})
        return 200, SESSIONS[session]
    def answer(self, status, body):
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())
SERVER = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Shop)
print(SERVER.server_port, flush=True)
SERVER.serve_forever()

# In a shell of its own, which ends where something is refused.
(
# Signs a POST and sends it: PATH BODY IDEMPOTENCY-KEY.
call() {
  printf '%s' "$2" > "$WORK/body.json"
  "$COUNTERSIGN" sign --url "$GATEWAY$1" --body "$WORK/body.json" --idempotency-key "$3" \
    --key "$AGENT_KEY" > "$WORK/headers"
  curl -sS --cacert "$CA" "$GATEWAY$1" -H @"$WORK/headers" \
    -H "Authorization: Bearer $AGENT_CREDENTIAL" -H 'API-Version: 2026-04-17' \
    -H 'Content-Type: application/json' --data-binary @"$WORK/body.json"
}
try=$(date +%s)
address='{"name": "Ada Lovelace", "line_one": "1234 Chat Road", "city": "San Francisco",
  "state": "CA", "country": "US", "postal_code": "94131"}'

# A checkout of one lamp, with an address and the cheaper shipping: $90.32.
session=$(call /m/homegoods/checkout_sessions '{
  "currency": "usd",
  "line_items": [{"id": "item_lamp"}],
  "capabilities": {"interventions": {"supported": ["3ds"]}},
  "fulfillment_details": {"name": "Ada Lovelace", "email": "ada@example.com", "address": '"$address"'},
  "selected_fulfillment_options": [
    {"type": "shipping", "option_id": "ship_standard", "item_ids": ["item_lamp"]}]
}' "checkout-$try" | sed 's/^.*"id": *"\(cs_[^"]*\)".*$/\1/')
echo "$session"
case $session in cs_*) ;; *) echo 'there is no checkout: that is the refusal' >&2; exit 1 ;; esac

# The card becomes a token: for this checkout, at most $90.32, for half an hour.
token=$(call /agentic_commerce/delegate_payment '{
  "payment_method": {
    "type": "card", "card_number_type": "fpan", "number": "4242424242424242",
    "exp_month": "11", "exp_year": "2099", "name": "Ada Lovelace", "cvc": "223",
    "display_card_funding_type": "credit", "virtual": false, "metadata": {}},
  "allowance": {
    "reason": "one_time", "max_amount": 9032, "currency": "usd", "merchant_id": "homegoods",
    "checkout_session_id": "'"$session"'",
    "expires_at": "'"$(date -u -d '+30 minutes' +%Y-%m-%dT%H:%M:%SZ)"'"},
  "billing_address": '"$address"',
  "risk_signals": [{"type": "card_testing", "score": 5, "action": "authorized"}],
  "metadata": {}
}' "mint-$try" | sed 's/^.*"id": *"\(vt_[^"]*\)".*$/\1/')
echo "$token"
case $token in vt_*) ;; *) echo 'there is no token: that is the refusal' >&2; exit 1 ;; esac

# The token pays. Sent once more, signed anew, it gives the same answer, and nobody pays twice.
for time in first second; do
  call "/m/homegoods/checkout_sessions/$session/complete" '{
    "buyer": {"first_name": "Ada", "last_name": "Lovelace", "email": "ada@example.com"},
    "payment_data": {
      "handler_id": "card_tokenized",
      "instrument": {"type": "card", "credential": {"type": "spt", "token": "'"$token"'"}}}
  }' "complete-$try"
  echo
done
)

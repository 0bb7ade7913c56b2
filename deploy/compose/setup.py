"""Makes what deploy/compose.yaml's gateway, shop and agent know of each other: DIRECTORY.

Keys, credentials, a certificate of an authority of its own, and the configuration that introduces them.
What is there already is left alone. For trying out: whoever can read the directory can do everything.
"""

import base64
import datetime
import hashlib
import ipaddress
import json
import os
import pathlib
import secrets
import shlex
import sys

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import NameOID

DIRECTORY = pathlib.Path(sys.argv[1])
# The user in the gateway's image.
USER = int(os.environ.get("GATEWAY_USER", "65532"))
GATEWAY = os.environ.get("GATEWAY", "https://gateway:8443")
HOSTS = os.environ.get("HOSTS", "localhost:8443 gateway:8443").split()
LISTEN = os.environ.get("LISTEN", "0.0.0.0:8443")
ADMIN = os.environ.get("ADMIN", "0.0.0.0:9464")
REDIS = os.environ.get("REDIS", "redis://redis:6379")
SHOP = os.environ.get("SHOP", "http://shop:8000")
SHOP_NETWORK = os.environ.get("SHOP_NETWORK", "172.31.84.0/24")
EPOCHS = os.environ.get("EPOCHS", "/var/lib/countersign/epochs")


def write(name, content):
    path = DIRECTORY / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    path.chmod(0o600)
    if os.geteuid() == 0:
        os.chown(path, USER, USER)
    return content


def credential(name):
    made = write(name, secrets.token_hex(32))
    return "sha256:" + hashlib.sha256(made.encode()).hexdigest()


def pem(key):
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())


def certificates():
    now = datetime.datetime.now(datetime.timezone.utc)

    def certificate(name, key, issuer, issuer_key, extensions):
        made = x509.CertificateBuilder().subject_name(name).issuer_name(issuer).public_key(key.public_key())
        made = made.serial_number(x509.random_serial_number())
        made = made.not_valid_before(now - datetime.timedelta(hours=1))
        made = made.not_valid_after(now + datetime.timedelta(days=365))
        for extension in extensions:
            made = made.add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
        return made.sign(issuer_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def named(name):
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])

    authority_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    authority = named("Countersign's compose file")
    is_authority = x509.BasicConstraints(ca=True, path_length=0)
    write("ca.pem", certificate(authority, authority_key, authority, authority_key, [is_authority]))
    names = sorted({host.rsplit(":", 1)[0] for host in HOSTS})
    alternatives = []
    for name in names:
        try:
            alternatives.append(x509.IPAddress(ipaddress.ip_address(name)))
        except ValueError:
            alternatives.append(x509.DNSName(name))
    alternatives = x509.SubjectAlternativeName(alternatives)
    use = x509.ExtendedKeyUsage([x509.oid.ExtendedKeyUsageOID.SERVER_AUTH])
    no_authority = x509.BasicConstraints(ca=False, path_length=None)
    extensions = [no_authority, alternatives, use]
    write("server.pem", certificate(named(names[0]), key, authority, authority_key, extensions))
    write("server.key", pem(key))


def agent():
    """The member `x` of the agent's public key, and what signatures call the key (RFC 7638)."""
    key = ed25519.Ed25519PrivateKey.generate()
    write("agent.pem", pem(key))
    form = serialization.PublicFormat.Raw
    raw = key.public_key().public_bytes(serialization.Encoding.Raw, form)
    x = base64.urlsafe_b64encode(raw).decode().rstrip("=")
    known = json.dumps({"crv": "Ed25519", "kty": "OKP", "x": x}, separators=(",", ":"))
    thumbprint = base64.urlsafe_b64encode(hashlib.sha256(known.encode()).digest()).decode().rstrip("=")
    return x, thumbprint


def main():
    if (DIRECTORY / "countersign.toml").exists():
        print("the configuration is there already")
        return
    certificates()
    write("signing.pem", pem(ed25519.Ed25519PrivateKey.generate()))
    rings = ["sealing", "fingerprint", "card_fingerprint", "derivation"]
    for ring in rings:
        write(f"{ring}.key", secrets.token_hex(32))
    x, thumbprint = agent()
    keys = "\n".join(f'{ring} = [{{ id = "{ring}-1", secret = "file:{ring}.key" }}]' for ring in rings)
    operator = credential("operator.credential")
    variables = {
        "GATEWAY": GATEWAY, "CA": str(DIRECTORY / "ca.pem"), "AGENT_KEY": str(DIRECTORY / "agent.pem"),
        "AGENT_KEY_ID": thumbprint,
    }  # fmt: skip
    text = f"""# Written by deploy/compose/setup.py. Every key is explained in deploy/countersign.toml.
[server]
listen = "{LISTEN}"
hosts = {json.dumps(HOSTS)}
tls = {{ certificate_file = "server.pem", key_file = "server.key" }}

[admin]
listen = "{ADMIN}"

[[admin.operators]]
name = "you"
credentials = ["{operator}"]

[store]
engine = "redis"
nodes = ["{REDIS}"]
epoch_directory = "{EPOCHS}"

[keys]
signing = [{{ id = "signing-1", secret = "file:signing.pem" }}]
{keys}

[[agents]]
id = "concierge"
credentials = ["{credential("agent.credential")}"]
keys = [{{ jwk = {{ kty = "OKP", crv = "Ed25519", x = "{x}" }} }}]
token_ceiling = [{{ amount = 100000, currency = "usd" }}]

[[merchants]]
id = "homegoods"
base_url = "{SHOP}"
allow_private_addresses = true
credential = "file:shop.credential"
versions = ["2026-04-17"]
idempotency = "keys"
redeemers = [{{ name = "homegoods", credentials = ["{credential("redeemer.credential")}"], networks = ["{SHOP_NETWORK}"] }}]
"""
    credential("shop.credential")
    variables["AGENT_CREDENTIAL"] = (DIRECTORY / "agent.credential").read_text()
    write("variables", "".join(f"export {name}={shlex.quote(value)}\n" for name, value in variables.items()))
    # Last: whoever finds it finds everything.
    write("countersign.toml", text)
    print("the configuration is made")


main()

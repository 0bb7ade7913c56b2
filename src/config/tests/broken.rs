//! Broken configurations: one change to the least that works, one mistake, on the expected line.

use super::super::Mistake;
use super::{LEAST, parse, workspace, write};

/// What is found is replaced; nothing to find: appended. The mistake is expected on the line marked
/// `#!`, else on the line of the change, or after `^` on that of the header before it; with this
/// key, and with this in its message.
type Case = (&'static str, &'static str, &'static str, &'static str);

const A: &str = "\"sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"";
const SIGNING: &str = "{ id = \"s1\", secret = \"file:keys/signing-2026-01.pem\" }";
const EPOCHS: &str = "directory = \"store\"\nepoch_directory = \"epochs\"";
const TLS: &str = "tls = { certificate_file = \"tls/server.pem\", key_file = \"tls/server.key\" }";
const KEYS: &str = "keys = [{ public_key_file = \"agents/shopper.pem\" }]";

#[rustfmt::skip]
const DOCUMENT: &[Case] = &[
    ("[server]", "[server", "", "not TOML"),
    ("[store]", "[[store]]", "store", "expected a table"),
    ("[server]", "listen = 1\n[server]", "listen", "unknown key"),
    ("", "[limit]\n", "limit", "unknown key (did you mean `limits`?)"),
    ("", "[limits]\naddress_request_brust = 5 #!", "limits.address_request_brust", "did you mean `address_request_burst`?"),
    ("id = \"shopper\"", "id = \"shopper\"\nid = \"again\" #!", "", "duplicate key"),
    ("", "[fraud.card_testin]\n", "fraud.card_testin", "did you mean `card_testing`?"),
];

#[rustfmt::skip]
const SERVER: &[Case] = &[
    ("hosts = [\"pay.example.com\"]", "^#", "server.hosts", "at least one is needed"),
    ("hosts = [\"pay.example.com\"]", "hosts = \"pay.example.com\"", "server.hosts", "expected a list"),
    ("\"pay.example.com\"", "\"pay.example.com\", \n\"https://a/\" #!\n", "server.hosts[1]", "expected a host name"),
    (TLS, "^#", "server.tls", "this section is missing"),
    ("tls/server.key", "tls/absent.key", "server.tls.key_file", "cannot be read: entity not found"),
    ("tls/server.key", "tls", "server.tls.key_file", "found something else"),
    ("tls/server.pem", "tls/server.key", "server.tls.certificate_file", "no certificate found"),
    ("tls/server.key", "tls/server.pem", "server.tls.key_file", "no private key found"),
    ("tls/server.key", "keys/signing-2026-07.pem", "server.tls.key_file", "does not belong to the certificate"),
    (TLS, "tls = 1", "server.tls", "expected a table"),
    ("[store]", "listen = \"8443\" #!\n[store]", "server.listen", "expected an IP address and a port"),
    ("[store]", "connections = 0 #!\n[store]", "server.connections", "must be between 1 and 1000000"),
    ("[store]", "connections = -1 #!\n[store]", "server.connections", "not negative"),
    ("[store]", "connections = 10\nconnections_per_address = 11 #!\n[store]", "server.connections_per_address", "must not be above `connections`"),
    ("[store]", "idle_timeout = 75 #!\n[store]", "server.idle_timeout", "expected a duration with a unit"),
    ("[store]", "idle_timeout = \"2h\" #!\n[store]", "server.idle_timeout", "must be between 1s and 1h"),
    ("[store]", "header_bytes = \"1KiB\" #!\n[store]", "server.header_bytes", "must be between 8192 and 1048576 bytes"),
    ("[store]", "header_bytes = \"32KB\" #!\n[store]", "server.header_bytes", "a size with a unit"),
    ("[store]", "[server.proxy]\nnetworks = [\"0.0.0.0/0\"] #!\n[store]", "server.proxy.networks[0]", "too wide"),
    ("[store]", "[server.proxy]\nrequired = true #!\n[store]", "server.proxy.required", "has no effect without `networks`"),
    ("[store]", "[admin]\nlisten = \"0.0.0.0:8443\" #!\n[store]", "admin.listen", "the same as `server.listen`"),
    ("[store]", "[health]\nlisten = \"0.0.0.0:8443\" #!\n[store]", "health.listen", "the same as `server.listen`"),
    ("[store]", "[health]\nlisten = \"127.0.0.1:9464\" #!\n[store]", "health.listen", "the same as `admin.listen`"),
    ("[store]", "[admin.tls]\nkey_file = \"tls/server.key\"\n[store]", "admin.tls.certificate_file", "missing"),
    ("[store]", "[admin.tls]\ncertificate_file = \"tls/server.pem\"\nkey_file = \"keys/signing-2026-07.pem\" #!\n[store]", "admin.tls.key_file", "does not belong to the certificate"),
    ("[store]", "[admin.tls]\ncertificate_file = \"tls/server.pem\"\nkey_file = \"tls/server.key\"\nclient_ca_fil = \"a\" #!\n[store]", "admin.tls.client_ca_fil", "did you mean `client_ca_file`?"),
    ("[store]", "[admin.client] #!\nca_file = \"a.pem\"\n[store]", "admin.client", "has no effect without `admin.tls`"),
    ("[store]", "[admin.tls]\ncertificate_file = \"tls/server.pem\"\nkey_file = \"tls/server.key\"\n[admin.client] #!\nkey_file = \"a.key\"\n[store]", "admin.client.certificate_file", "missing: `key_file` is nothing without it"),
    ("[store]", "[admin.tls]\ncertificate_file = \"tls/server.pem\"\nkey_file = \"tls/server.key\"\n[admin.client]\nname = \"https://a\" #!\n[store]", "admin.client.name", "without a port"),
    ("[store]", "[[admin.operators]]\ncredentials = [\"sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb\"]\n[store]", "admin.operators[0].name", "missing"),
    ("[store]", "[[admin.operators]]\nname = \"on call\" #!\ncredentials = [\"sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb\"]\n[store]", "admin.operators[0].name", "expected 1 to 128 characters"),
    ("[store]", "[[admin.operators]] #!\nname = \"on-call\"\n[store]", "admin.operators[0].credentials", "at least one is needed"),
    ("[store]", "[[admin.operators]]\nname = \"on-call\"\ncredentials = [\"hunter2\"] #!\n[store]", "admin.operators[0].credentials[0]", "a credential in clear is refused"),
    ("[store]", "[[admin.operators]]\nname = \"on-call\"\ncredentials = [\"sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"] #!\n[store]", "admin.operators[0].credentials[0]", "operators need their own"),
];

#[rustfmt::skip]
const STORE_AND_KEYS: &[Case] = &[
    ("[store]", "[store]\nengine = \"embeded\" #!", "store.engine", "expected \"embedded\" or \"redis\" (did you mean `embedded`?)"),
    ("[store]\ndirectory = \"store\"", "[store] #!\nengine = \"redis\"", "store.nodes", "at least one is needed"),
    ("directory = \"store\"", "engine = \"redis\"\ndirectory = \"store\" #!\nnodes = [\"redis://a\"]", "store.directory", "with engine = \"embedded\" only"),
    ("[store]", "[store]\nnodes = [\"redis://a\"] #!", "store.nodes", "with engine = \"redis\" only"),
    ("directory = \"store\"", "engine = \"redis\"\nnodes = [\"redis://u:p@a:1\"] #!", "store.nodes[0]", "a credential stands in `username` and `password`"),
    ("directory = \"store\"", "engine = \"redis\"\nnodes = [\"http://a:1\"] #!", "store.nodes[0]", "expected \"redis://HOST:PORT\""),
    ("directory = \"store\"", "engine = \"redis\"\nnodes = [\"redis://a:1\", \"rediss://b:1\"] #!", "store.nodes", "all or none"),
    ("directory = \"store\"", "engine = \"redis\"\nwait_replicas = 99 #!\nnodes = [\"redis://a:1\"]", "store.wait_replicas", "must be between 0 and 16"),
    ("directory = \"store\"", "^#", "store.directory", "missing"),
    ("\"epochs\"", "\"store/epochs\"", "store.epoch_directory", "must be outside `directory`"),
    ("\"epochs\"", "\"other/../store\"", "store.epoch_directory", "must be outside `directory`"),
    ("\"store\"", "\"epochs/store\"", "store.directory", "must be outside `epoch_directory`"),
    ("[store]", "[store]\nepoch_nodes = [\"redis://a\"] #!", "store.epoch_nodes", "with engine = \"redis\" only"),
    (EPOCHS, "engine = \"redis\"\nwait_replicas = 1\nnodes = [\"redis://a\"]\nepoch_directory = \"epochs\"\nepoch_nodes = [\"redis://b\"] #!", "store.epoch_nodes", "cannot stand beside `epoch_directory`"),
    (EPOCHS, "engine = \"redis\"\nwait_replicas = 1\nnodes = [\"redis://a\"]\nepoch_nodes = [] #!", "store.epoch_nodes", "at least one is needed"),
    (EPOCHS, "engine = \"redis\"\nwait_replicas = 1\nnodes = [\"redis://a\"]\nepoch_nodes = [\"redis://b\", \"redis://a:6379\"] #!", "store.epoch_nodes", "a:6379 is one of `nodes`"),
    (EPOCHS, "engine = \"redis\"\nwait_replicas = 1\nnodes = [\"redis://a\"]\nepoch_nodes = [\"redis://b\", \"redis://b:6379\"] #!", "store.epoch_nodes", "b:6379 is listed twice"),
    (EPOCHS, "engine = \"redis\"\nwait_replicas = 1\nnodes = [\"redis://a\"]\nepoch_nodes = [\"redis://b\"]\nepoch_ca_file = \"tls/server.pem\" #!", "store.epoch_ca_file", "has no effect"),
    (EPOCHS, "engine = \"redis\"\nwait_replicas = 1\nnodes = [\"redis://a\"]\nepoch_directory = \"epochs\"\nepoch_username = \"b\" #!", "store.epoch_username", "no effect without `epoch_nodes`"),
    (EPOCHS, "engine = \"redis\"\nwait_replicas = 1\nnodes = [\"redis://a\"]\nepoch_node = [\"redis://b\"] #!\nepoch_directory = \"epochs\"", "store.epoch_node", "did you mean `epoch_nodes`?"),
    ("[store]", "[store]\nmin_free_bytes = 1 #!", "store.min_free_bytes", "must be between"),
    ("[keys]", "[keys]\nsealings = [] #!", "keys.sealings", "did you mean `sealing`?"),
    (SIGNING, "", "keys.signing", "at least one key is needed"),
    (SIGNING, "{ id = \"s1\" }", "keys.signing[0].secret", "missing"),
    ("id = \"s1\"", "id = \"a/b\"", "keys.signing[0].id", "expected 1 to 128 characters"),
    ("file:keys/signing-2026-01.pem", "file:agents/shopper.pem", "keys.signing[0].secret", "PKCS#8 PEM"),
    ("file:keys/sealing-2026-01.key", "file:keys/signing-2026-07.pem", "keys.sealing[0].secret", "expected 32 bytes"),
    ("file:keys/derivation-2026-01.key", "file:keys/sealing-2026-01.key", "keys.derivation[0].secret", "already used on line"),
    ("file:keys/sealing-2026-01.key", "c2VjcmV0", "keys.sealing[0].secret", "given by reference"),
    ("file:keys/sealing-2026-01.key", "env:NOT_SET", "keys.sealing[0].secret", "is not set"),
    ("file:keys/sealing-2026-01.key", "env:A-B", "keys.sealing[0].secret", "the name of an environment variable"),
    ("file:keys/sealing-2026-01.key", "file:keys", "keys.sealing[0].secret", "found something else"),
    ("file:keys/sealing-2026-01.key", "file:empty", "keys.sealing[0].secret", "the secret is empty"),
    (SIGNING, "{ id = \"s1\", secret = \"file:keys/signing-2026-01.pem\" },\n\
     { id = \"s1\", secret = \"file:keys/signing-2026-07.pem\" } #!\n", "keys.signing[1].id", "already used on line 9"),
    (SIGNING, "{ id = \"s1\", secret = \"file:keys/signing-2026-01.pem\", current = true },\n\
     { id = \"s2\", secret = \"file:keys/signing-2026-07.pem\", current = true }\n", "keys.signing", "only one key of a ring"),
    (SIGNING, "{ id = \"s1\", secret = \"file:keys/signing-2026-01.pem\", current = false }", "keys.signing", "no key of the ring is current"),
];

#[rustfmt::skip]
const LIMITS_AND_FRAUD: &[Case] = &[
    ("", "[limits]\ntracked_addresses = 0 #!", "limits.tracked_addresses", "must be between 1"),
    ("", "[upstream]\npool_max_idle = true #!", "upstream.pool_max_idle", "expected a whole number"),
    ("", "[fraud.declines]\nshadow = \"yes\" #!", "fraud.declines.shadow", "expected true or false"),
    ("", "[fraud.declines]\ndeny_above = 0 #!", "fraud.declines.deny_above", "between 1 and 1000, or \"never\""),
    ("", "[fraud.declines]\nreview_above = 10\ndeny_above = 9 #!", "fraud.declines.deny_above", "must not be below"),
];

#[rustfmt::skip]
const AGENTS: &[Case] = &[
    ("id = \"shopper\"", "^#", "agents[0].id", "missing"),
    (A, "\"plaintext\"", "agents[0].credentials[0]", "a credential in clear is refused"),
    (A, "\"sha256:abc\"", "agents[0].credentials[0]", "64 hexadecimal digits"),
    (A, "\"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\"", "agents[0].credentials[0]", "the digest of nothing"),
    (A, "", "agents[0].credentials", "at least one is needed"),
    (KEYS, "^#", "agents[0].signature.required", "the agent has no key"),
    (KEYS, "keys = [{ id = \"k\" }]", "agents[0].keys[0]", "exactly one of"),
    (KEYS, "keys = [{ public_key_file = \"agents/shopper.pem\", secret = \"file:agents/old-shopper.key\" }]", "agents[0].keys[0]", "exactly one of"),
    (KEYS, "keys = [{ secret = \"file:agents/old-shopper.key\" }]", "agents[0].keys[0].id", "a shared secret needs the id"),
    (KEYS, "keys = [{ id = \"k\", secret = \"file:short\" }]", "agents[0].keys[0].secret", "at least 16 bytes"),
    (KEYS, "keys = [{ id = \"k\", secret = \"file:agents/old-shopper.key\", secret_encoding = \"hex\" }]", "agents[0].keys[0].secret", "not written in the encoding"),
    ("agents/shopper.pem", "keys/signing-2026-01.pem", "agents[0].keys[0].public_key_file", "holds a private key"),
    ("agents/shopper.pem", "tls/server.pem", "agents[0].keys[0].public_key_file", "SubjectPublicKeyInfo"),
    (KEYS, "keys = [{ jwk = { kty = \"OKP\", crv = \"Ed25519\", x = \"JrQLj5P_89iXES9-vFgrIy29clF9CC_oPPsw3c5D0bs\" } }]", "agents[0].keys[0]", "published test key"),
    (KEYS, "keys = [{ jwk = { kty = \"EC\", crv = \"P-384\", x = \"AA\", y = \"AA\" } }]", "agents[0].keys[0].jwk", "expected a public JWK"),
    (KEYS, "signature = { required = \"allways\" }\nkeys = [{ public_key_file = \"agents/shopper.pem\" }]", "agents[0].signature.required", "did you mean `always`?"),
    (KEYS, "signature = { profiles = [\"rfc9420\"], required = \"never\" }", "agents[0].signature.profiles[0]", "did you mean `rfc9421`?"),
    (KEYS, "signature = { required = \"never\", acp = { body = \"raw\" } }", "agents[0].signature.acp", "has no effect"),
    (KEYS, "signature = { profiles = [\"rfc9421\"] }\nkeys = [{ id = \"k\", secret = \"file:agents/old-shopper.key\" }] #!", "agents[0].keys", "public keys only"),
    (KEYS, "token_life = \"8d\" #!\nkeys = [{ public_key_file = \"agents/shopper.pem\" }]", "agents[0].token_life", "between 1m and 7d"),
    ("[[merchants]]", "live_tokens = 2 \nlive_tokens_per_session = 3 #!\n[[merchants]]", "agents[0].live_tokens_per_session", "must not be above `live_tokens`"),
    ("[[merchants]]", "merchants = [\"sheos\"] #!\n[[merchants]]", "agents[0].merchants[0]", "no merchant has this id (did you mean `shoes`?)"),
    ("[[merchants]]", "merchants = [] #!\n[[merchants]]", "agents[0].merchants", "leave the key out"),
    ("[[merchants]]", "default_version = \"2026-04-18\" #!\n[[merchants]]", "agents[0].default_version", "did you mean `2026-04-17`?"),
    ("[[merchants]]", "token_ceiling = [{ amount = 1.5, currency = \"usd\" }] #!\n[[merchants]]", "agents[0].token_ceiling[0].amount", "expected a whole number"),
    ("[[merchants]]", "token_ceiling = [{ amount = 1, currency = \"$\" }] #!\n[[merchants]]", "agents[0].token_ceiling[0].currency", "three letters"),
    ("[[merchants]]", "token_ceiling = [{ amount = 1, currency = \"usd\" }, { amount = 2, currency = \"USD\" }] #!\n[[merchants]]", "agents[0].token_ceiling", "listed twice"),
    ("[[merchants]]", "[[agents]]\nid = \"shopper\" #!\ncredentials = [\"sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb\"]\n\
     signature = { required = \"never\" }\n[[merchants]]", "agents[1].id", "already used on line 15"),
    ("[[merchants]]", "[[agents]]\nid = \"other\"\ncredentials = [\"sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"] #!\n\
     signature = { required = \"never\" }\n[[merchants]]", "agents[1].credentials[0]", "already used on line 16"),
];

#[rustfmt::skip]
const MERCHANTS: &[Case] = &[
    ("https://shoes", "http://shoes", "merchants[0].base_url", "must be https"),
    ("https://shoes.example", "https://10.1.2.3", "merchants[0].base_url", "not a public one"),
    ("https://shoes.example", "https://user:pass@shoes.example", "merchants[0].base_url", "expected a URL"),
    ("\"https://shoes.example\"", "[]", "merchants[0].base_url", "a list of up to 4"),
    ("\"https://shoes.example\"", "[\"https://shoes.example\", \"http://b.shoes.example\"]", "merchants[0].base_url", "must be https"),
    ("\"https://shoes.example\"", "[\"https://shoes.example\", \"https://shoes.example/\"]", "merchants[0].base_url", "the same URL twice"),
    ("\"https://shoes.example\"", "[\"https://shoes.example\", 2]", "merchants[0].base_url", "expected"),
    ("\"https://shoes.example\"", "[\"https://a.example\", \"https://b.example\", \"https://c.example\", \"https://d.example\", \"https://e.example\"]", "merchants[0].base_url", "a list of up to 4"),
    ("env:SHOES_CREDENTIAL", "shoes-credential", "merchants[0].credential", "a value written here is refused"),
    ("env:SHOES_CREDENTIAL", "file:agents/old-shopper.key", "merchants[0].credential", "cannot have"),
    ("versions = [\"2026-04-17\"]", "^#", "merchants[0].versions", "at least one is needed"),
    ("\"2026-04-17\"", "", "merchants[0].versions", "at least one is needed"),
    ("\"2026-04-17\"", "\"2026-04-71\"", "merchants[0].versions[0]", "did you mean `2026-04-17`?"),
    ("", "hosts = [\"Pay.example.com:443\"] #!", "merchants[0].hosts[0]", "one of `server.hosts`"),
    ("", "hosts = [\"a.example\", \"A.example\"] #!", "merchants[0].hosts[1]", "already belongs to the merchant on line"),
    ("", "allowance_ids = [\"a b\"] #!", "merchants[0].allowance_ids[0]", "visible ASCII"),
    ("", "idempotency = true #!", "merchants[0].idempotency", "expected \"keys\" or \"none\""),
    ("", "ca_file = \"tls/server.key\" #!", "merchants[0].ca_file", "no certificate found"),
    ("", "^client_key_file = \"tls/server.key\"", "merchants[0].client_certificate_file", "needs its certificate"),
    ("", "^signature = \"acp\"", "merchants[0].signature_key", "needs the key shared"),
    ("", "signature_key = \"file:agents/old-shopper.key\" #!", "merchants[0].signature_key", "has no effect"),
    ("", "adopting_agents = [\"nobody\"] #!", "merchants[0].adopting_agents[0]", "no agent has this id"),
    ("", "doubt_grace = \"1m\" #!\ndeadlines = { total = \"2m\" }", "merchants[0].doubt_grace", "must not be below"),
    ("", "doubt_grace = \"149s\" #!\ndeadlines = { total = \"2m\" }", "merchants[0].doubt_grace", "30s for our signature"),
    ("", "deadlines = { connect = \"50s\" } #!", "merchants[0].deadlines.connect", "must not be above `total`"),
    ("", "breaker = { agents = 2 } #!", "merchants[0].breaker.agents", "must be between 3"),
    ("", "breaker = { failing_percent = 50 } #!", "merchants[0].breaker.failing_percent", "must be between 51"),
    ("", "concurrency = \"many\" #!", "merchants[0].concurrency", "expected a whole number"),
    ("", "purchase_orders = { agents = [\"shopper\"] } #!", "merchants[0].purchase_orders.limits", "at least one amount"),
    ("", "[[merchants.redeemers]] #!\nname = \"r\"\ncredentials = [\"sha256:cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc\"]",
     "merchants[0].redeemers[0]", "exactly one of `keys`, `networks` and `certificates`"),
    ("", "[[merchants.redeemers]]\nname = \"r\"\ncredentials = [\"sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"] #!\nnetworks = [\"192.0.2.1\"]",
     "merchants[0].redeemers[0].credentials[0]", "the credential of the agent on line 16"),
    ("", "[[merchants.redeemers]]\nname = \"r\"\ncredentials = [\"sha256:cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc\"]\nkeys = [{ id = \"k\", secret = \"file:agents/old-shopper.key\" }] #!",
     "merchants[0].redeemers[0].keys", "public keys only"),
    ("", "[[merchants.redeemers]]\nname = \"r\"\ncredentials = [\"sha256:cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc\"]\nnetworks = [\"10.0.0.0/7\"] #!",
     "merchants[0].redeemers[0].networks[0]", "too wide"),
    ("", "[[merchants.redeemers]]\nname = \"r\"\ncredentials = [\"sha256:cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc\"]\nnetworks = [\"::ffff:0:0/96\"] #!",
     "merchants[0].redeemers[0].networks[0]", "write an IPv4 network as IPv4"),
    ("", "[[merchants.redeemers]]\nname = \"r\"\ncredentials = [\"sha256:cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc\"]\ncertificates = [\"sha256:cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc\"] #!",
     "merchants[0].redeemers[0].certificates", "needs `server.tls.client_ca_file`"),
];

#[test]
fn each_mistake_is_found_on_its_line_under_its_key() {
    let root = workspace();
    write(root.path(), "empty", "\n");
    write(root.path(), "short", "fifteen bytes..");
    let cases = [DOCUMENT, SERVER, STORE_AND_KEYS, LIMITS_AND_FRAUD, AGENTS, MERCHANTS].concat();
    assert!(cases.len() >= 100, "{}", cases.len());
    let mut wrong = Vec::new();
    for (find, with, key, message) in cases {
        assert!(find.is_empty() || LEAST.contains(find), "{find}");
        let (before, after) = if find.is_empty() { (LEAST, "") } else { LEAST.split_once(find).unwrap() };
        let (with, at_header) = with.strip_prefix('^').map_or((with, false), |with| (with, true));
        let text = format!("{before}{with}{after}");
        let line = match text.lines().position(|line| line.contains("#!")) {
            Some(marked) => marked + 1,
            None if at_header => {
                before.lines().enumerate().filter(|(_, line)| line.starts_with('[')).last().unwrap().0 + 1
            }
            None => before.matches('\n').count() + 1,
        };
        let found = parse(&text, root.path()).err().map_or(Vec::new(), |errors| errors.mistakes);
        let expected = |mistake: &Mistake| {
            mistake.line == line && mistake.key == key && mistake.to_string().contains(message)
        };
        if found.len() != 1 || !found.iter().all(expected) {
            wrong.push(format!("{with}\n  expected {line}: {key}: {message}\n  found {found:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn an_empty_file_lacks_five_sections() {
    let errors = parse("", workspace().path()).err().unwrap();
    let keys: Vec<&str> = errors.mistakes.iter().map(|mistake| mistake.key.as_str()).collect();
    assert_eq!(keys, ["agents", "keys", "merchants", "server", "store"]);
}

#[test]
fn all_mistakes_are_told_at_once_in_the_order_of_their_lines() {
    let root = workspace();
    let text = LEAST
        .replace("\"pay.example.com\"", "7")
        .replace("id = \"s1\"", "id = \"\"")
        .replace("sha256:", "sha512:")
        .replace("https:", "ftp:")
        .replace("2026-04-17", "today")
        + "colour = \"red\"\n";
    let errors = parse(&text, root.path()).err().unwrap();
    let keys: Vec<&str> = errors.mistakes.iter().map(|mistake| mistake.key.as_str()).collect();
    assert_eq!(
        keys,
        [
            "server.hosts[0]",
            "keys.signing[0].id",
            "agents[0].credentials[0]",
            "merchants[0].base_url",
            "merchants[0].versions[0]",
            "merchants[0].colour",
        ]
    );
}

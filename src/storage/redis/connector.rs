//! How a connection to a server is made.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, RedisResult};

use super::settings::{NodeAddress, Settings};

/// Calls under way on one connection; more wait for their turn within their deadline.
const CALLS: usize = 4096;

/// Makes connections.
pub(super) struct Connector {
    settings: Settings,
}

impl Connector {
    pub(super) fn new(settings: Settings) -> Self {
        Self { settings }
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.settings
    }

    fn client(&self, address: &NodeAddress) -> RedisResult<Client> {
        let Settings { tls, ca, username, password, .. } = &self.settings;
        let host = address.host.clone();
        let target = if *tls {
            redis::ConnectionAddr::TcpTls { host, port: address.port, insecure: false, tls_params: None }
        } else {
            redis::ConnectionAddr::Tcp(host, address.port)
        };
        let mut login = redis::RedisConnectionInfo::default().set_skip_set_lib_name();
        if let Some(username) = username {
            login = login.set_username(username);
        }
        if let Some(password) = password {
            login = login.set_password(std::str::from_utf8(password.expose()).unwrap_or_default());
        }
        let info = redis::IntoConnectionInfo::into_connection_info(target)?.set_redis_settings(login);
        if *tls {
            let certificates = redis::TlsCertificates { client_tls: None, root_cert: ca.clone() };
            return Client::build_with_tls(info, certificates);
        }
        Client::open(info)
    }

    /// A new connection, answered within `patience`.
    pub(super) async fn connect(
        &self,
        address: &NodeAddress,
        patience: Duration,
    ) -> RedisResult<MultiplexedConnection> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.settings.call_timeout))
            .set_response_timeout(Some(patience))
            .set_concurrency_limit(CALLS);
        self.client(address)?.get_multiplexed_async_connection_with_config(&config).await
    }
}

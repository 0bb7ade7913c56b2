//! A merchant's name looked up: on a thread of its own and once at a time, whoever asks. The system's
//! look-up blocks for as long as its name servers are silent; on the runtime's threads for blocking
//! work a few merchants with broken name servers would hold up the store.

use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;

use super::exchange::NotSent;

type Find = dyn Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync;

/// How a host's name and a port become addresses; as the system does it by default.
#[derive(Clone, Default)]
pub struct LookUp(Option<Arc<Find>>);

impl LookUp {
    /// By `find`, which may block: it runs on a thread of its own, one at a time for a merchant.
    pub fn new(find: impl Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(find)))
    }

    fn addresses(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        match &self.0 {
            Some(find) => find(host, port),
            None => Ok((host, port).to_socket_addrs()?.collect()),
        }
    }
}

impl PartialEq for LookUp {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (one, other) => one.is_none() && other.is_none(),
        }
    }
}

impl fmt::Debug for LookUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LookUp")
    }
}

type Found = Result<Vec<SocketAddr>, NotSent>;
type UnderWay = watch::Receiver<Option<Found>>;

/// Looks up the name of one merchant; clones share what is under way.
#[derive(Clone)]
pub(super) struct Resolver {
    look_up: LookUp,
    under_way: Arc<Mutex<Option<UnderWay>>>,
}

impl Resolver {
    /// One that has looked up nothing yet.
    pub(super) fn new(look_up: LookUp) -> Self {
        Self { look_up, under_way: Arc::default() }
    }

    /// The addresses of `host`. Whoever asks while a look-up is under way gets what that one finds;
    /// how long to wait is the caller's to say.
    ///
    /// # Errors
    /// [`NotSent::Unresolved`].
    pub(super) async fn addresses(&self, host: &str, port: u16) -> Found {
        let mut under_way = self.join(host, port)?;
        let found = under_way.wait_for(Option::is_some).await.map_err(|_| NotSent::Unresolved)?;
        found.clone().unwrap_or(Err(NotSent::Unresolved))
    }

    fn join(&self, host: &str, port: u16) -> Result<UnderWay, NotSent> {
        let mut under_way = self.under_way.lock();
        let is_under_way = |one: &&UnderWay| one.borrow().is_none() && one.has_changed().is_ok();
        if let Some(one) = under_way.as_ref().filter(is_under_way) {
            return Ok(one.clone());
        }
        let (tell, told) = watch::channel(None);
        let (look_up, host) = (self.look_up.clone(), host.to_owned());
        let began = std::thread::Builder::new().name("dns".to_owned()).spawn(move || {
            let found = look_up.addresses(&host, port).unwrap_or_default();
            tell.send_replace(Some(if found.is_empty() { Err(NotSent::Unresolved) } else { Ok(found) }));
        });
        began.map_err(|_| NotSent::Unresolved)?;
        *under_way = Some(told.clone());
        Ok(told)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_look_up_that_panics_or_finds_nothing_is_unresolved_and_the_next_looks_again() {
        let asked = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&asked);
        let address = SocketAddr::from(([192, 0, 2, 1], 443));
        let look_up = LookUp::new(move |_, _| match counted.fetch_add(1, Ordering::SeqCst) {
            0 => panic!("on purpose"),
            1 => Ok(Vec::new()),
            2 => Err(io::ErrorKind::NotFound.into()),
            _ => Ok(vec![address]),
        });
        let resolver = Resolver::new(look_up);
        for _ in 0..3 {
            assert_eq!(resolver.addresses("shop.test", 443).await, Err(NotSent::Unresolved));
        }
        assert_eq!(resolver.addresses("shop.test", 443).await, Ok(vec![address]));
    }

    #[test]
    fn name_servers_that_are_silent_hold_one_thread_a_merchant_and_none_of_the_runtimes() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(1)
            .build()
            .unwrap();
        runtime.block_on(async {
            let (asked, silent) = (Arc::new(AtomicUsize::new(0)), Arc::new(std::sync::Barrier::new(2)));
            let look_up = {
                let (asked, silent) = (Arc::clone(&asked), Arc::clone(&silent));
                LookUp::new(move |_, port| {
                    asked.fetch_add(1, Ordering::SeqCst);
                    silent.wait();
                    Ok(vec![SocketAddr::from(([192, 0, 2, 1], port))])
                })
            };
            let resolver = Resolver::new(look_up);
            let asking: Vec<_> = (0..600)
                .map(|_| {
                    let resolver = resolver.clone();
                    tokio::spawn(async move { resolver.addresses("shop.test", 443).await })
                })
                .collect();
            // One that gives up leaves the others their answer.
            let impatient =
                tokio::time::timeout(Duration::from_millis(20), resolver.addresses("shop.test", 443));
            assert!(impatient.await.is_err());
            assert_eq!(tokio::task::spawn_blocking(|| 7).await.unwrap(), 7, "there is room for the store");
            silent.wait();
            for one in asking {
                assert_eq!(one.await.unwrap().unwrap().len(), 1);
            }
            assert_eq!(asked.load(Ordering::SeqCst), 1);
        });
    }
}

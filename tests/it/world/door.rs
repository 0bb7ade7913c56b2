//! A way to a shop that can be shut: whoever connects meanwhile, or was connected, is cut off.

use std::net::SocketAddr;

use countersign::quickstart::shop::Shop;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// The way.
pub struct Door {
    pub address: SocketAddr,
    is_open: watch::Sender<bool>,
}

impl Door {
    /// An open one.
    pub async fn before(shop: &Shop) -> Self {
        let far: http::Uri = shop.base_url().parse().unwrap();
        let port = far.port_u16().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let is_open = watch::Sender::new(true);
        let seen = is_open.clone();
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                tokio::spawn(pass(near, port, seen.subscribe()));
            }
        });
        Self { address, is_open }
    }

    /// A configuration in which the shop is reached by this way. It knows itself by its own URL.
    pub fn put_before(&self, shop: &Shop, text: &str) -> String {
        Self::put_all_before(&[self], shop, text)
    }

    /// The same, by several.
    pub fn put_all_before(doors: &[&Self], shop: &Shop, text: &str) -> String {
        let own = shop.base_url();
        let urls: Vec<String> = doors.iter().map(|door| format!("\"{}\"", door.url(shop))).collect();
        let urls = if urls.len() == 1 { urls.concat() } else { format!("[{}]", urls.join(", ")) };
        let line = format!("base_url = \"{own}\"");
        text.replacen(&line, &format!("base_url = {urls}\npublic_{line}"), 1)
    }

    /// Where it leads to the shop.
    pub fn url(&self, shop: &Shop) -> String {
        let far: http::Uri = shop.base_url().parse().unwrap();
        let port = far.port_u16().unwrap();
        shop.base_url().replace(&format!(":{port}"), &format!(":{}", self.address.port()))
    }

    pub fn shut(&self) {
        self.is_open.send_replace(false);
    }

    pub fn open(&self) {
        self.is_open.send_replace(true);
    }
}

async fn pass(mut near: TcpStream, port: u16, mut is_open: watch::Receiver<bool>) {
    if !*is_open.borrow() {
        return;
    }
    let Ok(mut far) = TcpStream::connect(("127.0.0.1", port)).await else { return };
    let _ = (near.set_nodelay(true), far.set_nodelay(true));
    tokio::select! {
        _ = copy_bidirectional(&mut near, &mut far) => {}
        _ = is_open.wait_for(|is_open| !is_open) => {}
    }
}

//! The gateway behind the public listener, whichever runs.

use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use hyper::body::Incoming;

use crate::gateway::{Caller, Gateway};
use crate::records::BoxFuture;
use crate::server::{Peer, Service};

/// The gateway behind the public listener.
pub(super) struct Agents(pub Arc<ArcSwap<Gateway>>);

impl Service for Agents {
    fn call(
        self: Arc<Self>,
        request: http::Request<Incoming>,
        peer: Peer,
    ) -> BoxFuture<'static, Response<Full<Bytes>>> {
        let caller = Caller { address: peer.ip(), certificate: peer.certificate, standing: peer.standing };
        // A request is answered under the configuration it came under, whatever comes meanwhile.
        let gateway = self.0.load_full();
        Box::pin(async move { gateway.handle(request, caller).await })
    }
}

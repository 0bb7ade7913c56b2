//! What the guides' commands take from the shell: where the gateway is and who asks. With these
//! variables the same command is as good here as at a gateway in service.

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};

use http::header::{AUTHORIZATION, HOST};

use super::Town;
use super::agent::quoted;
use super::configuration::Workspace;
use super::shop::{CallKind, RecordedCall, Shop};

impl Town {
    /// Writes the variables to a file that a shell reads with `.`; `program` is this program's.
    pub(super) fn write_variables(&self, program: &Path) -> io::Result<PathBuf> {
        let workspace = Workspace(&self.directory);
        let [concierge, _] = &self.agents;
        let [homegoods, _] = &self.merchants;
        let received = self.cast.homegoods.calls_of(CallKind::Complete);
        let captured = received.last().map(|call| as_received(call, &self.cast.homegoods));
        let captured = workspace.write("captured.http", &captured.unwrap_or_default());
        let captured = captured.map_err(io::Error::other)?;
        let mut text = "# Written by `countersign quickstart`.\n".to_owned();
        for (name, value) in [
            ("COUNTERSIGN", program.display().to_string()),
            ("CONFIG", self.configuration.display().to_string()),
            ("WORK", self.directory.display().to_string()),
            ("CA", self.certificates.authority_file.display().to_string()),
            ("GATEWAY", format!("https://{}", self.place.authority)),
            ("ADMIN", format!("http://{}", self.app.admin_address())),
            ("AGENT_CREDENTIAL", concierge.credential.expose().to_owned()),
            ("AGENT_KEY", concierge.key_file.display().to_string()),
            ("AGENT_KEY_ID", concierge.key_id.clone()),
            ("REDEEMER_CREDENTIAL", homegoods.redeemer_credential.expose().to_owned()),
            ("COUNTERSIGN_OPERATOR_CREDENTIAL", self.operator.expose().to_owned()),
            ("CAPTURED", captured.display().to_string()),
            ("CAPTURED_AT", self.cast.clock.now().to_rfc3339()),
        ] {
            let _ = writeln!(text, "export {name}={}", quoted(&value));
        }
        workspace.write("variables", &text).map_err(io::Error::other)
    }
}

/// A request as the shop received it, in HTTP/1.1's words. Without the gateway's credential, which is
/// nobody's to read, and which no signature covers.
fn as_received(call: &RecordedCall, shop: &Shop) -> String {
    let mut text = format!("{} {} HTTP/1.1\r\nhost: {}\r\n", call.method, call.path, shop.address());
    for (name, value) in call.headers.iter().filter(|(name, _)| ![AUTHORIZATION, HOST].contains(*name)) {
        let _ = write!(text, "{name}: {}\r\n", String::from_utf8_lossy(value.as_bytes()));
    }
    let _ = write!(text, "\r\n{}", String::from_utf8_lossy(&call.body));
    text
}

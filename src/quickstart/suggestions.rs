//! What to try next: commands that can be pasted into another terminal while the gateway is up.

use std::io;
use std::path::Path;

use super::story::{HOMEGOODS, Narrator};
use super::{Town, order};

impl Town {
    /// Prints the commands.
    pub(super) fn suggest(&self, narrator: &mut Narrator<'_>, certificates: &Path) -> io::Result<()> {
        let trust = certificates.join("ca.pem");
        let url = format!("https://{}", self.place.authority);
        let curl = format!("curl --cacert {}", trust.display());
        narrator.line(
            "\nThe gateway stays up until you press Ctrl-C. In another terminal, from this directory:",
        )?;
        narrator.line("\n# what it publishes: its keys, and what it can do")?;
        narrator.line(&format!("{curl} {url}/.well-known/jwks.json"))?;
        narrator.line(&format!("{curl} {url}/.well-known/acp.json"))?;
        narrator.line("\n# its metrics, as an operator sees them")?;
        narrator.line(&format!("curl http://{}/metrics", self.app.admin_address()))?;

        let path = format!("/m/{HOMEGOODS}/checkout_sessions");
        let body = order::checkout(&[("item_lamp", 1)]);
        let signed = self.cast.concierge.post(&path, &body).prepare().map_err(io::Error::other)?;
        narrator.line("\n# a checkout as the agent opens it, signed just now and good for five minutes")?;
        narrator.line(&signed.curl(&trust))?;

        let [concierge, _] = &self.agents;
        let directory = self.configuration.parent().unwrap_or(Path::new(""));
        let [body_file, headers_file] = ["body.json", "headers"].map(|name| directory.join(name));
        std::fs::write(&body_file, body.to_string())?;
        let (body_file, headers_file) = (body_file.display(), headers_file.display());
        narrator.line("\n# the same, signed whenever you like: edit the body, then sign and send it")?;
        narrator.line(&format!(
            "cargo run -q --release -- sign --url {url}{path} --body {body_file} \\\n  \
             --idempotency-key \"try-$(date +%s)\" --key {} > {headers_file}",
            concierge.key_file.display(),
        ))?;
        narrator.line(&format!(
            "{curl} {url}{path} -H @{headers_file} \\\n  -H 'Authorization: Bearer {}' \\\n  \
             -H 'API-Version: 2026-04-17' -H 'Content-Type: application/json' --data-binary @{body_file}",
            concierge.credential.expose(),
        ))?;
        narrator.line("\n# every key of the configuration that was written for this run, checked")?;
        narrator.line(&format!("cargo run -q --release -- check --config {}", self.configuration.display()))
    }
}

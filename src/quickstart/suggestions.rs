//! What to try next: commands that can be pasted into another terminal while the gateway is up.

use std::io;
use std::path::Path;

use super::agent::quoted;
use super::story::{HOMEGOODS, Narrator};
use super::{Town, order};

/// A whole purchase as a shell script.
const IN_SHELL: &str = include_str!("purchase.sh");
/// The same in Python, which signs by itself.
const IN_PYTHON: &str = include_str!("purchase.py");

impl Town {
    /// Prints the commands. `program` is what a shell calls this program.
    pub(super) fn suggest(
        &self,
        narrator: &mut Narrator<'_>,
        certificates: &Path,
        program: &Path,
    ) -> io::Result<()> {
        let trust = certificates.join("ca.pem");
        let path = format!("/m/{HOMEGOODS}/checkout_sessions");
        let body = order::checkout(&[("item_lamp", 1)]);
        let signed = self.cast.concierge.post(&path, &body).prepare().map_err(io::Error::other)?;
        let variables = self.write_variables(program)?.display().to_string();
        narrator.line(
            "\nThe gateway stays up until you press Ctrl-C. In another terminal, from this directory:",
        )?;
        for (what, commands) in [
            (
                "where the gateway is and who asks, as variables, which the guides in deploy/ use too",
                format!(". {}", quoted(&variables)).as_str(),
            ),
            (
                "what it publishes: its keys, and what it can do",
                "curl --cacert \"$CA\" \"$GATEWAY/.well-known/jwks.json\"\n\
                 curl --cacert \"$CA\" \"$GATEWAY/.well-known/acp.json\"",
            ),
            ("its metrics, as an operator sees them", "curl \"$ADMIN/metrics\""),
            (
                "every key of the configuration of this run, checked",
                "\"$COUNTERSIGN\" check --config \"$CONFIG\"",
            ),
            (
                "a checkout as the agent opens it, signed just now and good for five minutes, from this directory",
                &signed.curl(&trust),
            ),
            ("a whole purchase with curl", IN_SHELL.trim_end()),
            (
                "a whole purchase in Python, with Debian's python3-cryptography",
                &format!("/usr/bin/python3 - <<'END'\n{IN_PYTHON}END"),
            ),
        ] {
            narrator.line(&format!("\n# {what}\n{commands}"))?;
        }
        Ok(())
    }
}

//! A call as it is about to travel. Every part is open: a replay is a second sending, an attack is
//! an edit.

use std::path::Path;

use bytes::Bytes;
use http::{HeaderMap, Method, Request};
use http_body_util::Full;

use super::{Agent, AgentError};
use crate::quickstart::client::Answer;

/// A call ready to be sent, once or more often.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// The method.
    pub method: Method,
    /// The authority it names, whatever address is dialled.
    pub authority: String,
    /// Path and query.
    pub path: String,
    /// All headers, the signature among them.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
    /// The bytes that were signed.
    pub base: Option<Vec<u8>>,
}

impl Prepared {
    /// The request as an HTTP library takes it.
    ///
    /// # Errors
    /// [`http::Error`] when authority or path cannot stand in a URI.
    pub fn request(&self) -> Result<Request<Full<Bytes>>, http::Error> {
        let uri = format!("https://{}{}", self.authority, self.path);
        let mut request =
            Request::builder().method(&self.method).uri(uri).body(Full::new(self.body.clone()))?;
        *request.headers_mut() = self.headers.clone();
        Ok(request)
    }

    /// The request as a shell command. It holds the bearer credential.
    pub fn curl(&self, authority_file: &Path) -> String {
        let mut command = format!(
            "curl --cacert {} -X {} {}",
            authority_file.display(),
            self.method,
            quoted(&format!("https://{}{}", self.authority, self.path))
        );
        for (name, value) in &self.headers {
            let value = String::from_utf8_lossy(value.as_bytes());
            command.push_str(&format!(" \\\n  -H {}", quoted(&format!("{name}: {value}"))));
        }
        if !self.body.is_empty() {
            let body = String::from_utf8_lossy(&self.body);
            command.push_str(&format!(" \\\n  --data-binary {}", quoted(&body)));
        }
        command
    }
}

impl Agent {
    /// Sends what was prepared, by this agent or another.
    ///
    /// # Errors
    /// [`AgentError::NotWritten`] and [`AgentError::NotAnswered`].
    pub async fn send(&self, prepared: &Prepared) -> Result<Answer, AgentError> {
        Ok(self.client.send(prepared.request()?).await?)
    }
}

/// A word for a POSIX shell.
pub(crate) fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

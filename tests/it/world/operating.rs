//! What operators ask: requests to the admin listener, and the commands of the binary.

use std::net::SocketAddr;
use std::process::{Command, Output};

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::World;

/// An answer of the admin listener.
#[derive(Debug)]
pub struct Told {
    pub status: u16,
    pub head: String,
    /// What is no JSON is a string.
    pub body: Value,
}

impl Told {
    pub fn code(&self) -> &str {
        self.body["code"].as_str().unwrap_or_default()
    }
}

/// Sends a request to an admin listener.
pub async fn ask_admin(
    admin: SocketAddr,
    credential: Option<&str>,
    request: &str,
    body: Option<&Value>,
) -> Told {
    let body = body.map_or(String::new(), Value::to_string);
    let bearer = credential.map_or(String::new(), |text| format!("authorization: Bearer {text}\r\n"));
    let length = body.len();
    let text = format!(
        "{request} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n{bearer}content-length: {length}\r\n\r\n{body}"
    );
    let mut stream = TcpStream::connect(admin).await.unwrap();
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let said = if body.is_empty() { Value::Null } else { Value::from(body) };
    Told { status, head: head.to_ascii_lowercase(), body: serde_json::from_str(body).unwrap_or(said) }
}

impl World {
    /// Asks the admin listener as the operator.
    pub async fn operate(&self, request: &str, body: Option<Value>) -> Told {
        ask_admin(self.app().admin_address(), Some(self.operator.expose()), request, body.as_ref()).await
    }

    /// Runs a command of the binary, with the world's configuration as its file and the operator's
    /// credential in its environment. `{config}` and `{admin}` in arguments are filled in.
    pub async fn run(&self, arguments: &[&str]) -> Output {
        let config = self.directory.path().join("operators.toml");
        std::fs::write(&config, &self.text).unwrap();
        let admin = self.app.as_ref().map_or(String::new(), |app| app.admin_address().to_string());
        let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
        command.env("COUNTERSIGN_OPERATOR_CREDENTIAL", self.operator.expose());
        for argument in arguments {
            command.arg(argument.replace("{config}", config.to_str().unwrap()).replace("{admin}", &admin));
        }
        tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
    }
}

/// What a command printed and whether it was content.
pub fn told(output: &Output) -> (bool, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.success(), text(&output.stdout), text(&output.stderr))
}

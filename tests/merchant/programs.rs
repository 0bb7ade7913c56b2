//! The two programs a merchant copies, and a request in the form they read. Apart from the cases
//! because it runs programs of other languages.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tempfile::TempDir;

/// Debian's own Python, which sees Debian's packages; another may stand before it in `PATH`.
const PROGRAMS: [(&str, &str); 2] = [("/usr/bin/python3", "verify.py"), ("node", "verify.mjs")];

/// A request as a merchant received it. Names of headers are lower-case.
#[derive(Clone)]
pub struct Request {
    pub method: String,
    pub target_uri: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Request {
    /// The value of a header that is there.
    pub fn header(&mut self, name: &str) -> &mut String {
        let found = self.headers.iter_mut().find(|(field, _)| field == name);
        &mut found.unwrap_or_else(|| panic!("{name} is missing")).1
    }

    /// The names of the components its signature covers.
    pub fn covered(&self) -> Vec<String> {
        let (_, input) = self.headers.iter().find(|(name, _)| name == "signature-input").unwrap();
        let list = input.split(['(', ')']).nth(1).unwrap();
        list.split(' ').map(|name| name.trim_matches('"').to_owned()).collect()
    }

    fn to_json(&self) -> Value {
        json!({
            "method": self.method,
            "target_uri": self.target_uri,
            "headers": self.headers,
            "body_base64": STANDARD.encode(&self.body),
        })
    }
}

/// Both programs, at one merchant, at one time.
pub struct Programs {
    directory: TempDir,
    merchant: String,
    now: i64,
}

impl Programs {
    pub fn new(jwks: &Value, merchant: &str, now: i64) -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("jwks.json"), jwks.to_string()).unwrap();
        Self { directory, merchant: merchant.to_owned(), now }
    }

    /// The same at another time.
    pub fn at(&self, now: i64) -> Self {
        let jwks = fs::read(self.directory.path().join("jwks.json")).unwrap();
        Self::new(&serde_json::from_slice(&jwks).unwrap(), &self.merchant, now)
    }

    /// What is vouched for, or the check that failed: the same from both.
    pub fn judge(&self, request: &Request) -> Result<Value, String> {
        fs::write(self.directory.path().join("request.json"), request.to_json().to_string()).unwrap();
        let [python, node] = PROGRAMS.map(|(interpreter, program)| self.run(interpreter, program));
        assert_eq!(python, node, "the programs disagree");
        python
    }

    fn run(&self, interpreter: &str, program: &str) -> Result<Value, String> {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/merchant").join(program);
        let output = Command::new(interpreter)
            .arg(path)
            .args(["request.json", "jwks.json", &self.merchant, &self.now.to_string()])
            .current_dir(self.directory.path())
            .output()
            .unwrap_or_else(|error| panic!("{interpreter}: {error}; tests/run installs what is missing"));
        let (said, complaint) = (text(output.stdout), text(output.stderr));
        if output.status.success() {
            let context = said.strip_prefix("ok ").unwrap_or_else(|| panic!("{program} said {said:?}"));
            return Ok(serde_json::from_str(context).unwrap());
        }
        assert_eq!(said, "", "{program} refused and said more");
        let refusal = complaint.strip_prefix("refused: ").filter(|_| output.status.code() == Some(1));
        let refusal = refusal.unwrap_or_else(|| {
            panic!("{program} failed; tests/run installs the packages it needs\n{complaint}")
        });
        Err(refusal.split_once(": ").unwrap().0.to_owned())
    }
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap()
}

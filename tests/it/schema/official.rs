//! The official files: where they are, what is wrong with them, and whether an answer agrees.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use countersign::acp::problem::DELEGATE_PAYMENT_CODES;
use countersign::acp::version::Version;
use countersign::quickstart::agent::{Agent, Call, Prepared};
use countersign::quickstart::client::Answer;
use jsonschema::Validator;
use parking_lot::Mutex;
use serde_json::{Value, json};

/// The two families of official files this gateway answers in.
pub const CHECKOUT: &str = "agentic_checkout";
pub const DELEGATE_PAYMENT: &str = "delegate_payment";

/// The directory of the official files; none when it is not named.
pub fn directory() -> Option<&'static Path> {
    static DIRECTORY: LazyLock<Option<PathBuf>> =
        LazyLock::new(|| std::env::var_os("ACP_SPEC_DIR").map(PathBuf::from));
    DIRECTORY.as_deref()
}

/// The directory, or a printed reason to skip.
pub fn directory_or_say() -> Option<&'static Path> {
    if directory().is_none() {
        println!("skipped: ACP_SPEC_DIR is not set");
    }
    directory()
}

/// One official file.
pub fn load(directory: &Path, path: &str) -> Value {
    let path = directory.join(path);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap()
}

/// Sends a call. Whatever the gateway says of itself must agree with the schema of the call's
/// version, where the official files are at hand.
pub async fn ask(agent: &Agent, call: Call<'_>) -> Answer {
    ask_prepared(agent, &call.prepare().unwrap()).await
}

/// As [`ask`], for a call that may be sent more than once.
pub async fn ask_prepared(agent: &Agent, call: &Prepared) -> Answer {
    let answer = agent.send(call).await.unwrap();
    judge(call, &answer);
    answer
}

/// Judges an answer by what was asked.
pub fn judge(call: &Prepared, answer: &Answer) {
    let Some(directory) = directory() else { return };
    let named = call.headers.get("api-version").and_then(|text| Version::parse(text.to_str().ok()?));
    let version = named.unwrap_or(Version::LATEST);
    let family = if call.path.ends_with("/delegate_payment") { DELEGATE_PAYMENT } else { CHECKOUT };
    let what = || format!("{} {} in {version}, {}", call.method, call.path, answer.status);
    if !answer.status.is_success() {
        let mut error = answer.json();
        if version < Version::V2026_04_17 {
            // Demanded by the RFC's text in all versions, in the schema since 2026-04-17.
            error.as_object_mut().unwrap().remove("supported_versions");
        }
        assert_valid(&validator(directory, version, family, "Error"), &error, &what());
        if let Some(param) = error.get("param") {
            assert!(param.as_str().unwrap().starts_with('$'), "{}: {param} is no JSONPath", what());
        }
    } else if family == DELEGATE_PAYMENT {
        let schema = validator(directory, version, family, "DelegatePaymentResponse");
        assert_valid(&schema, &answer.json(), &what());
    }
}

/// What does not agree fails the test with every reason.
pub fn assert_valid(validator: &Validator, instance: &Value, what: &str) {
    let errors: Vec<String> = validator.iter_errors(instance).map(|error| error.to_string()).collect();
    assert!(errors.is_empty(), "{what}: {instance}: {errors:?}");
}

/// One definition of an official bundle, built once.
pub fn validator(directory: &Path, version: Version, family: &'static str, name: &str) -> Arc<Validator> {
    type Built = HashMap<(Version, &'static str, String), Arc<Validator>>;
    static BUILT: LazyLock<Mutex<Built>> = LazyLock::new(Mutex::default);
    let mut built = BUILT.lock();
    let key = (version, family, name.to_owned());
    Arc::clone(built.entry(key).or_insert_with(|| Arc::new(build(directory, version, family, name))))
}

/// All versions share one `$id`, and 2025-09-29 has a boolean `exclusiveMinimum` ("File defects"):
/// the first is dropped, the second mended.
fn build(directory: &Path, version: Version, family: &str, name: &str) -> Validator {
    let mut bundle = load(directory, &format!("spec/{version}/json-schema/schema.{family}.json"));
    mend(&mut bundle);
    let mut definitions = bundle["$defs"].take();
    if family == DELEGATE_PAYMENT {
        // The closed list with its extras (`src/acp/README.md`, "Errors").
        definitions["Error"]["properties"]["code"]["enum"] = json!(DELEGATE_PAYMENT_CODES);
    }
    let schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$defs": definitions, "$ref": format!("#/$defs/{name}")
    });
    jsonschema::options().should_validate_formats(true).build(&schema).unwrap()
}

fn mend(value: &mut Value) {
    match value {
        Value::Object(object) => {
            if object.get("exclusiveMinimum") == Some(&Value::Bool(true)) {
                object.insert("exclusiveMinimum".into(), json!(0));
                object.remove("minimum");
            }
            object.values_mut().for_each(mend);
        }
        Value::Array(elements) => elements.iter_mut().for_each(mend),
        _ => {}
    }
}

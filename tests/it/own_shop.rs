//! A gateway around a shop of somebody's own: `init`, and `quickstart --merchant`.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::conformance::{LATE, MENDED, PythonShop, REDEEMER};
use crate::world::child::free_port;
use crate::world::told;

fn countersign(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
    command.args(arguments).env("REDEEMER", REDEEMER).env("SHOP", "any").stdin(Stdio::null());
    command
}

/// A shop as it should be, as far as keys go.
fn mended() -> String {
    std::fs::read_to_string("tests/merchant/first_shop.py").unwrap().replacen(LATE, MENDED, 1)
}

#[test]
fn a_quickstart_buys_at_a_shop_of_yours_and_tells_each_step() {
    let directory = tempfile::tempdir().unwrap();
    let (certificates, ledger) = (directory.path().join("dev"), directory.path().join("ledger"));
    let listen = free_port();
    let gateway = format!("https://localhost:{}", listen.port());
    let shop = PythonShop::start(&mended(), &gateway, Some(&certificates.join("ca.pem")), &ledger);
    let buy = |url: &str| {
        let listen = listen.to_string();
        let references = ["--credential", "env:SHOP", "--redeemer-credential", "env:REDEEMER"];
        let mut command = countersign(&["quickstart", "--once", "--merchant", url, "--listen", &listen]);
        command.arg("--certificates").arg(&certificates).args(references);
        told(&command.output().unwrap())
    };
    let (came_true, out, err) = buy(&shop.url);
    assert!(came_true, "{out}{err}");
    // Its lines are broken where a terminal ends.
    let out = out.split_whitespace().collect::<Vec<_>>().join(" ");
    for said in ["The shop says $79.00", "takes the order ord_", "the same answer comes back"] {
        assert!(out.contains(said), "{said}: {out}");
    }
    assert!(!out.contains("4242424242424242") && !out.contains(REDEEMER), "{out}");
    assert_eq!(std::fs::read_to_string(&ledger).unwrap().lines().count(), 1, "charged once");
    // A shop that is not there is told of, and is no success.
    let (came_true, out, _) = buy(&format!("http://{}", free_port()));
    assert!(!came_true && out.contains("merchant_unreachable"), "{out}");
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_first_configuration_is_whole_private_and_never_replaced() {
    let parent = tempfile::tempdir().unwrap();
    let directory = parent.path().join("gateway");
    let file = directory.join("countersign.toml");
    let init = |more: &[&str]| {
        let mut command = countersign(&["init", "--merchant-url", "http://localhost:3000", "--directory"]);
        told(&command.arg(&directory).args(more).output().unwrap())
    };
    let (refused, _, err) = init(&["--merchant", "no merchant"]);
    assert!(!refused && err.contains("--merchant") && !file.exists(), "{err}");
    let (written, out, err) = init(&["--merchant", "lamps", "--agent", "shopper"]);
    assert!(written, "{err}");
    for name in ["lamps.credential", "redeemer.credential", "shopper.pem", "operator.credential", "ca.pem"] {
        assert!(out.contains(name), "{name}: {out}");
    }
    let checked = told(&countersign(&["check", "--config"]).arg(&file).output().unwrap());
    assert!(checked.0 && checked.1.contains("the configuration is fine: 1 agent, 1 merchant"), "{checked:?}");
    assert_eq!(mode(&directory), 0o700);
    for entry in std::fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path()) {
        assert!(entry.is_dir() || mode(&entry) == 0o600, "{entry:?}");
    }
    // Whoever asks again keeps what there is.
    let before = std::fs::read_to_string(&file).unwrap();
    let (again, _, err) = init(&[]);
    assert!(!again && err.contains("left alone"), "{err}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), before);
    assert!(before.contains("id = \"lamps\"") && before.contains("id = \"shopper\""), "{before}");
}

#[test]
fn a_first_configuration_serves_and_its_doctor_knows_who_is_missing() {
    let directory = tempfile::tempdir().unwrap();
    let [listen, admin, shop] = [(); 3].map(|()| free_port().to_string());
    let home = directory.path().join("gateway");
    let url = format!("http://{shop}");
    let mut command = countersign(&["init", "--merchant-url", &url, "--listen", &listen]);
    command.args(["--admin-listen", &admin, "--host", &format!("localhost:{}", &listen[10..])]);
    assert!(told(&command.arg("--directory").arg(&home).output().unwrap()).0);
    let file = home.join("countersign.toml");
    let (well, out, _) = told(&countersign(&["doctor", "--config"]).arg(&file).output().unwrap());
    assert!(!well && out.contains("FAULT    merchant shop"), "{out}");
    assert_eq!(out.matches("FAULT").count(), 1, "{out}");
}

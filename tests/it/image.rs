//! The image that `deploy/Dockerfile` makes: what is in it, and a purchase through it.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::world::child::Gateway;
use crate::world::*;

/// The user in the image.
const NOBODY: &str = "65532";
/// Where the image has room for what is kept.
const STORE: &str = "directory = \"/var/lib/countersign/store\"\n\
    epoch_directory = \"/var/lib/countersign/epochs\"\nmin_free_bytes = \"16MiB\"";

/// Every file below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            files.extend(self::files(&entry.path()));
        } else {
            files.push(entry.path());
        }
    }
    files
}

/// The program, what it is linked to, and certificate authorities.
fn assert_nothing_else(root: &Path) {
    let files = files(root);
    let programs: Vec<&PathBuf> = files
        .iter()
        .filter(|file| !file.to_str().unwrap().contains("/lib"))
        .filter(|file| std::fs::metadata(file).unwrap().permissions().mode() & 0o111 != 0)
        .collect();
    assert_eq!(programs, [&root.join("usr/bin/countersign")], "another program");
    for file in &files {
        assert_eq!(std::fs::metadata(file).unwrap().permissions().mode() & 0o6000, 0, "{file:?}: setuid");
    }
    assert!(files.len() < 20, "{files:?}");
    let authorities = std::fs::read_to_string(root.join("etc/ssl/certs/ca-certificates.crt")).unwrap();
    assert!(authorities.matches("BEGIN CERTIFICATE").count() > 50);
}

fn assert_configured(config: &Value) {
    assert_eq!(config["User"], format!("{NOBODY}:{NOBODY}"));
    assert_eq!(config["StopSignal"], "SIGTERM");
    assert_eq!(config["Entrypoint"], serde_json::json!(["/usr/bin/countersign"]));
    assert_eq!(config["Cmd"], serde_json::json!(["serve", "--config", "/etc/countersign/countersign.toml"]));
    let labels = &config["Labels"];
    assert_eq!(labels["org.opencontainers.image.version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(labels["org.opencontainers.image.licenses"], env!("CARGO_PKG_LICENSE"));
}

/// What a shell does to become the gateway in the image: a mount of its own for what is kept and one for
/// the configuration, a root that is read-only, a user who owns nothing else.
fn in_the_image(root: &Path, world: &Path, kept: &Path) -> String {
    let (root, world, kept) = (root.display(), world.display(), kept.display());
    let mounts = format!(
        "mount --bind {root} {root}
         mount --bind {world} {root}/etc/countersign
         mount -o remount,ro,bind {root}/etc/countersign
         mount --bind {kept} {root}/var/lib/countersign
         mount -o remount,ro,bind {root}
         exec chroot --userspec={NOBODY}:{NOBODY} --groups= {root} /usr/bin/countersign serve \
           --config /etc/countersign/countersign.toml"
    );
    format!("chown -R {NOBODY}:{NOBODY} {world} {kept} && exec unshare --mount sh -euc '{mounts}'")
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root, buildah and mmdebstrap: tests/image/run"]
async fn a_purchase_through_the_image_by_nobody_on_a_root_that_is_read_only() {
    let built = tempfile::tempdir().unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/image/build");
    let status = Command::new(script).arg(env!("CARGO_BIN_EXE_countersign")).arg(built.path()).status();
    assert!(status.unwrap().success());
    let root = built.path().join("root");
    assert_nothing_else(&root);
    let image = std::fs::read_to_string(built.path().join("image.json")).unwrap();
    let image: Value = serde_json::from_str(&image).unwrap();
    assert_configured(&image["OCIv1"]["config"]);

    let mut world = World::closed(Options { store: Some(STORE.to_owned()), ..Options::default() }).await;
    let outside = world.directory.path().display().to_string();
    world.text = world.text.replace(&outside, "/etc/countersign");
    let kept = tempfile::tempdir().unwrap();
    let script = in_the_image(&root, world.directory.path(), kept.path());
    let mut gateway = Gateway::start_through(&mut world, script).await;

    let alpha = world.alpha();
    let (session, total) = create(&alpha, "lamps").await;
    let token = mint(&alpha, "lamps", &session, GOOD_CARD, total).await;
    let answer = complete(&alpha, "lamps", &session, &token).await;
    assert_eq!((answer.status.as_u16(), answer.text("/status").as_deref()), (200, Some("completed")));
    assert_eq!(world.lamps.charges().len(), 1);

    let about = |what: &str| std::fs::read_to_string(format!("/proc/{}/{what}", gateway.id())).unwrap();
    let status = about("status");
    assert!(status.contains(&format!("\nUid:\t{NOBODY}\t{NOBODY}\t{NOBODY}\t{NOBODY}\n")), "{status}");
    assert!(status.contains("\nCapEff:\t0000000000000000\n"), "{status}");
    let mounts = about("mountinfo");
    let of_root = mounts.lines().find(|line| line.split(' ').nth(4) == Some("/")).expect(&mounts);
    assert_eq!(
        of_root.split(' ').nth(5).and_then(|options| options.split(',').next()),
        Some("ro"),
        "{mounts}"
    );

    gateway.terminate();
    assert!(gateway.exited(Duration::from_secs(60)).await.success());
}

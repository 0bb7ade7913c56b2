//! The quickstart as it is run.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn every_step_of_the_story_does_what_it_says() {
    let directory = tempfile::tempdir().unwrap();
    let arguments = QuickstartArgs {
        once: true,
        certificates: directory.path().join("dev"),
        own: OwnShopArgs::default(),
    };
    let mut out = Vec::new();
    let came_true = run(&arguments, Path::new("countersign"), &mut out).await.unwrap();
    let text = String::from_utf8(out).unwrap();
    assert!(came_true, "{text}");
    for said in ["= $100.32", "signature_replayed", "amount_exceeds_allowance", "All "] {
        assert!(text.contains(said), "{said}: {text}");
    }
    assert!(!text.contains("4242424242424242"), "no card is printed");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_commands_it_suggests_can_be_pasted() {
    let [certificates, workspace] = [(), ()].map(|()| tempfile::tempdir().unwrap());
    let town = Town::open(workspace.path(), certificates.path()).await.unwrap();
    let mut out = Vec::new();
    town.suggest(&mut Narrator::new(&mut out), Path::new("certs/dev"), Path::new("countersign")).unwrap();
    let text = String::from_utf8(out).unwrap();
    assert!(text.contains("--cacert certs/dev/ca.pem -X POST 'https://localhost:"), "{text}");
    assert!(text.contains("-H 'signature-input: sig1="), "{text}");
    town.app.shutdown().await;
}

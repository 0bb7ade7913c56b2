//! A rollout as a Deployment makes it, by the numbers of the manifests, and the guide's page about it.

use super::*;

fn document(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).expect(path)
}

/// The seconds that a manifest states.
fn seconds(manifest: &str, before: &str) -> Duration {
    let (_, rest) = manifest.split_once(before).expect(before);
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    Duration::from_secs(digits.parse().expect(before))
}

/// The commands of the guide's page, in its order.
fn commands_of_the_guide() -> Vec<String> {
    let guide = document("deploy/redis.md");
    let (_, page) = guide.split_once("\n## Upgrade replicas one at a time\n").unwrap();
    let (page, _) = page.split_once("\n## ").unwrap();
    let quoted = page.split('`').skip(1).step_by(2);
    quoted.filter_map(|words| words.strip_prefix("countersign ")).map(str::to_owned).collect()
}

impl Town {
    async fn say(&self, command: &str) -> String {
        let admin = self.serving[0].0.admin.to_string();
        let command = command.replace("countersign.toml", "{config}");
        let mut arguments: Vec<&str> = command.split(' ').collect();
        if !command.contains("--config") {
            arguments.extend(["--config", "{config}"]);
        }
        arguments.extend(["--admin", &admin]);
        let (whole, out, error) = told(&self.world.run(&arguments).await);
        assert!(whole, "{command}: {out}{error}");
        out
    }

    /// One comes and is ready; then the one that has served the longest goes.
    async fn surge(&mut self, script: &str, before_signal: Duration, grace: Duration) {
        self.start_one(script).await;
        let (mut gateway, place) = self.serving.remove(0);
        self.world.meet(self.serving[0].0.public);
        // Whoever is connected sends on, and is not refused, until the signal comes.
        let until = Instant::now() + before_signal;
        while Instant::now() < until {
            self.fleet.buys_more(&mut self.buyers).await;
        }
        place.leaves.store(true, Ordering::Relaxed);
        gateway.terminate();
        let status = gateway.exited(grace - before_signal).await;
        assert!(status.success(), "{status:?} {}", gateway.log());
        place.left.store(true, Ordering::Relaxed);
        self.fleet.buys_more(&mut self.buyers).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_is_rolled_without_a_refusal_but_a_drains_and_converted_as_the_guide_says() {
    let deployment = document("deploy/kubernetes/overlays/redis/deployment.yaml");
    assert!(deployment.contains("{maxUnavailable: 0, maxSurge: 1}"), "one comes, then one goes");
    let pod = document("deploy/kubernetes/pod/pod.yaml");
    let grace = seconds(&pod, "terminationGracePeriodSeconds: ");
    let before_signal = seconds(&pod, "sleep: {seconds: ");
    let Opening { server: _server, mut town, .. } = Town::open("").await;
    town.fleet.buys_more(&mut town.buyers).await;
    for _ in 0..2 {
        town.surge(OURS, before_signal, grace).await;
    }
    let commands = commands_of_the_guide();
    let [replicas, convert] = commands.as_slice() else { panic!("{commands:?}") };
    // Both live, and what the release before reads is written still.
    let listed = town.say(replicas).await;
    for (gateway, _) in &town.serving {
        assert!(gateway.log().contains("older_formats_written"), "{}", gateway.log());
    }
    assert!(listed.contains("formats written 1"), "{listed}");
    let converted = town.say(convert).await;
    assert!(converted.contains("in formats 3 from now on"), "{converted}");
    assert!(town.say(replicas).await.contains("formats written 3"));
    town.fleet.buys_more(&mut town.buyers).await;
    town.surge(OURS, before_signal, grace).await;
    town.fleet.stop.store(true, Ordering::Relaxed);
    while let Some(ended) = town.buyers.join_next().await {
        ended.unwrap();
    }
    let bought = std::mem::take(&mut *town.fleet.bought.lock().unwrap());
    let paid = bought.iter().filter(|bought| bought.status.as_deref() == Some("completed"));
    let paid: HashSet<String> = paid.map(|bought| bought.session.clone()).collect();
    let charges = town.world.lamps.charges();
    let charged: HashSet<String> = charges.iter().map(|charge| charge.session.clone()).collect();
    assert_eq!((charges.len(), &charged), (paid.len(), &paid), "each that was told of, once");
}

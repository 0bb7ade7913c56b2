//! The servers of a shared store: what they are, what they keep, and what time it is there.

use super::clocks;
use super::finding::{Finding, Subject};
use crate::domain::clock::{Clock, SystemClock};
use crate::storage::{Engine, EpochPlace, NodeAddress, RedisSettings, Said, probe, probe_volatile};

/// Looks at each server; nothing where records are in a directory.
pub(super) async fn servers(engine: &Engine) -> Vec<Finding> {
    let Engine::Redis { settings, epochs } = engine else { return Vec::new() };
    let probed = probe(settings).await;
    let primaries = probed.iter().filter(|(_, said)| said.as_ref().is_ok_and(|said| said.is_primary)).count();
    let store: Vec<String> =
        probed.iter().filter_map(|(_, said)| Some(said.as_ref().ok()?.run_id.clone())).collect();
    let mut findings: Vec<Finding> = probed.into_iter().flat_map(server).collect();
    if let EpochPlace::Servers(servers) = epochs {
        findings.extend(epoch_servers(servers, &store).await);
    }
    if primaries == 0 {
        let store = Subject("store".to_owned());
        findings.push(store.faulty("primary", "none of the nodes says that it is one"));
    }
    findings
}

fn server((node, said): (NodeAddress, Result<Said, String>)) -> Vec<Finding> {
    let subject = Subject(format!("store {node}"));
    let said = match said {
        Ok(said) => said,
        Err(why) => return vec![subject.faulty("answers", why)],
    };
    let role = if said.is_primary { "a primary" } else { "a replica" };
    let fitness = match &said.unfit {
        Some(why) => subject.faulty("fitness", why.to_string()),
        None => subject.good("fitness", format!("Redis {}, {role}", said.version)),
    };
    let (used, most) = said.memory;
    let told = format!("{} MiB in use, {} MiB may be", used >> 20, most >> 20);
    let memory = match most {
        0 => subject.good("memory", format!("{} MiB in use, no bound of its own", used >> 20)),
        // `noeviction` refuses what is written once it is full.
        _ if used >= most => subject.faulty("memory", told),
        _ if used > most / 5 * 4 => subject.doubtful("memory", told),
        _ => subject.good("memory", told),
    };
    let clock = clocks::compared(&subject, said.clock, SystemClock.now(), said.took);
    vec![fitness, memory, clock]
}

/// The servers of the hourly keys: each must forget all it holds when it ends, and none may serve the store.
async fn epoch_servers(servers: &RedisSettings, store: &[String]) -> Vec<Finding> {
    let found = probe_volatile(servers).await.into_iter().map(|(node, said)| {
        let subject = Subject(format!("hourly keys {node}"));
        match said {
            Err(why) => subject.faulty("fitness", why),
            Ok(run_id) if store.contains(&run_id) => subject
                .faulty("fitness", "it serves the store, which is kept and copied: use a server of its own"),
            Ok(_) => subject.good("fitness", "keeps nothing on disk, has no replica and evicts nothing"),
        }
    });
    found.collect()
}

//! Who is verified with whom, who alone, and that each gets its own answer.

use std::future::Future as _;
use std::pin::pin;
use std::task::{Context, Waker};

use futures_util::future::join_all;

use super::*;
use crate::crypto::sign::{Algorithm, Checked, SigningKey};

const NOW: Timestamp = Timestamp::from_unix_seconds(1_000);

struct Scene {
    metrics: Arc<Metrics>,
    company: Company,
    key: SigningKey,
    good: AgentId,
    bad: AgentId,
}

impl Scene {
    fn new() -> Self {
        let metrics = Arc::new(Metrics::new().unwrap());
        Self {
            company: Company::new(Arc::clone(&metrics)),
            metrics,
            key: SigningKey::generate(Algorithm::Ed25519).unwrap().0,
            good: AgentId::parse("good").unwrap(),
            bad: AgentId::parse("bad").unwrap(),
        }
    }

    fn equation(&self, holds: bool) -> Equation {
        let signature = self.key.sign(b"message").unwrap();
        let message: &[u8] = if holds { b"message" } else { b"massage" };
        match self.key.public().check(message, &signature) {
            Checked::If(equation) => equation,
            Checked::Decided(_) => panic!("not decided by the curve"),
        }
    }

    /// All of them at one moment: whose it is, whether it is good.
    async fn judge(&self, now: Timestamp, requests: &[(&AgentId, bool)]) -> Vec<bool> {
        let judged = requests.iter().map(|(id, holds)| {
            let sender = Sender { id, now, has_company: requests.len() > 1 };
            self.company.judge(self.equation(*holds), sender)
        });
        join_all(judged).await
    }

    /// How many were computed alone, together, and again after a split.
    fn computed(&self) -> [u64; 3] {
        let text = self.metrics.encode();
        ["alone", "together", "split"].map(|how| {
            let name = format!("countersign_signatures_computed_total{{how=\"{how}\"}} ");
            text.lines().find_map(|line| line.strip_prefix(&name)).map_or(0, |count| count.parse().unwrap())
        })
    }
}

#[tokio::test]
async fn those_of_one_moment_are_computed_together() {
    let scene = Scene::new();
    assert_eq!(scene.judge(NOW, &[(&scene.good, true); 5]).await, [true; 5]);
    assert_eq!(scene.computed(), [0, 5, 0]);
}

#[tokio::test]
async fn with_no_other_request_under_way_nothing_is_waited_for() {
    let scene = Scene::new();
    let sender = Sender { id: &scene.good, now: NOW, has_company: false };
    let judged = pin!(scene.company.judge(scene.equation(true), sender));
    assert!(judged.poll(&mut Context::from_waker(Waker::noop())).is_ready());
    assert_eq!(scene.computed(), [1, 0, 0]);
}

#[tokio::test]
async fn who_finds_no_company_is_computed_once_the_others_have_run() {
    let scene = Scene::new();
    let sender = Sender { id: &scene.good, now: NOW, has_company: true };
    assert!(scene.company.judge(scene.equation(true), sender).await);
    assert_eq!(scene.computed(), [1, 0, 0]);
}

#[tokio::test]
async fn a_bad_one_among_good_ones_is_the_only_one_refused() {
    for place in 0..4 {
        let scene = Scene::new();
        let mut requests = [(&scene.good, true); 4];
        requests[place] = (&scene.bad, false);
        let verdicts: Vec<_> = (0..4).map(|at| at != place).collect();
        assert_eq!(scene.judge(NOW, &requests).await, verdicts);
        assert_eq!(scene.computed(), [0, 0, 4]);
    }
}

#[tokio::test]
async fn who_signed_badly_is_computed_alone_for_a_minute() {
    let scene = Scene::new();
    let requests = [(&scene.good, true), (&scene.bad, false), (&scene.good, true)];
    scene.judge(NOW, &requests).await;
    assert_eq!(scene.computed(), [0, 0, 3]);
    // Bad or good, and the others have their company.
    assert_eq!(scene.judge(NOW, &requests).await, [true, false, true]);
    assert_eq!(scene.computed(), [1, 2, 3]);
    let requests = [(&scene.good, true), (&scene.bad, true), (&scene.good, true)];
    let later = |seconds| NOW.plus(Duration::from_secs(seconds));
    assert_eq!(scene.judge(later(59), &requests).await, [true; 3]);
    assert_eq!(scene.computed(), [2, 4, 3]);
    assert_eq!(scene.judge(later(60), &requests).await, [true; 3]);
    assert_eq!(scene.computed(), [2, 7, 3]);
}

#[tokio::test]
async fn no_batch_is_longer_than_one_computation_takes() {
    let scene = Scene::new();
    let crowd = 3 * MOST_TOGETHER + 1;
    let mut requests = vec![(&scene.good, true); crowd];
    requests[20] = (&scene.bad, false);
    let verdicts: Vec<_> = (0..crowd).map(|at| at != 20).collect();
    assert_eq!(scene.judge(NOW, &requests).await, verdicts);
    // Only the batch of the bad one is split, and who came last was alone.
    let most = u64::try_from(MOST_TOGETHER).unwrap();
    assert_eq!(scene.computed(), [1, 2 * most, most]);
    assert!(scene.company.gathering.lock().joined.is_empty());
}

#[tokio::test]
async fn who_leaves_is_neither_computed_nor_waited_for() {
    let scene = Scene::new();
    let sender = Sender { id: &scene.bad, now: NOW, has_company: true };
    {
        let left = pin!(scene.company.judge(scene.equation(false), sender));
        assert!(left.poll(&mut Context::from_waker(Waker::noop())).is_pending());
    }
    assert_eq!(scene.judge(NOW, &[(&scene.good, true); 2]).await, [true; 2]);
    assert_eq!(scene.computed(), [0, 2, 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_several_threads_each_gets_its_own_answer() {
    let scene = Arc::new(Scene::new());
    let tasks = (0..400_u64).map(|number| {
        let scene = Arc::clone(&scene);
        tokio::spawn(async move {
            let holds = number % 7 != 0;
            let id = AgentId::parse(&format!("agent-{number}")).unwrap();
            let sender = Sender { id: &id, now: NOW, has_company: true };
            (scene.company.judge(scene.equation(holds), sender).await, holds)
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        let (judged, holds) = task.await.unwrap();
        assert_eq!(judged, holds);
    }
    assert_eq!(scene.computed().iter().sum::<u64>(), 400);
}

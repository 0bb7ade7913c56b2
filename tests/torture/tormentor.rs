//! What happens to gateways and their store while agents buy.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::buyers::Buyers;
use crate::dice::Dice;
use crate::merchants::KEYLESS;
use crate::store::{Disk, Engine, Store};

/// A fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Fault {
    /// `kill -9` for a gateway, which is started again, and sometimes killed while it starts.
    Kill,
    /// `kill -9` for all gateways.
    KillAll,
    /// A gateway is stopped (SIGSTOP) for longer or shorter than its leases last, and goes on.
    Pause,
    /// The embedded store's disk is full for a while.
    DiskFull,
    /// The store's primary is killed, a replica takes over, the old one comes back as its replica.
    Failover,
    /// A gateway is stopped for as long as a machine that stalls, and goes on.
    Stall,
    /// The wall clock of one gateway goes wrong by an hour, and is put right again.
    ClockStep,
    /// Every connection to the store is closed.
    Cut,
    /// Every connection to the store goes silent and stays open.
    Swallow,
    /// The store answers nothing for a moment.
    StorePause,
    /// A cluster's primary is silent until another has taken over, and wakes up before it knows.
    WakeLate,
    /// The store answers nothing for ten seconds.
    Outage,
    /// The store is restarted without what it held, and operators accept that.
    Empty,
}

/// How long an outage lasts.
const OUTAGE: Duration = Duration::from_secs(10);
/// How long it may take until gateways go on after operators have accepted an empty store.
const ACCEPTED_WITHIN: Duration = Duration::from_secs(30);
/// Hash slots of a cluster.
const SLOTS: u64 = 16_384;

impl Fault {
    /// What happens to an engine when nothing else is asked for, some of it more often.
    pub fn usual(engine: Engine) -> Vec<Self> {
        use Fault::{
            ClockStep, Cut, DiskFull, Failover, Kill, KillAll, Pause, StorePause, Swallow, WakeLate,
        };
        match engine {
            Engine::Embedded => vec![Kill, Kill, Kill, Kill, Kill, Pause, Pause, ClockStep, DiskFull],
            Engine::Redis => vec![
                Kill, Kill, KillAll, Pause, ClockStep, Failover, Failover, Cut, Swallow, Swallow, StorePause,
            ],
            Engine::Cluster => {
                vec![Kill, Kill, Kill, KillAll, Pause, Pause, ClockStep, Failover, Cut, Cut, Cut, WakeLate]
            }
        }
    }
}

/// The tormentor.
pub struct Tormentor {
    pub buyers: Buyers,
    pub kinds: Vec<Fault>,
    pub dice: Dice,
    /// How many stalls are among the faults, and how long each is.
    pub stalls: usize,
    pub stall: Duration,
    /// How many purchases may be begun by now.
    pub may_begin: Arc<AtomicUsize>,
    /// What was done, how often.
    pub done: BTreeMap<Fault, usize>,
}

impl Tormentor {
    /// Inflicts so many faults, spread over so many checkouts.
    pub async fn torment(&mut self, faults: usize, checkouts: usize) {
        let share = checkouts / (faults + 1);
        for number in 0..faults {
            // Enough for the fault to meet somebody, however long it lasts.
            self.may_begin.store(share * (number + 2), Ordering::Relaxed);
            let moment = share * number + self.dice.roll(share.max(1) as u64) as usize;
            while self.buyers.done.load(Ordering::Relaxed) < moment {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            let drawn = *self.dice.pick(&self.kinds);
            // Spread evenly: each takes its time.
            let stalled = self.done.get(&Fault::Stall).copied().unwrap_or_default();
            let is_due = stalled < self.stalls && number * (self.stalls + 1) >= (stalled + 1) * faults;
            let fault = if is_due { Fault::Stall } else { drawn };
            if self.inflict(fault).await {
                *self.done.entry(fault).or_default() += 1;
            }
            // Merchants redeem now here, now there.
            let gateway = self.dice.roll(self.buyers.town.agents.len() as u64) as usize;
            self.buyers.town.meet(gateway);
        }
        self.may_begin.store(checkouts, Ordering::Relaxed);
    }

    /// Whether it could be.
    async fn inflict(&mut self, fault: Fault) -> bool {
        let town = Arc::clone(&self.buyers.town);
        let slot = u16::try_from(self.dice.roll(SLOTS)).unwrap();
        match fault {
            Fault::Kill => {
                let gateways = town.agents.len() as u64;
                let which = self.dice.roll(gateways) as usize;
                self.kill(&[which]).await;
            }
            Fault::KillAll => self.kill(&(0..town.agents.len()).collect::<Vec<_>>()).await,
            Fault::Pause => {
                let time = Duration::from_millis(200 + self.dice.roll(5_000));
                self.stop_and_go(time).await;
            }
            Fault::Stall => self.stop_and_go(self.stall).await,
            Fault::ClockStep => {
                let which = self.dice.roll(town.agents.len() as u64) as usize;
                let seconds = *self.dice.pick(&[3_600, -3_600]);
                // Shorter than a clock has to stand to be believed, so that agents and gateway agree.
                let time = Duration::from_millis(500 + self.dice.roll(5_000));
                if !town.gateways.lock().await[which].set_clock_off(seconds) {
                    return false;
                }
                tokio::time::sleep(time).await;
                town.gateways.lock().await[which].set_clock_off(0);
            }
            Fault::DiskFull => {
                let Store::Embedded(disk) = &*town.store.lock().await else { return false };
                if !disk.can_fill() {
                    return false;
                }
                // Either so little that nothing is admitted, or so little that writes fail.
                let free = *self.dice.pick(&[0, 64 << 10, 8 << 20]);
                let time = Duration::from_millis(200 + self.dice.roll(1_500));
                disk.fill(free, time).await;
            }
            Fault::Failover => {
                let alone = Duration::from_millis(self.dice.roll(2) * self.dice.roll(500));
                let mut store = town.store.lock().await;
                tokio::task::block_in_place(|| store.fail_over(slot, alone));
            }
            Fault::Cut => {
                let store = town.store.lock().await;
                tokio::task::block_in_place(|| store.cut());
            }
            Fault::Swallow => return town.store.lock().await.swallow(),
            Fault::StorePause => {
                let time = Duration::from_millis(200 + self.dice.roll(2_500));
                town.store.lock().await.pause(time).await;
            }
            Fault::Outage => town.store.lock().await.pause(OUTAGE).await,
            Fault::WakeLate => town.store.lock().await.wake_late(slot).await,
            Fault::Empty => {
                let mut store = town.store.lock().await;
                tokio::task::block_in_place(|| store.restart_empty());
                drop(store);
                self.accept().await;
            }
        }
        true
    }

    /// Stops a gateway for so long, and lets it go on.
    async fn stop_and_go(&mut self, time: Duration) {
        let town = Arc::clone(&self.buyers.town);
        let which = self.dice.roll(town.agents.len() as u64) as usize;
        town.gateways.lock().await[which].pause();
        tokio::time::sleep(time).await;
        town.gateways.lock().await[which].resume();
    }

    async fn kill(&mut self, which: &[usize]) {
        let town = Arc::clone(&self.buyers.town);
        let mut gateways = town.gateways.lock().await;
        // Somewhere within the next few requests.
        tokio::time::sleep(Duration::from_micros(self.dice.roll(20_000))).await;
        which.iter().for_each(|index| gateways[*index].kill());
        tokio::time::sleep(Duration::from_millis(self.dice.roll(300))).await;
        which.iter().for_each(|index| gateways[*index].start());
        if self.dice.chance(33) {
            tokio::time::sleep(Duration::from_millis(self.dice.roll(200))).await;
            which.iter().for_each(|index| gateways[*index].kill());
            which.iter().for_each(|index| gateways[*index].start());
        }
        for index in which {
            if let Err(problem) = gateways[*index].ready().await {
                self.buyers.notebook.odd(problem);
            }
        }
    }

    /// Operators accept that the store holds nothing any more, once a gateway has noticed.
    async fn accept(&self) {
        let header = format!("Authorization: Bearer {}\r\n", crate::town::OPERATOR);
        let end = Instant::now() + ACCEPTED_WITHIN;
        for gateway in self.buyers.town.gateways.lock().await.iter_mut() {
            let mut answer = None;
            while gateway.probe("/readyz").await != Some(200) {
                if Instant::now() > end {
                    let log = gateway.end_of_log();
                    self.buyers.notebook.odd(format!("a store was not accepted: {answer:?}\n{log}"));
                    return;
                }
                answer = gateway.ask("POST /store/accept", &header).await;
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

impl Tormentor {
    /// Makes the embedded store forget what it acknowledged between a third and two thirds of the
    /// checkouts: it is put back as it was, behind the gateway's back. Some pay meanwhile with what
    /// the store has from before, so that there is something to be charged for twice.
    pub async fn forget(&mut self, checkouts: usize) {
        const COPY: &str = "copy";
        const PAY_MEANWHILE: usize = 8;
        let buyers = self.buyers.clone();
        let mut waiting = Vec::new();
        let mut numbers = checkouts..checkouts + 10 * PAY_MEANWHILE;
        while waiting.len() < PAY_MEANWHILE {
            let number = numbers.next().expect("something can be bought");
            waiting.extend(buyers.fill_a_basket(number, KEYLESS).await);
        }
        self.may_begin.store(checkouts, Ordering::Relaxed);
        self.until_done(checkouts / 3).await;
        self.stopped(|disk| disk.copy(COPY)).await;
        for basket in waiting {
            basket.pay().await;
        }
        self.until_done(checkouts * 2 / 3).await;
        self.stopped(|disk| disk.restore(COPY)).await;
    }

    async fn until_done(&self, checkouts: usize) {
        while self.buyers.done.load(Ordering::Relaxed) < checkouts {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Kills the gateways, does something to the embedded store, and starts them.
    async fn stopped(&self, change: impl FnOnce(&Disk)) {
        let mut gateways = self.buyers.town.gateways.lock().await;
        gateways.iter_mut().for_each(crate::gateway::Gateway::kill);
        if let Store::Embedded(disk) = &*self.buyers.town.store.lock().await {
            change(disk);
        }
        for gateway in gateways.iter_mut() {
            gateway.start();
            gateway.ready().await.unwrap_or_else(|problem| panic!("{problem}"));
        }
    }
}

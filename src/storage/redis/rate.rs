//! Rate limits that all replicas share.

use std::time::Duration;

use redis::Value;

use super::RedisStore;
use super::call::Request;
use super::encoding::Bucket;
use super::script::Input;
use crate::limit::shared::{SharedLimit, SharedLimits, Taken};
use crate::records::BoxFuture;

impl SharedLimits for RedisStore {
    fn take<'a>(&'a self, limit: &'a SharedLimit, wanted: u32) -> BoxFuture<'a, Option<Taken>> {
        Box::pin(async move {
            let bucket = Bucket::of(&limit.name);
            let mut input = Input::default();
            input.key(&bucket.rate(&limit.name));
            input.argument(micros(limit.interval).as_bytes());
            input.number(limit.burst);
            input.number(wanted);
            let request = Request::Script { script: &self.shared.scripts.rate, input, waits: false };
            let answered = self.shared.call_once(bucket, &request).await?;
            let Value::Array(numbers) = answered else { return None };
            let [Value::Int(granted), Value::Int(left), Value::Int(wait)] = numbers.as_slice() else {
                return None;
            };
            Some(Taken {
                granted: u32::try_from(*granted).unwrap_or(0).min(wanted),
                remaining: u32::try_from(*left).unwrap_or(0),
                retry_after: Duration::from_micros(u64::try_from(*wait).unwrap_or(0)),
            })
        })
    }
}

/// In µs with three decimals.
fn micros(interval: Duration) -> String {
    let nanos = interval.as_nanos();
    format!("{}.{:03}", nanos / 1000, nanos % 1000)
}

//! The project's rate limit: a bucket that is refilled all the time (`facts/hetzner.md` 5).

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Response};
use serde_json::Value;

use crate::config::HetznerConfig;
use crate::context::Context;
use crate::reply::hetzner_error;

/// What is left of the requests.
#[derive(Debug)]
pub(crate) struct Bucket {
    filled: f64,
    at: Duration,
}

impl Bucket {
    pub(crate) fn new(config: &HetznerConfig) -> Self {
        Self::filled_at(Duration::ZERO, config)
    }

    /// A bucket that holds at this moment what the configuration says.
    pub(crate) fn filled_at(at: Duration, config: &HetznerConfig) -> Self {
        Self { filled: config.rate_remaining.unwrap_or(f64::from(config.rate_limit)), at }
    }

    /// Takes one request out, or refuses it.
    pub(crate) fn take(&mut self, cx: &Context, config: &HetznerConfig) -> Result<(), Box<Response<Bytes>>> {
        let limit = f64::from(config.rate_limit);
        let elapsed = cx.now.saturating_sub(self.at).as_secs_f64();
        let gain = limit / 3600.0 - config.foreign_requests_per_second;
        self.filled = (self.filled + elapsed * gain).clamp(0.0, limit);
        self.at = cx.now;
        if self.filled >= 1.0 {
            self.filled -= 1.0;
            return Ok(());
        }
        let message = format!("limit of {} requests per hour reached", config.rate_limit);
        Err(hetzner_error(429, "rate_limit_exceeded", &message, Value::Null).into())
    }

    /// The headers that every answer carries. The reset is when the bucket is *full* again.
    #[expect(clippy::cast_possible_truncation, reason = "counts of requests and seconds are small")]
    pub(crate) fn stamp(&self, cx: &Context, config: &HetznerConfig, response: &mut Response<Bytes>) {
        let limit = f64::from(config.rate_limit);
        let reset = cx.unix() + ((limit - self.filled) * 3600.0 / limit).ceil() as i64;
        let headers = [
            ("ratelimit-limit", i64::from(config.rate_limit)),
            ("ratelimit-remaining", self.filled.floor() as i64),
            ("ratelimit-reset", reset),
        ];
        for (name, value) in headers {
            response.headers_mut().insert(name, HeaderValue::from(value));
        }
    }
}

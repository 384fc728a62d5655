//! A way to the clouds on which answers are changed.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use provision_vm::transport::{Transport, TransportError};
use serde_json::Value;

use super::Cloud;

/// A way on which answers are changed.
pub struct Changed<F>(Cloud, F);

impl<F> Changed<F>
where
    F: Fn(&http::Request<Bytes>, &mut http::Response<Bytes>) + Send + Sync + 'static,
{
    pub fn way(cloud: Cloud, change: F) -> Arc<dyn Transport> {
        Arc::new(Self(cloud, change))
    }
}

impl<F: Fn(&http::Request<Bytes>, &mut http::Response<Bytes>) + Send + Sync + 'static> Transport for Changed<F> {
    fn exchange(&self, request: http::Request<Bytes>) -> BoxFuture<'_, Result<http::Response<Bytes>, TransportError>> {
        Box::pin(async move {
            let mut answer = self.0.exchange(request.clone()).await?;
            (self.1)(&request, &mut answer);
            Ok(answer)
        })
    }
}

/// Changes an answer that is JSON.
pub fn change_json(answer: &mut http::Response<Bytes>, change: impl FnOnce(&mut Value)) {
    if let Ok(mut json) = serde_json::from_slice::<Value>(answer.body()) {
        change(&mut json);
        *answer.body_mut() = serde_json::to_vec(&json).unwrap().into();
    }
}

//! The routes of the admin socket: how a request is read, and how it is answered.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{Method, Response, StatusCode};
use axum::routing::{MethodRouter, get, post};
use axum::{Extension, Router};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::Serialize;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::answer::{json, json_text};
use crate::control::GatewayControl;
use crate::error::AdminError;
use crate::upgrade_request::UpgradeRequest;

/// The description of all routes by `OpenAPI` 3.1. A test makes it from the types.
const OPENAPI: &str = include_str!("../openapi.json");
/// Time limit for the body of a request: 5 s.
const BODY: Duration = Duration::from_secs(5);
/// Size limit of a request's body: 64 KiB.
const LONGEST: usize = 64 << 10;

/// The process at the other end of the socket, as the kernel names it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer {
    pub(crate) user: u32,
}

/// Returns the routes, with handlers that ask `gateway`.
pub(crate) fn router<G: GatewayControl>(gateway: Arc<G>) -> Router {
    Router::new()
        .route("/status", read(G::status))
        .route("/groups", read(G::groups))
        .route("/upstreams", read(G::upstreams))
        .route("/clients", read(G::clients))
        .route("/openapi.json", get(openapi))
        .route("/upgrade", post(upgrade::<G>))
        .fallback(async || AdminError::Unknown)
        .method_not_allowed_fallback(async |method: Method| AdminError::Method(method))
        .with_state(gateway)
}

async fn openapi() -> Response<Body> {
    json_text(StatusCode::OK, OPENAPI)
}

/// Returns the handler of a read. It runs on a thread of its own: a list of many clients takes
/// longer than other tasks of the thread that serves the socket should wait.
fn read<G: GatewayControl, T: Serialize + 'static>(ask: fn(&G) -> T) -> MethodRouter<Arc<G>> {
    get(async move |State(gateway): State<Arc<G>>| {
        let answer = spawn_blocking(move || json(StatusCode::OK, &ask(&gateway)));
        answer.await.map_err(|_| AdminError::Failed)
    })
}

async fn upgrade<G: GatewayControl>(
    State(gateway): State<Arc<G>>,
    Extension(Peer { user }): Extension<Peer>,
    body: Body,
) -> Result<Response<Body>, AdminError> {
    // The program that a request names runs as the gateway's user.
    if !may_change(user) {
        return Err(AdminError::Forbidden(user));
    }
    let body = timeout(BODY, collect(body))
        .await
        .map_err(|_| AdminError::Slow(BODY))??;
    let request = if body.is_empty() {
        UpgradeRequest::default()
    } else {
        serde_json::from_slice(&body).map_err(|error| AdminError::Body(error.to_string()))?
    };
    let upgraded = gateway.upgrade(request).await?;
    Ok(json(StatusCode::OK, &upgraded))
}

async fn collect(body: Body) -> Result<Bytes, AdminError> {
    let collected = Limited::new(body, LONGEST).collect().await;
    let collected = collected.map_err(|error| {
        AdminError::Body(if error.is::<LengthLimitError>() {
            format!("it is longer than {LONGEST} bytes")
        } else {
            error.to_string()
        })
    });
    Ok(collected?.to_bytes())
}

fn may_change(user: u32) -> bool {
    user == 0 || user == rustix::process::geteuid().as_raw()
}

//! The recipe's own framework: its session_auth recipe, with the settings that it shows and the store that is asked for.

use rustapi_rs::extras::session::{
    MemorySessionStore, RedisSessionStore, Session, SessionConfig, SessionLayer, SessionStore,
};
use rustapi_rs::prelude::*;
use std::time::Duration;

#[derive(Debug, Deserialize, Schema)]
struct LoginRequest {
    user_id: String,
}

#[derive(Debug, Serialize, Schema)]
struct SessionView {
    authenticated: bool,
    user_id: Option<String>,
    refreshed: bool,
    session_id: Option<String>,
}

async fn session_view(session: &Session) -> SessionView {
    let user_id = session.get::<String>("user_id").await.ok().flatten();
    let refreshed = session.get::<bool>("refreshed").await.ok().flatten().unwrap_or(false);
    SessionView {
        authenticated: user_id.is_some(),
        user_id,
        refreshed,
        session_id: session.id().await,
    }
}

async fn login(session: Session, Json(payload): Json<LoginRequest>) -> Json<SessionView> {
    session.cycle_id().await;
    session.insert("user_id", &payload.user_id).await.expect("session insert");
    session.insert("refreshed", false).await.expect("session insert");
    Json(session_view(&session).await)
}

async fn me(session: Session) -> Json<SessionView> {
    Json(session_view(&session).await)
}

async fn refresh(session: Session) -> Json<SessionView> {
    if session.contains("user_id").await {
        session.cycle_id().await;
        session.insert("refreshed", true).await.expect("session insert");
    }
    Json(session_view(&session).await)
}

async fn logout(session: Session) -> NoContent {
    session.destroy().await;
    NoContent
}

async fn serve<S: SessionStore + 'static>(
    store: S,
) -> std::result::Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let config = SessionConfig::new()
        .cookie_name("rustapi_auth")
        .secure(false)
        .ttl(Duration::from_secs(60 * 30));
    RustApi::new()
        .layer(SessionLayer::new(store, config))
        .route("/auth/login", post(login))
        .route("/auth/me", get(me))
        .route("/auth/refresh", post(refresh))
        .route("/auth/logout", post(logout))
        .run(&std::env::var("PEER_LISTEN")?)
        .await
}

#[tokio::main]
async fn main() -> std::result::Result<(), Box<dyn std::error::Error + Send + Sync>> {
    match std::env::var("PEER_REDIS") {
        Ok(url) if !url.is_empty() => serve(RedisSessionStore::from_url(&url)?).await,
        _ => serve(MemorySessionStore::new()).await,
    }
}

//! tower-sessions on axum: sessions that end 30 minutes after the last change, its own stores.

use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use tower_sessions::cookie::SameSite;
use tower_sessions::session_store::SessionStore;
use tower_sessions::{Expiry, MemoryStore, Session, SessionManagerLayer};
use tower_sessions_redis_store::{RedisStore, fred::prelude::*};

#[derive(Deserialize)]
struct LoginRequest {
    user_id: String,
}

#[derive(Serialize)]
struct View {
    authenticated: bool,
    user_id: Option<String>,
    refreshed: bool,
    session_id: Option<String>,
}

type Answer = Result<Json<View>, StatusCode>;

fn failed<E>(_: E) -> StatusCode {
    StatusCode::INTERNAL_SERVER_ERROR
}

async fn view(session: &Session) -> Answer {
    let user_id: Option<String> = session.get("user_id").await.map_err(failed)?;
    let refreshed: Option<bool> = session.get("refreshed").await.map_err(failed)?;
    let session_id = user_id.is_some().then(|| session.id().map(|id| id.to_string()));
    Ok(Json(View {
        authenticated: user_id.is_some(),
        user_id,
        refreshed: refreshed.unwrap_or(false),
        session_id: session_id.flatten(),
    }))
}

async fn login(session: Session, Json(request): Json<LoginRequest>) -> Answer {
    session.cycle_id().await.map_err(failed)?;
    session.insert("user_id", request.user_id).await.map_err(failed)?;
    session.insert("refreshed", false).await.map_err(failed)?;
    // Only a save gives a new session its ID, which the view shows.
    session.save().await.map_err(failed)?;
    view(&session).await
}

async fn me(session: Session) -> Answer {
    view(&session).await
}

async fn refresh(session: Session) -> Answer {
    let user_id: Option<String> = session.get("user_id").await.map_err(failed)?;
    if user_id.is_some() {
        session.cycle_id().await.map_err(failed)?;
        session.insert("refreshed", true).await.map_err(failed)?;
        session.save().await.map_err(failed)?;
    }
    view(&session).await
}

async fn logout(session: Session) -> Result<StatusCode, StatusCode> {
    session.flush().await.map_err(failed)?;
    Ok(StatusCode::NO_CONTENT)
}

async fn serve<S: SessionStore + Clone + 'static>(store: S) -> std::io::Result<()> {
    let sessions = SessionManagerLayer::new(store)
        .with_secure(false)
        .with_same_site(SameSite::Lax)
        .with_expiry(Expiry::OnInactivity(time::Duration::minutes(30)));
    let app = Router::new()
        .route("/auth/login", post(login))
        .route("/auth/me", get(me))
        .route("/auth/refresh", post(refresh))
        .route("/auth/logout", post(logout))
        .layer(sessions);
    let address = std::env::var("PEER_LISTEN").map_err(std::io::Error::other)?;
    axum::serve(tokio::net::TcpListener::bind(address).await?, app).await
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    match std::env::var("PEER_REDIS") {
        Ok(url) if !url.is_empty() => {
            let config = Config::from_url(&url).map_err(std::io::Error::other)?;
            // As many connections as the store's documentation shows.
            let pool = Pool::new(config, None, None, None, 6).map_err(std::io::Error::other)?;
            let _connection = pool.connect();
            pool.wait_for_connect().await.map_err(std::io::Error::other)?;
            serve(RedisStore::new(pool)).await
        }
        _ => serve(MemoryStore::default()).await,
    }
}

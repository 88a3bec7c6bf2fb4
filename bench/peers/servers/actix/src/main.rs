//! actix-session on actix-web: a persistent session of 30 minutes, extended when it changes (the crate's default).

mod memory;

use actix_session::config::{CookieContentSecurity, PersistentSession};
use actix_session::storage::{RedisSessionStore, SessionStore};
use actix_session::{Session, SessionMiddleware};
use actix_web::cookie::{Key, SameSite, time::Duration};
use actix_web::{App, HttpResponse, HttpServer, error::ErrorInternalServerError, web};
use rand::distr::{Alphanumeric, SampleString};
use serde::{Deserialize, Serialize};

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

fn view(session: &Session) -> actix_web::Result<web::Json<View>> {
    let user_id: Option<String> = session.get("user_id")?;
    Ok(web::Json(View {
        authenticated: user_id.is_some(),
        user_id,
        refreshed: session.get("refreshed")?.unwrap_or(false),
        session_id: session.get("session_id")?,
    }))
}

/// The crate does not tell a handler its session's key, so the ID that the view shows is a value of the session.
fn new_id() -> String {
    Alphanumeric.sample_string(&mut rand::rng(), 22)
}

async fn login(session: Session, request: web::Json<LoginRequest>) -> actix_web::Result<web::Json<View>> {
    session.renew();
    session.insert("user_id", &request.user_id)?;
    session.insert("refreshed", false)?;
    session.insert("session_id", new_id())?;
    view(&session)
}

async fn me(session: Session) -> actix_web::Result<web::Json<View>> {
    view(&session)
}

async fn refresh(session: Session) -> actix_web::Result<web::Json<View>> {
    if session.contains_key("user_id") {
        session.renew();
        session.insert("refreshed", true)?;
        session.insert("session_id", new_id())?;
    }
    view(&session)
}

async fn logout(session: Session) -> HttpResponse {
    session.purge();
    HttpResponse::NoContent().finish()
}

async fn serve<S: SessionStore + Clone + Send + 'static>(store: S, address: String) -> std::io::Result<()> {
    let key = Key::generate();
    HttpServer::new(move || {
        let sessions = SessionMiddleware::builder(store.clone(), key.clone())
            .cookie_secure(false)
            .cookie_same_site(SameSite::Lax)
            .cookie_content_security(CookieContentSecurity::Signed)
            .session_lifecycle(PersistentSession::default().session_ttl(Duration::minutes(30)))
            .build();
        App::new()
            .wrap(sessions)
            .route("/auth/login", web::post().to(login))
            .route("/auth/me", web::get().to(me))
            .route("/auth/refresh", web::post().to(refresh))
            .route("/auth/logout", web::post().to(logout))
    })
    .bind(address)?
    .run()
    .await
}

#[actix_web::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::var("PEER_LISTEN")?;
    match std::env::var("PEER_REDIS") {
        Ok(url) if !url.is_empty() => {
            let store = RedisSessionStore::new(url).await.map_err(ErrorInternalServerError)?;
            Ok(serve(store, address).await?)
        }
        _ => Ok(serve(memory::Memory::default(), address).await?),
    }
}

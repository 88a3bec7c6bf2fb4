//! actix-session ships a cookie store and a Redis store, but none in memory. This is the simplest possible memory store, so that the
//! memory table has a row for actix-session: the state as it is, no serialisation, no cleaning up.

use actix_session::storage::{LoadError, SaveError, SessionKey, SessionStore, UpdateError};
use actix_web::cookie::time::Duration;
use rand::distr::{Alphanumeric, SampleString};
use std::collections::HashMap;
use std::sync::{Arc, RwLock};
use std::time::Instant;

type State = HashMap<String, String>;

#[derive(Clone, Default)]
pub struct Memory(Arc<RwLock<HashMap<String, (State, Instant)>>>);

fn expiry(ttl: &Duration) -> Instant {
    Instant::now() + ttl.unsigned_abs()
}

impl SessionStore for Memory {
    async fn load(&self, key: &SessionKey) -> Result<Option<State>, LoadError> {
        let sessions = self.0.read().expect("lock");
        let found = sessions.get(key.as_ref());
        Ok(found.filter(|(_, end)| *end > Instant::now()).map(|(state, _)| state.clone()))
    }

    async fn save(&self, state: State, ttl: &Duration) -> Result<SessionKey, SaveError> {
        // As the crate's Redis store makes them.
        let text = Alphanumeric.sample_string(&mut rand::rng(), 64);
        let key = text.clone().try_into().map_err(|e| SaveError::Other(anyhow::Error::msg(format!("{e}"))))?;
        self.0.write().expect("lock").insert(text, (state, expiry(ttl)));
        Ok(key)
    }

    async fn update(&self, key: SessionKey, state: State, ttl: &Duration) -> Result<SessionKey, UpdateError> {
        self.0.write().expect("lock").insert(key.as_ref().to_owned(), (state, expiry(ttl)));
        Ok(key)
    }

    async fn update_ttl(&self, key: &SessionKey, ttl: &Duration) -> Result<(), anyhow::Error> {
        if let Some((_, end)) = self.0.write().expect("lock").get_mut(key.as_ref()) {
            *end = expiry(ttl);
        }
        Ok(())
    }

    async fn delete(&self, key: &SessionKey) -> Result<(), anyhow::Error> {
        self.0.write().expect("lock").remove(key.as_ref());
        Ok(())
    }
}

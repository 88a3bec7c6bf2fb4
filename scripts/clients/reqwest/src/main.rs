//! The walk with reqwest and its cookie jar. Usage: reqwest-client CLIENT URL [CA-FILE]. Prints a line for each step.
use reqwest::{blocking::Client, cookie::CookieStore, cookie::Jar, Certificate, Method, Url};
use std::{env, error::Error, fs, sync::Arc, time::Duration};

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = env::args().collect();
    let base = Url::parse(&args[2])?;
    let jar = Arc::new(Jar::default());
    let mut builder = Client::builder().cookie_provider(jar.clone()).no_proxy().timeout(Duration::from_secs(60));
    if let Some(file) = args.get(3) {
        builder = builder.add_root_certificate(Certificate::from_pem(&fs::read(file)?)?);
    }
    let client = builder.build()?;
    let mut before = None;
    for (method, path, body) in [
        (Method::GET, "/auth/me", ""),
        (Method::GET, "/auth/userinfo", ""),
        (Method::POST, "/auth/login", r#"{"user_id":"Jürgen 🧥"}"#),
        (Method::GET, "/auth/me", ""),
        (Method::POST, "/auth/refresh", ""),
        (Method::GET, "/auth/me", ""),
        (Method::POST, "/auth/logout", ""),
        (Method::GET, "/auth/userinfo", ""),
    ] {
        let mut request = client.request(method.clone(), base.join(path)?);
        if !body.is_empty() {
            request = request.header("Content-Type", "application/json").body(body);
        }
        let answer = request.send()?;
        let status = answer.status().as_u16();
        let text = answer.text()?;
        let said: serde_json::Value = if text.is_empty() { Default::default() } else { serde_json::from_str(&text)? };
        let who = said["code"].as_str().or(said["user_id"].as_str()).unwrap_or("nobody");
        let now = jar.cookies(&base);
        let kept = match now.clone() {
            None => "empty",
            now if now == before => "the same",
            Some(line) if line.to_str()?.contains(';') => "both",
            Some(_) => "new",
        };
        println!("{method} {path}: {status} {who}, jar {kept}");
        before = now;
    }
    Ok(())
}

//! 4xx and 5xx, by cause.

use vxf_hub::{Error, Kind, Result};

use crate::lab::{COMMIT, Lab, MODEL, SECRET, get, get_model, model, reference, says};
use crate::server::{Mishap, Stored};

#[test]
fn gated_repositories() -> Result<()> {
    let gated = Stored { gate: Some(SECRET), ..model(&["config.json", "model.safetensors"]) };
    let set = Stored { kind: "datasets", id: "owner/set", ..gated.clone() };
    let lab = Lab::new(vec![gated, set]);
    let page = format!("{}/{MODEL}", lab.server.hub);
    let parts =
        ["owner/model is gated (401)", "accept its terms at", page.as_str(), "set HF_TOKEN"];
    says(get_model(&lab.hub(), MODEL), &parts);
    let parts = ["is gated (403)", page.as_str(), "account of the token"];
    says(get_model(&lab.hub_with_token("hf_other"), MODEL), &parts);
    get_model(&lab.hub_with_token(SECRET), MODEL)?;

    let hub = lab.hub();
    let set = hub.repository(Kind::Dataset, &reference("owner/set"))?;
    says(set.get("config.json"), &[&format!("{}/datasets/owner/set", lab.server.hub)]);
    Ok(())
}

#[test]
fn missing_repositories() {
    let lab = Lab::with(&["config.json"]);
    let parts = ["owner/none", "private, gated or misspelt (401)", "set HF_TOKEN"];
    says(get(&lab.hub(), "owner/none", "config.json"), &parts);
    let hub = lab.hub_with_token(SECRET);
    let parts = ["no model owner/none", &lab.server.hub, "check owner and name"];
    says(get(&hub, "owner/none", "config.json"), &parts);
    let set = hub.repository(Kind::Dataset, &reference(MODEL)).map(|set| set.commit().to_owned());
    says(set, &["no data set owner/model"]);
}

#[test]
fn missing_revisions() {
    let lab = Lab::with(&["config.json"]);
    says(get(&lab.hub(), "owner/model@v2", "config.json"), &["owner/model has no revision `v2`"]);
    let commit = "9999999999999999999999999999999999999999";
    let text = format!("{MODEL}@{commit}");
    says(get(&lab.hub(), &text, "config.json"), &["no revision", commit]);
}

#[test]
fn missing_files() {
    let lab = Lab::with(&["config.json", "sub/tokenizer.json", "model.safetensors"]);
    // For a branch the list of files is known; for a commit the hub is asked.
    for text in [MODEL.to_owned(), format!("{MODEL}@{COMMIT}")] {
        says(
            get(&lab.hub(), &text, "confg.json"),
            &["no file `confg.json`", "did you mean config.json?"],
        );
        says(get(&lab.hub(), &text, "tokenizer.json"), &["sub/tokenizer.json"]);
        says(get(&lab.hub(), &text, "qqqq"), &["no file `qqqq`", "/tree/1111"]);
    }
}

#[test]
fn a_mirror_without_error_codes() {
    let lab = Lab::with(&["config.json"]);
    lab.server.mishap("/revision/main", 1, Mishap::Answer(404, vec![]));
    says(get(&lab.hub(), MODEL, "config.json"), &["no model owner/model"]);
    lab.server.mishap("/revision/v1.0", 1, Mishap::Answer(404, vec![]));
    says(get(&lab.hub(), "owner/model@v1.0", "config.json"), &["no revision `v1.0`"]);
    lab.server.mishap("HEAD", 1, Mishap::Answer(404, vec![]));
    says(get(&lab.hub(), MODEL, "config.json"), &["no file `config.json`"]);
}

#[test]
fn retry_after_is_respected() -> Result<()> {
    let lab = Lab::with(&["config.json", "model.safetensors"]);
    let after = |seconds: &str| Mishap::Answer(429, vec![("Retry-After", seconds.to_owned())]);
    let asked = || lab.lines().iter().filter(|line| line.contains("/api/models")).count();
    // The longest delay of the retry policy; its own delays are a few milliseconds.
    lab.server.mishap("/api/models", 1, after("2"));
    get(&lab.hub(), MODEL, "config.json")?;
    assert_eq!(asked(), 2, "one retry after the delay");

    // A longer delay is an error at once, because an earlier retry would be refused.
    lab.server.mishap("/api/models", 1, after("3"));
    says(get(&lab.hub(), MODEL, "config.json"), &["429", "in 3 s", "set HF_TOKEN"]);
    lab.server.mishap("/api/models", 1, after("3600"));
    says(get(&lab.hub(), MODEL, "config.json"), &["429", "in 3600 s", "set HF_TOKEN"]);
    let limit = vec![("RateLimit", "\"api\";r=0;t=200".to_owned())];
    lab.server.mishap("/api/models", 1, Mishap::Answer(429, limit));
    let error = says(get(&lab.hub_with_token(SECRET), MODEL, "config.json"), &["in 200 s"]);
    assert!(!error.to_string().contains("HF_TOKEN"));
    assert_eq!(asked(), 3, "one request each");

    lab.server.mishap("/api/models", usize::MAX, Mishap::Answer(429, vec![]));
    says(get(&lab.hub(), MODEL, "config.json"), &["429", "in a few minutes"]);
    assert_eq!(lab.lines().len(), 3, "all attempts of the settings");
    Ok(())
}

#[test]
fn server_errors_are_retried() -> Result<()> {
    let lab = Lab::with(&["config.json", "model.safetensors"]);
    for needle in ["/api/models", "HEAD", "GET /owner", "?signature"] {
        lab.server.mishap(needle, 1, Mishap::Answer(500, vec![]));
    }
    get(&lab.hub(), MODEL, "model.safetensors")?;

    let why = vec![("X-Error-Message", "back soon".to_owned())];
    lab.server.mishap("HEAD", usize::MAX, Mishap::Answer(503, why));
    says(get(&lab.hub(), MODEL, "config.json"), &["status 503 (\"back soon\")", "try again later"]);
    Ok(())
}

#[test]
fn an_expired_address_is_renewed() -> Result<()> {
    let lab = Lab::with(&["model.safetensors"]);
    lab.server.mishap("?signature", 1, Mishap::Answer(403, vec![]));
    get(&lab.hub(), MODEL, "model.safetensors")?;
    let resolved = lab.lines().into_iter().filter(|line| line.starts_with("GET /owner"));
    assert_eq!(resolved.count(), 2);
    Ok(())
}

#[test]
fn unexpected_responses() {
    let lab = Lab::with(&["config.json"]);
    let answer = |status, headers: &[(&'static str, &str)]| {
        let headers = headers.iter().map(|(name, value)| (*name, (*value).to_owned()));
        Mishap::Answer(status, headers.collect())
    };
    lab.server.mishap("/api/models", 1, answer(200, &[]));
    says(get(&lab.hub(), MODEL, "config.json"), &["not respond like a hub", "HF_ENDPOINT"]);
    lab.server.mishap("HEAD", 1, answer(200, &[("X-Repo-Commit", COMMIT)]));
    says(get(&lab.hub(), MODEL, "config.json"), &["no usable ETag"]);
    lab.server.mishap("HEAD", 1, answer(200, &[("X-Repo-Commit", "4444")]));
    says(get(&lab.hub(), MODEL, "config.json"), &[COMMIT, "4444"]);
    lab.server.mishap("HEAD", 20, answer(302, &[("Location", "/owner/model/again")]));
    says(get(&lab.hub(), MODEL, "config.json"), &["too many redirects"]);
    let disabled = [("X-Error-Message", "Access to this resource is disabled.")];
    let lab = Lab::with(&["config.json"]);
    lab.server.mishap("/api/models", 1, answer(403, &disabled));
    let error = says(get(&lab.hub(), MODEL, "config.json"), &["403", "is disabled"]);
    assert!(matches!(error, Error::Status { .. }));
}

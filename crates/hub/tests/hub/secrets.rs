//! Tokens stay with the endpoint, files stay in the cache.

use std::fs;

use vxf_hub::{Kind, Result};

use crate::lab::{COMMIT, Lab, MODEL, SECRET, get, get_model, reference, says};
use crate::server::Mishap;

#[test]
fn the_token_is_sent_to_the_endpoint_only() -> Result<()> {
    let lab = Lab::with(&["config.json", "model.safetensors"]);
    get_model(&lab.hub_with_token(SECRET), MODEL)?;
    let (storage, hub): (Vec<_>, Vec<_>) =
        lab.server.seen().into_iter().partition(|seen| seen.storage);
    assert!(!storage.is_empty() && storage.iter().all(|seen| seen.token.is_none()));
    assert!(hub.len() > 3 && hub.iter().all(|seen| seen.token.as_deref() == Some(SECRET)));

    // Another host does not get it by a redirect either.
    let elsewhere = vec![("Location", format!("{}/x", lab.server.storage))];
    lab.server.mishap("/api/models", 3, Mishap::Answer(307, elsewhere));
    says(get(&lab.hub_with_token(SECRET), MODEL, "x.json"), &["404"]);
    assert!(lab.server.seen().iter().all(|seen| !seen.storage || seen.token.is_none()));
    Ok(())
}

#[test]
fn without_a_token_none_is_sent() -> Result<()> {
    let lab = Lab::with(&["config.json", "model.safetensors"]);
    get_model(&lab.hub(), MODEL)?;
    assert!(lab.server.seen().iter().all(|seen| seen.token.is_none()));
    Ok(())
}

#[test]
fn messages_never_contain_the_token() {
    let lab = Lab::with(&["config.json"]);
    let hub = lab.hub_with_token(SECRET);
    assert!(!format!("{hub:?}").contains(SECRET));
    for status in [400, 401, 403, 404, 418, 429, 500] {
        let echo = vec![("X-Error-Message", format!("who is {SECRET}?"))];
        lab.server.mishap("/api/models", 3, Mishap::Answer(status, echo));
        // `says` checks that the message has no token.
        says(get(&hub, MODEL, "config.json"), &[]);
        lab.server.mishap("/api/models", 3, Mishap::Cut(0));
        get(&hub, MODEL, "config.json").ok();
    }
}

#[test]
fn names_that_lead_out_of_the_cache() {
    for name in ["../../x", "/etc/x", "a/../../x", "..", "a\\..\\x", "a//b", "./x"] {
        let lab = Lab::with(&["config.json", name]);
        says(get_model(&lab.hub(), MODEL), &[MODEL, "leads out of the cache"]);
        let hub = lab.hub();
        let pinned = hub.repository(Kind::Model, &reference(&format!("{MODEL}@{COMMIT}")));
        let pinned = pinned.expect("a commit");
        says(pinned.files(), &["leads out of the cache"]);
        lab.lines();
        says(pinned.get(name), &["leads out of the cache"]);
        assert_eq!(lab.lines(), [""; 0]);
        assert!(fs::read_dir(lab.cache()).expect("a cache").next().is_none());
    }
}

#[test]
fn an_index_that_leads_out_of_the_cache() {
    let lab = Lab::with(&["config.json", "model.safetensors.index.json"]);
    let map = br#"{"weight_map": {"a": "../../../../x.safetensors"}}"#;
    lab.server.change(|stored| stored[0].files[1].1 = map.to_vec());
    says(get_model(&lab.hub(), MODEL), &["../../../../x.safetensors", "leads out of the cache"]);
}

#[test]
fn headers_that_lead_out_of_the_cache() {
    let lab = Lab::with(&["config.json"]);
    for tag in ["../../x", "/etc/x", ".hidden", "a/b", "", "\"\""] {
        let head = vec![("ETag", tag.to_owned()), ("Content-Length", "5".to_owned())];
        lab.server.mishap("HEAD", 1, Mishap::Answer(200, head));
        says(get(&lab.hub(), MODEL, "config.json"), &["no usable ETag"]);
    }
    for location in ["file:///etc/passwd", "ftp://127.0.0.1/x", "::"] {
        let head = vec![("Location", location.to_owned())];
        lab.server.mishap("HEAD", 1, Mishap::Answer(302, head));
        says(get(&lab.hub(), MODEL, "config.json"), &["redirect has no valid address"]);
    }
    lab.server.change(|stored| stored[0].commit = "../../../x".to_owned());
    says(get(&lab.hub(), MODEL, "config.json"), &["names no commit"]);
    assert!(!lab.folder().join("blobs").exists());
}

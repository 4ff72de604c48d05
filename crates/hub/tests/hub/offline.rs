//! Offline: cached files are used, missing ones are named.

use std::fs;
use std::time::Duration;

use vxf_hub::{Hub, Kind, Offline, Result, RetryPolicy, Settings};

use crate::lab::{COMMIT, Lab, MODEL, get, get_model, reference, says};

#[test]
fn an_empty_cache() {
    let lab = Lab::with(&["config.json"]);
    let cache = lab.cache().display().to_string();
    let parts = [MODEL, "revision main", cache.as_str(), "--offline forbids the network"];
    says(get(&lab.offline(), MODEL, "config.json"), &parts);
    let pinned = format!("{MODEL}@{COMMIT}");
    says(get(&lab.offline(), &pinned, "config.json"), &[&pinned, "`config.json`", "--offline"]);
    let offline = Settings { offline: Some(Offline::Variable), ..lab.settings() };
    let hub = Hub::new(offline).expect("settings");
    says(get(&hub, MODEL, "config.json"), &["HF_HUB_OFFLINE forbids the network"]);
    let repository = hub.repository(Kind::Model, &reference(&pinned)).expect("a commit");
    says(repository.files(), &[COMMIT, "HF_HUB_OFFLINE"]);
    assert_eq!(lab.lines(), [""; 0]);
    assert!(fs::read_dir(lab.cache()).expect("a cache").next().is_none(), "nothing is created");
}

#[test]
fn downloaded_files_are_used_offline() -> Result<()> {
    let lab = Lab::with(&["config.json", "tokenizer.json", "model.safetensors", "x.json"]);
    let online = get_model(&lab.hub(), &format!("{MODEL}@v1.0"))?;
    lab.lines();
    let hub = lab.offline();
    let repository = hub.repository(Kind::Model, &reference(&format!("{MODEL}@v1.0")))?;
    assert_eq!(repository.commit(), COMMIT);
    assert_eq!(repository.model_files()?, online);
    assert_eq!(repository.files()?, ["config.json", "model.safetensors", "tokenizer.json"]);
    says(repository.get("x.json"), &["`x.json` of owner/model@v1.0", "--offline"]);
    says(get_model(&hub, MODEL), &["revision main", "--offline"]);
    assert_eq!(get_model(&hub, &format!("{MODEL}@{COMMIT}"))?, online);
    assert_eq!(lab.lines(), [""; 0]);
    Ok(())
}

#[test]
fn an_incomplete_model_is_an_error() -> Result<()> {
    let lab = Lab::with(&["config.json", "model.safetensors"]);
    get(&lab.hub(), MODEL, "config.json")?;
    says(get_model(&lab.offline(), MODEL), &["`model.safetensors`", "not in the cache"]);
    Ok(())
}

#[test]
fn files_downloaded_by_python_are_used() -> Result<()> {
    let lab = Lab::with(&[]);
    let snapshot = lab.folder().join("snapshots").join(COMMIT);
    for directory in [snapshot.clone(), lab.folder().join("refs"), lab.folder().join("blobs")] {
        fs::create_dir_all(directory).expect("a directory");
    }
    fs::write(lab.folder().join("refs/main"), COMMIT).expect("a reference");
    for file in ["config.json", "model.safetensors"] {
        fs::write(lab.folder().join("blobs").join(file), file).expect("a blob");
        #[cfg(unix)]
        std::os::unix::fs::symlink(format!("../../blobs/{file}"), snapshot.join(file))
            .expect("a link");
        #[cfg(not(unix))]
        fs::write(snapshot.join(file), file).expect("a file");
    }
    assert_eq!(get_model(&lab.offline(), MODEL)?, snapshot);
    Ok(())
}

#[cfg(unix)]
#[test]
fn a_link_out_of_the_folder_is_rejected() -> Result<()> {
    use std::os::unix::fs::symlink;
    let lab = Lab::with(&["config.json", "model.safetensors"]);
    let snapshot = get_model(&lab.hub(), MODEL)?;
    let (config, secret) = (snapshot.join("config.json"), lab.cache().join("secret"));
    fs::write(&secret, "of no concern to a model").expect("a file");
    fs::remove_file(&config).expect("it was there");
    symlink(&secret, &config).expect("a link");
    let named = config.display().to_string();
    for hub in [lab.offline(), lab.hub()] {
        says(get_model(&hub, MODEL), &[MODEL, &named, "link out of the repository's folder"]);
    }
    // A link to another repository's blob is rejected too.
    let other = lab.cache().join("models--other--model/blobs");
    fs::create_dir_all(&other).expect("a directory");
    fs::write(other.join("x"), "{}").expect("a file");
    fs::remove_file(&config).expect("it was there");
    symlink("../../../models--other--model/blobs/x", &config).expect("a link");
    says(get(&lab.offline(), MODEL, "config.json"), &["link out of the repository's folder"]);
    // The blob directory may be on another disk.
    fs::remove_file(&config).expect("it was there");
    get_model(&lab.hub(), MODEL)?;
    let (blobs, disk) = (lab.folder().join("blobs"), lab.cache().join("disk"));
    fs::rename(&blobs, &disk).expect("a new place");
    symlink(&disk, &blobs).expect("a link");
    assert_eq!(get_model(&lab.offline(), MODEL)?, snapshot);
    Ok(())
}

#[test]
fn no_connection() -> Result<()> {
    let lab = Lab::with(&["config.json"]);
    get(&lab.hub(), MODEL, "config.json")?;
    // A port that was free a moment ago.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    drop(listener);
    let mut settings = Settings { endpoint: format!("http://{address}"), ..lab.settings() };
    // A host that never responded is not retried; with retries this test would take a day.
    let hours = |hours: u64| Duration::from_secs(hours * 3600);
    settings.retry =
        RetryPolicy { first: hours(12), longest: hours(12), total: hours(24), ..settings.retry };
    let hub = Hub::new(settings).expect("settings");
    let parts = ["no connection", address.as_str(), "HF_ENDPOINT"];
    let error = says(get(&hub, "owner/other", "config.json"), &parts);
    assert!(!error.to_string().contains("--offline"));
    says(get(&hub, MODEL, "config.json"), &["no connection", "--offline", "downloaded before"]);
    Ok(())
}

#[test]
fn invalid_certificate_files_are_rejected() -> Result<()> {
    let lab = Lab::with(&[]);
    for (content, problem) in [(None, "unreadable"), (Some("no PEM"), "contains no certificate")] {
        let file = lab.cache().join("certificates.pem");
        if let Some(content) = content {
            fs::write(&file, content).expect("a file");
        }
        let settings = Settings { certificates: Some(file.clone()), ..lab.settings() };
        let parts = ["SSL_CERT_FILE", &file.display().to_string(), problem];
        says(Hub::new(settings.clone()), &parts);
        Hub::new(Settings { offline: Some(Offline::Variable), ..settings })?;
    }
    Ok(())
}

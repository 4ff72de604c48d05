//! Downloads: the files, their place in the cache, and the number of requests.

use std::cell::RefCell;
use std::fs;

use vxf_hub::{Kind, Result};

use crate::lab::{COMMIT, Lab, MODEL, get, model, reference, weights};
use crate::server::{Stored, git, sha256};

#[test]
fn the_cache_has_pythons_layout() -> Result<()> {
    let lab = Lab::with(&["config.json", "a/b/c d.json", "model.safetensors"]);
    let hub = lab.hub();
    let repository = hub.repository(Kind::Model, &reference(MODEL))?;
    assert_eq!(repository.commit(), COMMIT);
    for (file, target) in
        [("model.safetensors", "../../blobs/"), ("a/b/c d.json", "../../../../blobs/")]
    {
        let path = repository.get(file)?;
        assert_eq!(path, lab.folder().join("snapshots").join(COMMIT).join(file));
        let content = fs::read(&path).expect("a file");
        let large = file.ends_with(".safetensors");
        let tag = if large { sha256(&content) } else { git(&content) };
        let link = fs::read_link(&path).expect("a link");
        assert_eq!(link.to_str(), Some(format!("{target}{tag}").as_str()));
        assert!(lab.folder().join("blobs").join(&tag).is_file());
        assert!(
            lab.cache().join(".locks/models--owner--model").join(format!("{tag}.lock")).exists()
        );
        if large {
            assert_eq!(content, weights(300_017));
        }
    }
    let main = fs::read_to_string(lab.folder().join("refs/main"));
    assert_eq!(main.expect("a reference"), COMMIT);
    // With compression, lengths and tags would not describe the file itself.
    assert!(lab.server.seen().iter().all(|seen| seen.packings == "identity"));
    Ok(())
}

#[test]
fn cached_files_are_not_requested() -> Result<()> {
    let lab = Lab::with(&["config.json", "model.safetensors"]);
    let first = get(&lab.hub(), MODEL, "model.safetensors")?;
    let lines = lab.lines();
    let file = format!("/owner/model/resolve/{COMMIT}/model.safetensors");
    let tag = sha256(&fs::read(&first).expect("a file"));
    assert_eq!(
        lines,
        [
            "GET /api/models/owner/model/revision/main".to_owned(),
            format!("HEAD {file}"),
            format!("GET {file}"),
            format!("GET /{tag}?signature=abc"),
        ]
    );
    assert_eq!(get(&lab.hub(), MODEL, "model.safetensors")?, first);
    assert_eq!(lab.lines(), ["GET /api/models/owner/model/revision/main"]);

    let pinned = format!("{MODEL}@{COMMIT}");
    assert_eq!(get(&lab.hub(), &pinned, "model.safetensors")?, first);
    assert_eq!(lab.lines(), [""; 0]);
    assert!(!lab.folder().join("refs").join(COMMIT).exists());
    Ok(())
}

#[test]
fn branches_tags_and_commits() -> Result<()> {
    let other = "2222222222222222222222222222222222222222";
    let dev = Stored {
        commit: other.to_owned(),
        revisions: vec!["dev"],
        ..model(&["config.json", "model.safetensors", "notes.json"])
    };
    let lab = Lab::new(vec![model(&["config.json", "model.safetensors"]), dev]);
    let hub = lab.hub();
    for (revision, commit) in
        [("main", COMMIT), ("v1.0", COMMIT), ("refs/pr/1", COMMIT), ("dev", other), (other, other)]
    {
        let text = format!("{MODEL}@{revision}");
        let repository = hub.repository(Kind::Model, &reference(&text))?;
        assert_eq!(repository.commit(), commit, "{revision}");
        let path = repository.get("model.safetensors")?;
        assert!(path.starts_with(lab.folder().join("snapshots").join(commit)));
        let cached = fs::read_to_string(lab.folder().join("refs").join(revision)).ok();
        assert_eq!(cached.as_deref(), (revision != other).then_some(commit));
    }
    assert_eq!(lab.sent().len(), 1, "both commits have the same weights");
    Ok(())
}

#[test]
fn a_branch_that_moves_is_followed() -> Result<()> {
    let lab = Lab::with(&["config.json"]);
    let old = get(&lab.hub(), MODEL, "config.json")?;
    let moved = "3333333333333333333333333333333333333333";
    lab.server.change(|stored| {
        stored[0].commit = moved.to_owned();
        stored[0].files[0].1 = b"{}".to_vec();
    });
    let new = get(&lab.hub(), MODEL, "config.json")?;
    assert_eq!(fs::read(new).expect("a file"), b"{}");
    assert!(old.is_file(), "the old commit is kept");
    let main = fs::read_to_string(lab.folder().join("refs/main"));
    assert_eq!(main.expect("a reference"), moved);
    Ok(())
}

#[test]
fn data_sets() -> Result<()> {
    let set =
        Stored { kind: "datasets", id: "owner/set", ..model(&["data/b.parquet", "data/a.csv"]) };
    let lab = Lab::new(vec![set]);
    let hub = lab.hub();
    let repository = hub.repository(Kind::Dataset, &reference("owner/set"))?;
    assert_eq!(repository.files()?, ["data/a.csv", "data/b.parquet"]);
    let path = repository.get("data/b.parquet")?;
    assert!(path.starts_with(lab.cache().join("datasets--owner--set/snapshots")));
    assert_eq!(fs::read(path).expect("a file"), weights(300_014));
    assert_eq!(lab.lines()[0], "GET /api/datasets/owner/set/revision/main");
    Ok(())
}

#[test]
fn empty_files() -> Result<()> {
    let lab = Lab::with(&["config.json"]);
    lab.server.change(|stored| stored[0].files[0].1.clear());
    let path = get(&lab.hub(), MODEL, "config.json")?;
    assert_eq!(fs::read(path).expect("a file"), b"");
    Ok(())
}

#[test]
fn progress_is_reported() -> Result<()> {
    let lab = Lab::with(&["model.safetensors"]);
    let told = RefCell::new(Vec::new());
    let tell = |file: &str, done, total| told.borrow_mut().push((file.to_owned(), done, total));
    let hub = lab.hub();
    let repository = hub.repository(Kind::Model, &reference(MODEL))?.with_progress(&tell);
    repository.get("model.safetensors")?;
    let told = told.borrow();
    let name = "model.safetensors".to_owned();
    assert_eq!(told.first(), Some(&(name.clone(), 0, 300_017)));
    assert_eq!(told.last(), Some(&(name, 300_017, 300_017)));
    assert!(told.len() > 3 && told.is_sorted_by_key(|(_, done, _)| *done));
    Ok(())
}

#[test]
fn threads_share_one_download() -> Result<()> {
    let lab = Lab::with(&["model.safetensors"]);
    let hub = lab.hub();
    let fetch = || get(&hub, MODEL, "model.safetensors").expect("a file");
    let paths = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(fetch)).collect();
        threads.into_iter().map(|t| t.join().expect("no panic")).collect::<Vec<_>>()
    });
    assert!(paths.iter().all(|path| *path == paths[0]));
    assert_eq!(fs::read(&paths[0]).expect("a file"), weights(300_017));
    assert_eq!(lab.sent().len(), 1);
    let blobs = fs::read_dir(lab.folder().join("blobs")).expect("blobs");
    assert_eq!(blobs.count(), 1, "no partial file is left");
    Ok(())
}

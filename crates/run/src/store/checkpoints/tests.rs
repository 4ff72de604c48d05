//! Checkpoints are restored after every fault and every kind of damage.

use std::cell::RefCell;
use std::io;
use std::sync::Mutex;

use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::store::disk::FileSystem;

/// A disk on which the operation with this number fails after doing a part of its work.
#[derive(Debug)]
struct Faulty {
    left: Mutex<Option<usize>>,
    kind: io::ErrorKind,
    done: Mutex<Vec<&'static str>>,
}

impl Faulty {
    fn at(number: Option<usize>, kind: io::ErrorKind) -> Self {
        Self { left: Mutex::new(number), kind, done: Mutex::default() }
    }

    /// Whether the operation `name` fails. After the first failure all others fail too, as on a full
    /// disk, except removals.
    fn fails(&self, name: &'static str) -> bool {
        self.done.lock().expect("one thread").push(name);
        let mut left = self.left.lock().expect("one thread");
        match &mut *left {
            None => false,
            Some(0) => true,
            Some(left) => {
                *left -= 1;
                false
            }
        }
    }

    fn error<T>(&self) -> io::Result<T> {
        Err(io::Error::new(self.kind, "injected"))
    }
}

impl Disk for Faulty {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        if self.fails("create_dir") { self.error() } else { FileSystem.create_dir(path) }
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        match self.fails("write") {
            true => FileSystem.write(path, &bytes[..bytes.len() / 2]).and_then(|()| self.error()),
            false => FileSystem.write(path, bytes),
        }
    }

    fn append(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        match self.fails("append") {
            true => FileSystem.append(path, &bytes[..bytes.len() / 2]).and_then(|()| self.error()),
            false => FileSystem.append(path, bytes),
        }
    }

    fn truncate(&self, path: &Path, length: u64) -> io::Result<()> {
        if self.fails("truncate") { self.error() } else { FileSystem.truncate(path, length) }
    }

    fn sync(&self, path: &Path) -> io::Result<()> {
        if self.fails("sync") { self.error() } else { FileSystem.sync(path) }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        if self.fails("rename") { self.error() } else { FileSystem.rename(from, to) }
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        if self.fails("remove") { self.error() } else { FileSystem.remove(path) }
    }
}

fn identity() -> Identity {
    Identity { digest: "d1".into(), recipe: "seeds = [1]\n".into() }
}

/// A training before step `next`, with its own tensors.
fn training(next: u64) -> Saved {
    let tensor = |scale: f32| {
        let values: Vec<f32> = (0..7).map(|i| scale * (i as f32 + next as f32)).collect();
        Tensor::from_vec(values, 7, &Device::Cpu).expect("a tensor")
    };
    let group = |scale| [("a".to_owned(), tensor(scale))].into_iter().collect::<Params>();
    let groups = [("weights", 1.0), ("first_moments", f32::NAN), ("snapshots", -0.0)];
    Saved {
        tensors: groups.into_iter().map(|(name, scale)| (name.to_owned(), group(scale))).collect(),
        position: Position {
            next,
            total: 100,
            accumulation: 1,
            optimizer_steps: next,
            optimizer_missed: Default::default(),
            streams: [("alignment".to_owned(), next)].into(),
            defense: json!({ "radius": 0.1 }),
            perturber: json!(null),
        },
    }
}

fn bits(saved: &Saved) -> Vec<(String, String, Vec<u32>)> {
    let tensors = saved.tensors.iter().flat_map(|(group, tensors)| {
        tensors.iter().map(move |(name, tensor)| {
            let values = tensor.to_vec1::<f32>().expect("f32");
            (group.clone(), name.to_owned(), values.iter().map(|x| x.to_bits()).collect())
        })
    });
    tensors.collect()
}

/// Logs the rows `from` to `next`, then saves.
fn advance(
    checkpoints: &Checkpoints<'_>,
    log: &mut StepLog<'_>,
    from: u64,
    next: u64,
) -> Result<()> {
    for step in from + 1..=next {
        log.push(&json!({ "step": step }))?;
    }
    checkpoints.save(&training(next), log.mark()?, next as f64)
}

/// Checkpoints before steps 5 and 10, with later rows in the log.
fn two(place: &TempDir) -> PathBuf {
    let (root, identity) = (place.path().join("checkpoints/run"), identity());
    let checkpoints = Checkpoints::new(&FileSystem, root.clone(), identity.clone());
    let mut log = checkpoints.begin_log().expect("a log");
    advance(&checkpoints, &mut log, 0, 5).expect("saved");
    advance(&checkpoints, &mut log, 5, 10).expect("saved");
    log.push(&json!({ "step": 11 })).expect("written");
    log.flush().expect("written");
    root
}

/// The step resumed from in `root`, and the notes.
fn resumed(root: &Path) -> (u64, Vec<String>) {
    let (notes, identity) = (RefCell::default(), identity());
    let checkpoints = Checkpoints::new(&FileSystem, root.to_owned(), identity.clone());
    let note = |text: &str| RefCell::<Vec<String>>::borrow_mut(&notes).push(text.to_owned());
    let resumed = checkpoints.resume(&note).expect("the disk is sound");
    let Some(resumed) = resumed else { return (0, notes.into_inner()) };
    let next = resumed.saved.position.next;
    assert_eq!(resumed.saved.position, training(next).position);
    assert_eq!(bits(&resumed.saved), bits(&training(next)));
    assert!((resumed.seconds - next as f64).abs() < 1e-9);
    drop(resumed);
    let log = fs::read_to_string(root.join(LOG)).expect("a log");
    let rows: Vec<_> = (1..=next).map(|step| json!({ "step": step }).to_string()).collect();
    assert_eq!(log.lines().collect::<Vec<_>>(), rows, "no gap and no duplicate");
    let names = fs::read_dir(root).expect("a directory").flatten().map(|entry| entry.file_name());
    assert!(names.into_iter().all(|name| !name.to_string_lossy().starts_with(PARTIAL)));
    (next, notes.into_inner())
}

#[test]
fn a_checkpoint_restores_what_was_saved() {
    let place = tempfile::tempdir().expect("a temporary directory");
    let root = two(&place);
    assert_eq!(resumed(&root), (10, Vec::new()));
    assert_eq!(resumed(&place.path().join("nothing/here")), (0, Vec::new()));
}

#[test]
fn the_last_two_are_kept() {
    let place = tempfile::tempdir().expect("a temporary directory");
    let (root, identity) = (two(&place), identity());
    let checkpoints = Checkpoints::new(&FileSystem, root, identity.clone());
    let mut log = checkpoints.resume(&|_| ()).expect("sound").expect("a checkpoint").log;
    advance(&checkpoints, &mut log, 10, 15).expect("saved");
    assert_eq!(checkpoints.steps(), [10, 15]);
    assert_eq!(checkpoints.last(), 15);
    checkpoints.clear().expect("removable");
    assert_eq!(checkpoints.last(), 0);
}

/// Each write, sync, rename and removal of a save fails in turn, and the disk stays broken. The error
/// says what happened, and a loadable checkpoint remains.
#[test]
fn every_fault_leaves_a_checkpoint() {
    let identity = identity();
    let save = |root: &Path, disk: &Faulty| -> Result<()> {
        let checkpoints = Checkpoints::new(disk, root.to_owned(), identity.clone());
        let resumed = checkpoints.resume(&|_| ())?;
        let mut log = resumed.expect("a checkpoint").log;
        advance(&checkpoints, &mut log, 10, 15)
    };
    let count = {
        let place = tempfile::tempdir().expect("a temporary directory");
        let sound = Faulty::at(None, io::ErrorKind::Other);
        save(&two(&place), &sound).expect("nothing fails");
        let done = sound.done.into_inner().expect("one thread");
        for needed in ["write", "append", "truncate", "sync", "rename", "remove", "create_dir"] {
            assert!(done.contains(&needed), "no {needed} among {done:?}");
        }
        done.len()
    };
    assert!(count > 15, "{count} operations");
    for kind in [io::ErrorKind::StorageFull, io::ErrorKind::Other] {
        for number in 0..count {
            let place = tempfile::tempdir().expect("a temporary directory");
            let root = two(&place);
            let error = save(&root, &Faulty::at(Some(number), kind)).expect_err("a fault");
            let text = error.to_string();
            assert!(text.contains("injected") && text.contains("checkpoints"), "{number}: {text}");
            let (next, notes) = resumed(&root);
            assert!(next == 10 || next == 15, "operation {number}: step {next}, {notes:?}");
            assert_eq!(notes, [""; 0], "operation {number}");
            // Saving works again when the disk does.
            if next == 10 {
                save(&root, &Faulty::at(None, kind)).expect("nothing fails");
            }
            assert_eq!(resumed(&root).0, 15);
        }
    }
}

#[test]
fn a_damaged_checkpoint_is_found_and_the_one_before_is_used() {
    let names = {
        let place = tempfile::tempdir().expect("a temporary directory");
        let newest = two(&place).join("step-0000000010");
        let names = fs::read_dir(newest).expect("a checkpoint").flatten();
        names.map(|entry| entry.file_name().into_string().expect("a name")).collect::<Vec<_>>()
    };
    assert_eq!(names.len(), 6, "{names:?}");
    type Damage = fn(&Path);
    let damages: [(&str, Damage); 4] = [
        ("a bit", |file| {
            let mut bytes = fs::read(file).expect("readable");
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            fs::write(file, bytes).expect("writable");
        }),
        ("the end", |file| {
            let bytes = fs::read(file).expect("readable");
            fs::write(file, &bytes[..bytes.len() - 2]).expect("writable");
        }),
        ("all", |file| fs::remove_file(file).expect("removable")),
        ("kind", |file| {
            let elsewhere = file.with_extension("moved");
            fs::rename(file, &elsewhere).expect("renamable");
            std::os::unix::fs::symlink(&elsewhere, file).expect("a link");
        }),
    ];
    for name in &names {
        for (what, damage) in damages {
            let place = tempfile::tempdir().expect("a temporary directory");
            let root = two(&place);
            damage(&root.join("step-0000000010").join(name));
            let (next, notes) = resumed(&root);
            assert_eq!(next, 5, "{name}, {what}");
            assert!(notes.len() == 1 && notes[0].contains("step-0000000010"), "{name}: {notes:?}");
            assert_eq!(resumed(&root), (5, Vec::new()), "said once");
        }
    }
    // If all are damaged, the stage starts again.
    let place = tempfile::tempdir().expect("a temporary directory");
    let root = two(&place);
    for step in ["step-0000000005", "step-0000000010"] {
        fs::remove_file(root.join(step).join(STATE)).expect("removable");
    }
    let (next, notes) = resumed(&root);
    assert_eq!((next, notes.len()), (0, 2), "{notes:?}");
}

#[test]
fn a_truncated_log_leads_to_an_earlier_checkpoint() {
    let place = tempfile::tempdir().expect("a temporary directory");
    let root = two(&place);
    let log = fs::read_to_string(root.join(LOG)).expect("a log");
    let rows: String = log.lines().take(7).map(|row| format!("{row}\n")).collect();
    fs::write(root.join(LOG), rows).expect("writable");
    let (next, notes) = resumed(&root);
    assert_eq!(next, 5);
    assert!(notes[0].contains("does not match"), "{notes:?}");
}

#[test]
fn foreign_checkpoints_are_rejected() {
    let edit = |file: &Path, from: &str, to: &str| {
        let text = fs::read_to_string(file).expect("readable");
        assert!(text.contains(from), "{text}");
        fs::write(file, text.replace(from, to)).expect("writable");
    };
    // A list with a path outside of its directory.
    for name in ["../state.json", "/etc/hostname", "..", "a/b"] {
        let place = tempfile::tempdir().expect("a temporary directory");
        let root = two(&place);
        edit(&root.join("step-0000000010/manifest.json"), "recipe.toml", name);
        let (next, notes) = resumed(&root);
        assert_eq!(next, 5, "{name}");
        assert!(notes[0].contains("is not a file name"), "{notes:?}");
    }
    // A checkpoint with another step, layout or recipe.
    let place = tempfile::tempdir().expect("a temporary directory");
    let root = two(&place);
    fs::rename(root.join("step-0000000010"), root.join("step-0000000012")).expect("renamable");
    assert!(resumed(&root).1[0].contains("saved before step 10"));
    let place = tempfile::tempdir().expect("a temporary directory");
    let root = two(&place);
    edit(
        &root.join("step-0000000010/manifest.json"),
        "\"schema_version\": 1",
        "\"schema_version\": 9",
    );
    assert!(resumed(&root).1[0].contains("layout 9"));
    let place = tempfile::tempdir().expect("a temporary directory");
    let root = two(&place);
    let other = Identity { digest: "d2".into(), recipe: String::new() };
    let checkpoints = Checkpoints::new(&FileSystem, root, other);
    let notes = RefCell::new(Vec::new());
    let note = |text: &str| notes.borrow_mut().push(text.to_owned());
    assert!(checkpoints.resume(&note).expect("the disk is sound").is_none());
    assert!(notes.borrow().iter().all(|note| note.contains("another run")), "{notes:?}");
}

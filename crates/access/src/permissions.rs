//! Warns about model files that other users could have changed.
//!
//! Weights and tokenizers run no code, but they decide what a model says. So directories that others can
//! write to are reported, and so are links that lead out of them.

use std::fs::{self, Metadata};
use std::path::Path;

/// Extensions of the files that are read from a model directory.
const READ: [&str; 5] = ["json", "safetensors", "bin", "txt", "jinja"];

/// Warnings about `directory`, one sentence each.
pub(crate) fn remarks(directory: &Path) -> Vec<String> {
    remarks_to(&Identity::here(), directory)
}

fn remarks_to(me: &Identity, directory: &Path) -> Vec<String> {
    let (mut open, mut away) = (Found::default(), Found::default());
    if let Ok(metadata) = directory.metadata() {
        open.note(directory, me.who_else(&metadata));
    }
    let mut paths: Vec<_> =
        fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    paths.sort();
    let home = home(directory);
    for path in paths {
        let is_read = path.extension().is_some_and(|ending| READ.iter().any(|it| ending == *it));
        let Some(metadata) = path.metadata().ok().filter(|it| is_read && it.is_file()) else {
            continue;
        };
        open.note(&path, me.who_else(&metadata));
        if path.is_symlink()
            && let (Ok(real), Some(home)) = (path.canonicalize(), &home)
            && !real.starts_with(home)
        {
            away.note(&path, Some(format!("is a link to {}", real.display())));
        }
    }
    let open = open.sentence("others can change what the model does; remove the permission");
    [open, away.sentence("the file behind the link is read")].into_iter().flatten().collect()
}

/// The first of several files with its problem, and the number of further ones.
#[derive(Default)]
struct Found {
    first: Option<String>,
    more: usize,
}

impl Found {
    fn note(&mut self, path: &Path, problem: Option<String>) {
        match problem {
            None => {}
            Some(_) if self.first.is_some() => self.more += 1,
            Some(problem) => self.first = Some(format!("{} {problem}", path.display())),
        }
    }

    fn sentence(self, end: &str) -> Option<String> {
        let more = match self.more {
            0 => String::new(),
            more => format!(" (and {more} more like it)"),
        };
        self.first.map(|first| format!("{first}{more}: {end}"))
    }
}

/// The directory that links may point into; for the hub's cache, which consists of links, the whole
/// repository.
fn home(directory: &Path) -> Option<std::path::PathBuf> {
    let real = directory.canonicalize().ok()?;
    let above = real.parent().filter(|above| above.ends_with("snapshots"));
    Some(above.and_then(Path::parent).unwrap_or(&real).to_owned())
}

/// The user and groups of this process, as far as known.
#[derive(Default)]
struct Identity {
    user: Option<u32>,
    groups: Vec<u32>,
}

#[cfg(unix)]
impl Identity {
    fn here() -> Self {
        use std::os::unix::fs::MetadataExt;
        let Ok(own) = fs::metadata("/proc/self") else { return Self::default() };
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let groups = status.lines().find_map(|line| line.strip_prefix("Groups:"));
        let mut groups: Vec<u32> = groups
            .into_iter()
            .flat_map(str::split_whitespace)
            .filter_map(|group| group.parse().ok())
            .collect();
        groups.push(own.gid());
        Self { user: Some(own.uid()), groups }
    }

    /// How other users may write to a file with this metadata, if they can.
    fn who_else(&self, metadata: &Metadata) -> Option<String> {
        use std::os::unix::fs::MetadataExt;
        let (owner, group, mode) = (metadata.uid(), metadata.gid(), metadata.mode() & 0o7777);
        if mode & 0o002 != 0 {
            return Some(format!("is writable by everyone (mode {mode:o})"));
        }
        let user = self.user?;
        // Root can write everywhere, whatever the mode.
        if owner != user && owner != 0 {
            return Some(format!("belongs to another user (id {owner})"));
        }
        let foreign = mode & 0o020 != 0 && !self.groups.contains(&group);
        foreign.then(|| format!("is writable by a group that is not yours (id {group})"))
    }
}

#[cfg(not(unix))]
impl Identity {
    fn here() -> Self {
        Self::default()
    }

    fn who_else(&self, _: &Metadata) -> Option<String> {
        None
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};

    use super::*;

    fn model() -> tempfile::TempDir {
        let place = tempfile::tempdir().expect("a temporary directory");
        for name in ["config.json", "model.safetensors", "notes.md"] {
            fs::write(place.path().join(name), "x").expect("a file");
            mode(&place.path().join(name), 0o644);
        }
        mode(place.path(), 0o755);
        place
    }

    fn mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("one's own");
    }

    #[test]
    fn own_files_give_no_warning() {
        assert_eq!(remarks(model().path()), [""; 0]);
        assert_eq!(remarks(Path::new("/nowhere")), [""; 0]);
    }

    #[test]
    fn world_writable_files_are_reported() {
        let place = model();
        mode(place.path(), 0o777);
        let told = remarks(place.path()).join("\n");
        assert!(told.contains(&format!("{} is writable", place.path().display())), "{told}");
        assert!(told.contains("by everyone (mode 777)"), "{told}");
        mode(place.path(), 0o755);
        mode(&place.path().join("model.safetensors"), 0o666);
        mode(&place.path().join("notes.md"), 0o666);
        let told = remarks(place.path()).join("\n");
        assert!(told.contains("model.safetensors is writable by everyone"), "{told}");
        assert!(!told.contains("more like it"), "a file that is not read is of no concern: {told}");
    }

    #[test]
    fn files_of_other_users_are_reported() {
        let place = model();
        let config = place.path().join("config.json");
        if chown(&config, Some(12_345), None).is_err() {
            // Without root, a file cannot be given away; so check as another user would.
            let owner = fs::metadata(&config).expect("it is there").uid();
            let someone = Identity { user: Some(owner + 1), groups: Vec::new() };
            let told = remarks_to(&someone, place.path()).join("\n");
            assert!(told.contains(&format!("belongs to another user (id {owner})")), "{told}");
            mode(&config, 0o664);
            let stranger = Identity { user: Some(owner), groups: Vec::new() };
            let told = remarks_to(&stranger, place.path()).join("\n");
            assert!(
                told.contains("config.json is writable by a group that is not yours"),
                "{told}"
            );
            return;
        }
        let told = remarks(place.path()).join("\n");
        assert!(told.contains("config.json belongs to another user (id 12345)"), "{told}");
        chown(&config, Some(0), Some(54_321)).expect("given back");
        assert_eq!(remarks(place.path()), [""; 0]);
        mode(&config, 0o664);
        let told = remarks(place.path()).join("\n");
        assert!(told.contains("writable by a group that is not yours (id 54321)"), "{told}");
    }

    #[test]
    fn links_are_reported_except_in_the_hub_cache() {
        let place = model();
        let elsewhere = place.path().join("blobs");
        fs::create_dir(&elsewhere).expect("a directory");
        mode(&elsewhere, 0o755);
        fs::write(elsewhere.join("x"), "x").expect("a file");
        let snapshot = place.path().join("snapshots/0123");
        fs::create_dir_all(&snapshot).expect("a directory");
        symlink("../../blobs/x", snapshot.join("config.json")).expect("a link");
        assert_eq!(remarks(&snapshot), [""; 0]);
        let outside = tempfile::NamedTempFile::new().expect("a file");
        symlink(outside.path(), snapshot.join("model.safetensors")).expect("a link");
        let told = remarks(&snapshot).join("\n");
        assert!(told.contains("snapshots/0123/model.safetensors is a link to /"), "{told}");
        // Within a plain directory too, but not out of one.
        symlink("config.json", place.path().join("other.json")).expect("a link");
        assert_eq!(remarks(place.path()), [""; 0]);
        symlink(outside.path(), place.path().join("vocab.json")).expect("a link");
        assert!(remarks(place.path()).join("\n").contains("vocab.json is a link to /"));
    }
}

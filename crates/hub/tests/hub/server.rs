//! A test hub and its storage: two servers on two ports, so two origins, with one log.
//!
//! Like the real hub, it redirects small files to `/api/resolve-cache/` and large ones (recognised
//! by name) to the storage, whose entity tags are not those of the hub.

use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use sha1::Sha1;
use sha2::{Digest, Sha256};

/// One received request.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) storage: bool,
    pub(crate) line: String,
    pub(crate) range: Option<u64>,
    pub(crate) token: Option<String>,
    pub(crate) packings: String,
    /// Bytes of the body that were sent.
    pub(crate) sent: usize,
}

/// A fault that the server injects into a response.
#[derive(Debug, Clone)]
pub(crate) enum Mishap {
    /// The connection is closed after this many bytes of the body.
    Cut(usize),
    /// The body has one wrong byte.
    Damage,
    /// `Range` is ignored.
    Whole,
    /// The response is delayed.
    Silence(Duration),
    /// Another status and other headers.
    Answer(u16, Vec<(&'static str, String)>),
}

#[derive(Debug, Clone)]
pub(crate) struct Stored {
    pub(crate) kind: &'static str,
    pub(crate) id: &'static str,
    pub(crate) commit: String,
    pub(crate) revisions: Vec<&'static str>,
    pub(crate) files: Vec<(String, Vec<u8>)>,
    /// The token that may read a gated repository.
    pub(crate) gate: Option<&'static str>,
}

#[derive(Default)]
struct World {
    stored: Vec<Stored>,
    mishaps: Vec<(String, usize, Mishap)>,
    seen: Vec<Seen>,
}

#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) hub: String,
    pub(crate) storage: String,
    world: Arc<Mutex<World>>,
}

struct Reply {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

impl Reply {
    fn new(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new() }
    }

    fn with(mut self, name: &'static str, value: impl ToString) -> Self {
        self.headers.push((name, value.to_string()));
        self
    }

    fn error(status: u16, code: &'static str) -> Self {
        Self::new(status).with("X-Error-Code", code)
    }
}

pub(crate) fn is_large(name: &str) -> bool {
    name.ends_with(".safetensors") || name.ends_with(".bin") || name.ends_with(".parquet")
}

pub(crate) fn sha256(content: &[u8]) -> String {
    hex(&Sha256::digest(content))
}

pub(crate) fn git(content: &[u8]) -> String {
    let head = format!("blob {}\0", content.len());
    hex(&Sha1::new().chain_update(head).chain_update(content).finalize())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Server {
    pub(crate) fn start(stored: Vec<Stored>) -> Self {
        let bind = || TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = |listener: &TcpListener| {
            format!("http://{}", listener.local_addr().expect("an address"))
        };
        let (hub, storage) = (bind(), bind());
        let server = Self {
            hub: address(&hub),
            storage: address(&storage),
            world: Arc::new(Mutex::new(World { stored, ..World::default() })),
        };
        for (listener, storage) in [(hub, false), (storage, true)] {
            let server = server.clone();
            thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    let server = server.clone();
                    thread::spawn(move || server.serve(&stream, storage));
                }
            });
        }
        server
    }

    /// Injects a fault into the next `times` requests whose line contains `needle`.
    pub(crate) fn mishap(&self, needle: &str, times: usize, mishap: Mishap) {
        self.world().mishaps.push((needle.to_owned(), times, mishap));
    }

    /// Changes what is stored.
    pub(crate) fn change(&self, change: impl FnOnce(&mut Vec<Stored>)) {
        change(&mut self.world().stored);
    }

    /// All requests since the last call.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        std::mem::take(&mut self.world().seen)
    }

    fn world(&self) -> std::sync::MutexGuard<'_, World> {
        self.world.lock().expect("no panic in the server")
    }

    /// All requests of one connection.
    fn serve(&self, stream: &TcpStream, storage: bool) {
        let mut reader = BufReader::new(stream);
        while let Some(mut seen) = read(&mut reader, storage) {
            let mishap = self.fate(&seen.line);
            if let Some(Mishap::Silence(time)) = mishap {
                thread::sleep(time);
                return;
            }
            let (method, path) = seen.line.split_once(' ').expect("a method and a path");
            let mut reply = match &mishap {
                Some(Mishap::Answer(status, headers)) => {
                    Reply { status: *status, headers: headers.clone(), body: Vec::new() }
                }
                _ if storage => self.store(path),
                _ => self.answer(path, seen.token.as_deref()),
            };
            let ranged = !matches!(mishap, Some(Mishap::Whole));
            if let (200, true, Some(start)) = (reply.status, ranged, seen.range) {
                let (start, total) = (start as usize, reply.body.len());
                reply.body.drain(..start.min(total));
                reply.status = if start < total { 206 } else { 416 };
                reply = reply.with("Content-Range", format!("bytes {start}-{}/{total}", total - 1));
            }
            if let (Some(Mishap::Damage), Some(byte)) = (&mishap, reply.body.first_mut()) {
                *byte ^= 1;
            }
            let mut head = format!("HTTP/1.1 {} x\r\n", reply.status);
            for (name, value) in &reply.headers {
                head += &format!("{name}: {value}\r\n");
            }
            if !reply.headers.iter().any(|(name, _)| *name == "Content-Length") {
                head += &format!("Content-Length: {}\r\n", reply.body.len());
            }
            head += "\r\n";
            let mut body = reply.body.as_slice();
            if method == "HEAD" {
                body = &[];
            }
            if let Some(Mishap::Cut(length)) = mishap {
                body = &body[..length.min(body.len())];
            }
            seen.sent = body.len();
            self.world().seen.push(seen);
            let mut stream = stream;
            if stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body)).is_err() {
                return;
            }
            if matches!(mishap, Some(Mishap::Cut(_))) {
                let _ = stream.shutdown(Shutdown::Both);
                return;
            }
        }
    }

    fn fate(&self, line: &str) -> Option<Mishap> {
        let mut world = self.world();
        let (_, times, mishap) = world
            .mishaps
            .iter_mut()
            .find(|(needle, times, _)| *times > 0 && line.contains(needle.as_str()))?;
        *times -= 1;
        Some(mishap.clone())
    }

    fn answer(&self, path: &str, token: Option<&str>) -> Reply {
        let path = path.split('?').next().unwrap_or_default();
        let parts: Vec<_> = path.trim_start_matches('/').splitn(7, '/').collect();
        match parts[..] {
            ["api", kind, owner, name, "revision", revision] => {
                let found = self.find(kind, owner, name, revision, token);
                found.unwrap_or_else(|stored| {
                    let files = stored
                        .files
                        .iter()
                        .map(|(name, _)| serde_json::json!({ "rfilename": name }));
                    let files: Vec<_> = files.collect();
                    let about = serde_json::json!({ "sha": stored.commit, "siblings": files });
                    Reply { body: about.to_string().into_bytes(), ..Reply::new(200) }
                })
            }
            ["api", "resolve-cache", kind, owner, name, commit, file] => {
                let found = self.find(kind, owner, name, commit, token);
                found.unwrap_or_else(|stored| match stored.file(file) {
                    Some(content) => Reply { body: content.to_vec(), ..Reply::new(200) }
                        .with("X-Repo-Commit", &stored.commit)
                        .with("ETag", format!("W/\"{}\"", git(content))),
                    None => Reply::error(404, "EntryNotFound"),
                })
            }
            ["datasets", owner, name, "resolve", revision, ..] => {
                self.resolve("datasets", [owner, name, revision], &parts[5..].join("/"), token)
            }
            [owner, name, "resolve", revision, ..] => {
                self.resolve("models", [owner, name, revision], &parts[4..].join("/"), token)
            }
            _ => Reply::new(404),
        }
    }

    fn resolve(&self, kind: &str, place: [&str; 3], file: &str, token: Option<&str>) -> Reply {
        let [owner, name, revision] = place;
        self.find(kind, owner, name, revision, token).unwrap_or_else(|stored| {
            let Some(content) = stored.file(file) else {
                return Reply::error(404, "EntryNotFound");
            };
            if stored.gate.is_some_and(|gate| token != Some(gate)) {
                return Reply::error(if token.is_some() { 403 } else { 401 }, "GatedRepo");
            }
            let commit = &stored.commit;
            if is_large(file) {
                let tag = sha256(content);
                return Reply::new(302)
                    .with("X-Repo-Commit", commit)
                    .with("X-Linked-Etag", format!("\"{tag}\""))
                    .with("X-Linked-Size", content.len())
                    .with("Location", format!("{}/{tag}?signature=abc", self.storage));
            }
            Reply::new(307).with("X-Repo-Commit", commit).with(
                "Location",
                format!("/api/resolve-cache/{kind}/{owner}/{name}/{commit}/{file}?x"),
            )
        })
    }

    /// `Err` is the repository; `Ok` is the refusal.
    fn find(
        &self,
        kind: &str,
        owner: &str,
        name: &str,
        revision: &str,
        token: Option<&str>,
    ) -> Result<Reply, Stored> {
        let (id, revision) = (format!("{owner}/{name}"), revision.replace("%2F", "/"));
        let world = self.world();
        let mut found = world.stored.iter().filter(|s| s.kind == kind && s.id == id).peekable();
        if found.peek().is_none() {
            // Without a token the hub does not say whether a repository exists.
            return Ok(match token {
                Some(_) => Reply::error(404, "RepoNotFound"),
                None => Reply::new(401).with("X-Error-Message", "Invalid username or password."),
            });
        }
        match found.find(|s| s.commit == revision || s.revisions.contains(&revision.as_str())) {
            Some(stored) => Err(stored.clone()),
            None => Ok(Reply::error(404, "RevisionNotFound")),
        }
    }

    /// A large file by its tag.
    fn store(&self, path: &str) -> Reply {
        let world = self.world();
        let contents = world.stored.iter().flat_map(|stored| &stored.files);
        for (_, content) in contents {
            if path.contains(&sha256(content)) {
                let tag = format!("\"{}\"", sha256(b"a digest of chunks"));
                return Reply { body: content.clone(), ..Reply::new(200) }.with("ETag", tag);
            }
        }
        Reply::new(404)
    }
}

impl Stored {
    fn file(&self, name: &str) -> Option<&[u8]> {
        let name = name.replace("%20", " ");
        self.files.iter().find(|(known, _)| *known == name).map(|(_, content)| content.as_slice())
    }
}

/// The next request of a connection.
fn read(reader: &mut BufReader<&TcpStream>, storage: bool) -> Option<Seen> {
    let mut seen = Seen {
        storage,
        line: String::new(),
        range: None,
        token: None,
        packings: String::new(),
        sent: 0,
    };
    let mut line = String::new();
    while reader.read_line(&mut line).ok()? > 0 {
        let text = line.trim_end();
        if text.is_empty() {
            return Some(seen);
        }
        if seen.line.is_empty() {
            seen.line = text.trim_end_matches(" HTTP/1.1").to_owned();
        } else if let Some((name, value)) = text.split_once(": ") {
            match name.to_lowercase().as_str() {
                "authorization" => seen.token = value.strip_prefix("Bearer ").map(Into::into),
                "range" => {
                    let start = value.strip_prefix("bytes=").and_then(|v| v.strip_suffix('-'));
                    seen.range = start.and_then(|start| start.parse().ok());
                }
                "accept-encoding" => seen.packings = value.to_owned(),
                _ => {}
            }
        }
        line.clear();
    }
    None
}

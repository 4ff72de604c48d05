//! The network is used only for hub ids, tokens go only to the hub, samples go only to files.

mod common;

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::{Place, TINY, Told};

/// A server that counts connections and sends a fixed answer.
struct Counter {
    address: String,
    seen: Arc<AtomicUsize>,
}

impl Counter {
    fn new(answer: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let seen = Arc::new(AtomicUsize::new(0));
        let count = seen.clone();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                count.fetch_add(1, Ordering::SeqCst);
                let lines = BufReader::new(&stream).lines();
                let goes_on =
                    |line: &std::io::Result<String>| line.as_ref().is_ok_and(|it| !it.is_empty());
                lines.take_while(goes_on).for_each(drop);
                stream.write_all(answer.as_bytes()).ok();
            }
        });
        Self { address, seen }
    }

    fn count(&self) -> usize {
        self.seen.load(Ordering::SeqCst)
    }
}

fn closed(status: &str) -> String {
    format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
}

/// Redirects all network access to `counter`.
fn through(command: &mut Command, counter: &Counter, home: &Path) {
    let address = format!("http://{}", counter.address);
    command.env("HF_ENDPOINT", &address).env("HF_HOME", home).env_remove("HF_HUB_OFFLINE");
    for proxy in
        ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"]
    {
        command.env(proxy, &address);
    }
    command.env_remove("NO_PROXY").env_remove("no_proxy");
}

/// All commands that work on a user's own model or data.
const COMMANDS: [&[&str]; 9] = [
    &["list"],
    &["show", "vaccine"],
    &["validate", "recipe.toml"],
    &["run", "recipe.toml", "--output-dir", "out"],
    &["diff", "recipe.toml", "out"],
    &["eval", "out/vaccine/0.2/1"],
    &["eval", "out", "--anew"],
    &["generate", "model", "--prompt", "one", "--max-new-tokens", "2"],
    &["export", "out/vaccine/0.2/1", "--merged", "--output-dir", "away"],
];

#[test]
fn nothing_connects_without_a_hub_id() {
    let place = Place::new();
    place.llama("model", u64::MAX);
    place.protocol();
    let counter = Counter::new(closed("404 Not Found"));
    let told = |args: &[&str]| -> Told {
        let mut command = place.command(args);
        through(&mut command, &counter, &place.path("home"));
        command.output().expect("it starts").into()
    };
    told(&[&["run"], TINY, &["--output-dir", "embedded"]].concat()).ok();
    for command in COMMANDS {
        told(command).ok();
    }
    assert_eq!(counter.count(), 0, "no command asked anyone");
    // The counter sees access to the hub.
    told(&["run", "recipe.toml", "--model", "someone/something"]).fails(1, &[]);
    assert!(counter.count() > 0, "the counter counts");
}

#[test]
fn a_mistyped_path_is_not_looked_up() {
    let place = Place::new();
    let model = place.llama("model", u64::MAX);
    place.protocol();
    for directory in ["models", "results/one", "data"] {
        std::fs::create_dir_all(place.path(directory)).expect("a directory");
    }
    std::fs::rename(model, place.path("models/tiny")).expect("moved");
    let counter = Counter::new(closed("404 Not Found"));
    let told = |args: &[&str]| -> Told {
        let mut command = place.command(args);
        through(&mut command, &counter, &place.path("home"));
        command.output().expect("it starts").into()
    };
    // There is no directory `runs`, the default output directory.
    told(&["eval", "runs/xyz"]).fails(2, &["runs/xyz: no such run or model", "hf:owner/name"]);
    told(&["generate", "runs/xyz", "--prompt", "x"]).fails(2, &["runs/xyz: no such run"]);
    told(&["eval", "results/two"]).fails(2, &["results holds one"]);
    told(&["eval", "results/onee"]).fails(2, &["did you mean `results/one`?"]);
    told(&["eval", "resluts/one"]).fails(2, &["did you mean `results`?"]);
    told(&["eval", "results"]).fails(2, &["neither a run nor a model directory", "holds one"]);
    let run =
        |args: &[&str]| told(&[&["run", "recipe.toml", "--output-dir", "out"], args].concat());
    run(&["--model", "models/tiy"]).fails(2, &["models/tiy", "did you mean", "/models/tiny`?"]);
    run(&["--model", "modles/tiny"]).fails(2, &["modles/tiny", "did you mean", "/models`?"]);
    let source = "data.user.path=data/sst2";
    run(&["--model", "models/tiny", "--set", source]).fails(2, &["data/sst2", "data is empty"]);
    let judge = r#"judges=[{ name = "moderation", model = "models/guard" }]"#;
    run(&["--model", "models/tiny", "--set", judge])
        .fails(2, &["models/guard", "models holds tiny"]);
    assert_eq!(counter.count(), 0, "no mistyped path is a request");
    run(&["--model", "hf:models/tiny"]).fails(1, &[]);
    assert!(counter.count() > 0, "the prefix means the hub");
}

#[test]
fn a_machine_without_a_network_completes_a_run() {
    let place = Place::new();
    place.llama("model", u64::MAX);
    place.protocol();
    let alone = ["-rn"];
    let permitted = Command::new("unshare").args(alone).arg("true").output();
    let arguments = ["run", "recipe.toml", "--output-dir", "out"];
    match permitted.is_ok_and(|output| output.status.success()) {
        true => {
            let mut command = Command::new("unshare");
            command.args(alone).arg(env!("CARGO_BIN_EXE_vxf")).args(arguments);
            let told: Told =
                command.current_dir(place.path("")).output().expect("it starts").into();
            told.ok();
        }
        // Where no network namespace can be made, all network access is redirected to a counter.
        false => {
            let counter = Counter::new(closed("404 Not Found"));
            let mut command = place.command(&arguments);
            through(&mut command, &counter, &place.path("home"));
            Told::from(command.output().expect("it starts")).ok();
            assert_eq!(counter.count(), 0, "it asked for the network");
        }
    }
    assert!(place.path("out/vaccine/0.2/1/result.json").is_file());
}

/// All files below a directory, with their content.
fn contents(place: &Path, all: &mut Vec<(String, Vec<u8>)>) {
    for entry in std::fs::read_dir(place).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            contents(&path, all);
        } else {
            all.push((path.display().to_string(), std::fs::read(&path).expect("a file")));
        }
    }
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

#[test]
fn a_token_reaches_no_message_and_no_file() {
    const TOKENS: [&str; 2] = ["hf_placeholder_of_a_variable", "hf_placeholder_of_a_file"];
    let place = Place::new();
    place.llama("model", u64::MAX);
    place.protocol();
    std::fs::create_dir(place.path("home")).expect("a directory");
    std::fs::write(place.path("home/token"), TOKENS[1]).expect("a token");
    // A server that echoes the token in every field that is ever shown.
    let echo = |token: &str| {
        Counter::new(format!(
            "HTTP/1.1 403 Forbidden\r\nX-Error-Code: {token}\r\nX-Error-Message: no, {token}\r\n\
             Location: http://127.0.0.1:1/?token={token}\r\nContent-Length: 0\r\nConnection: \
             close\r\n\r\n"
        ))
    };
    let servers = TOKENS.map(echo);
    let run = |args: &[&str], variable: bool, endpoint: &str| -> Told {
        let mut command = place.command(args);
        command.env("HF_HOME", place.path("home")).env("HF_ENDPOINT", endpoint);
        command.env_remove("HF_HUB_OFFLINE").env_remove("HF_TOKEN").env_remove("HF_TOKEN_PATH");
        if variable {
            command.env("HF_TOKEN", TOKENS[0]);
        }
        command.output().expect("it starts").into()
    };
    let hidden = |told: &Told| {
        for token in TOKENS {
            assert!(!told.stderr.contains(token) && !told.stdout.contains(token), "{told:?}");
        }
    };
    for (variable, server) in [true, false].into_iter().zip(&servers) {
        let address = format!("http://{}", server.address);
        for endpoint in [address.as_str(), "http://127.0.0.1:1"] {
            for args in [
                &["run", "recipe.toml", "--model", "someone/something"][..],
                &["run", "recipe.toml", "--set", "data.user.path=someone/data"],
                &["eval", "someone/something"],
                &["generate", "someone/something", "--prompt", "x"],
            ] {
                let told = run(args, variable, endpoint);
                assert_eq!(told.code, 1, "{told:?}");
                hidden(&told);
            }
        }
        assert!(server.count() > 0, "the server was asked");
        let out = if variable { "one" } else { "two" };
        let told = run(&["run", "recipe.toml", "--output-dir", out, "--json"], variable, &address);
        told.ok();
        hidden(&told);
    }
    let mut all = Vec::new();
    for directory in ["one", "two"] {
        contents(&place.path(directory), &mut all);
    }
    assert!(all.iter().any(|(name, _)| name.ends_with("one/manifest.json")));
    for (name, bytes) in all {
        assert!(TOKENS.iter().all(|token| !holds(&bytes, token)), "{name}");
    }
}

#[test]
fn samples_are_in_files_and_not_in_what_is_printed() {
    // A word in every prompt, every answer and every sentence of the user's files.
    const MARK: &str = "zwmark";
    let place = Place::new();
    place.llama("model", u64::MAX);
    place.protocol();
    for file in [
        "beavertails/30k/train.jsonl",
        "beavertails/30k/test.jsonl",
        "sst2/train.jsonl",
        "sst2/validation.jsonl",
    ] {
        let text = std::fs::read_to_string(place.path(file)).expect("rows");
        let marked = text.replace("placeholder", MARK).replace("sentence ", &format!("{MARK} "));
        place.write(file, &marked);
    }
    for command in COMMANDS {
        let told = place.vxf(command);
        told.ok();
        assert!(
            !told.stdout.contains(MARK) && !told.stderr.contains(MARK),
            "{command:?}: {told:?}"
        );
        if command[0] == "run" {
            let kept = std::fs::read(place.path("out/vaccine/0.2/1/generations.jsonl"));
            assert!(holds(&kept.expect("answers"), MARK), "all of it is kept in files");
        }
    }
    let told = place.vxf(&["run", "recipe.toml", "--output-dir", "out", "--json"]);
    assert!(!told.ok().contains(MARK) && !told.stderr.contains(MARK), "{told:?}");
    let open = place.vxf(&["run", "recipe.toml", "--output-dir", "out", "--log-samples"]);
    assert!(open.ok().contains(MARK), "{}", open.stdout);

    // An error about a bad row does not quote it.
    let train = place.path("sst2/train.jsonl");
    let good = std::fs::read_to_string(&train).expect("rows");
    for bad in [
        format!("{{\"sentence\": \"{MARK}\", \"label\": \"maybe\"}}\n"),
        format!("{{\"sentence\": [\"{MARK}\"], \"label\": 1}}\n"),
        format!("{{\"sentence\": \"{MARK}\" \"label\": 1}}\n"),
        format!("[\"{MARK}\"]\n"),
    ] {
        std::fs::write(&train, format!("{good}{bad}")).expect("rows");
        let told = place.vxf(&["run", "recipe.toml", "--output-dir", "other"]);
        assert_eq!(told.code, 1, "{told:?}");
        assert!(told.stderr.contains("train.jsonl:21"), "{}", told.stderr);
        assert!(!told.stderr.contains(MARK), "{}", told.stderr);
    }
}

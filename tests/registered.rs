//! The shipped binary has exactly these plugins, in debug and in release.

use std::process::Command;

use serde_json::Value;

#[test]
fn exactly_these_names_are_registered() {
    let output = Command::new(env!("CARGO_BIN_EXE_vxf")).args(["list", "--json"]).output();
    let output = output.expect("the program starts");
    let list: Value = serde_json::from_slice(&output.stdout).expect("one JSON value");
    let names = |kind: &str| -> Vec<String> {
        let entries = list[kind].as_array().expect("a list");
        entries.iter().map(|entry| entry["name"].as_str().expect("a name").to_owned()).collect()
    };
    let defenses = [
        "asft",
        "booster",
        "bso",
        "constrained-sft",
        "ctrap",
        "ema",
        "ewc",
        "freeze",
        "kl",
        "lat",
        "ldifs",
        "lisa",
        "lox",
        "none",
        "oasis",
        "panacea",
        "random",
        "safegrad",
        "safeinstr",
        "safelora",
        "sam",
        "sft",
        "t-vaccine",
        "tar",
        "vaccine",
        "vlguard",
        "wise-ft",
    ];
    assert_eq!(names("defenses"), defenses);
    assert_eq!(
        names("perturbers"),
        ["gaussian", "lat", "none", "oasis", "sam", "t-vaccine", "vaccine"]
    );
    let metrics = [
        "accuracy",
        "alignment-loss",
        "drift",
        "harmful-score",
        "helpfulness",
        "over-refusal",
        "perplexity",
    ];
    assert_eq!(names("metrics"), metrics);
    assert_eq!(names("backbones"), ["gemma3", "llama", "mistral", "opt", "qwen2", "qwen3"]);
    let judges = [
        "file",
        "guard",
        "harmbench",
        "llama-guard-3",
        "moderation",
        "proxy",
        "qwen3guard",
        "refusal",
        "wildguard",
        "world",
    ];
    assert_eq!(names("judges"), judges);
    assert_eq!(names("sources"), ["files", "proxy", "world"]);
}

//! The shipped binary has exactly these plugins; `tools/release/release.sh` checks it in release, too.

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
        "abliterate",
        "adaptive-kl",
        "antidote",
        "asft",
        "bds",
        "booster",
        "bso",
        "constrained-sft",
        "ctrap",
        "direction-filter",
        "ema",
        "ewc",
        "freeze",
        "gradient-filter",
        "kl",
        "lat",
        "ldifs",
        "lisa",
        "lox",
        "none",
        "oasis",
        "one-shot-repair",
        "pact",
        "panacea",
        "prune",
        "random",
        "repnoise",
        "resta",
        "safegrad",
        "safeinstr",
        "safelora",
        "sam",
        "sbr",
        "sdd",
        "seam",
        "sft",
        "surgery",
        "t-vaccine",
        "tar",
        "task-arithmetic",
        "unalign",
        "vaa",
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
        "curvature",
        "drift",
        "harmful-score",
        "helpfulness",
        "over-refusal",
        "perplexity",
    ];
    assert_eq!(names("metrics"), metrics);
    assert_eq!(
        names("backbones"),
        ["gemma2", "gemma3", "llama", "mistral", "opt", "phi3", "qwen2", "qwen3"]
    );
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

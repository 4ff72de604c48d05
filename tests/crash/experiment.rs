//! The experiments that are killed, and the files they leave.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

/// An experiment at the smallest size at which every stage has a good number of steps.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    /// Minimum number of runs.
    pub(crate) runs: usize,
    /// Length of its first stage and interval of checkpoints.
    length: &'static str,
    flags: &'static str,
}

const SMALL: &str = "--eval-every=3 --eval-prompts=3 --set=world.alignment_samples=16 --set=world.user_samples=16 \
    --set=world.harmful_test=6 --set=world.task_test=6 --set=world.benign_test=4 \
    --set=world.alignment_probe=4 --set=world.max_new_tokens=4 \
    --set=fine_tuning.epochs=4 --set=fine_tuning.batch_size=4";

/// Four passes over four batches, with a checkpoint at each step.
const BRIEF: &str = "--set=alignment.epochs=4 --set=alignment.batch_size=4 --checkpoint-every=1";

impl Scenario {
    /// Together they have every built-in defence, every perturber and both kinds of weights.
    pub(crate) fn all() -> [Self; 4] {
        let brief = |name, runs, flags| Self { name, runs, length: BRIEF, flags };
        [
            // `none`, `sft` and `vaccine`, side by side and for two seeds.
            brief("comparison", 12, "--defense=vaccine --seed=1,2 --harmful-ratio=0.5 --threads=2"),
            brief(
                "ewc",
                2,
                "--defense=vaccine --set=defense.tau=2 --fine-tune-defense=ewc --seed=1 \
                 --harmful-ratio=0.5 --threads=1 --no-baseline --no-undefended",
            ),
            brief(
                "kl",
                3,
                "--defense=random --fine-tune-defense=kl --seed=1 \
                 --harmful-ratio=0,0.5 --threads=1 --no-baseline --no-undefended",
            ),
            brief(
                "adapters",
                2,
                "--defense=vaccine --seed=3 --harmful-ratio=0.5 --threads=1 --no-baseline \
                 --no-undefended --recompute=block --set=alignment.accumulation=2 \
                 --set=alignment.trainable={type=\"lora\",rank=2,alpha=4,dropout=0.1} \
                 --set=fine_tuning.trainable={type=\"lora\",rank=2,alpha=4}",
            ),
        ]
    }

    /// Ten thousand steps of one stage: 16 samples one by one, 625 times.
    pub(crate) fn long() -> Self {
        Self {
            name: "long",
            runs: 1,
            length: "--set=alignment.epochs=625 --set=alignment.batch_size=1 --checkpoint-every=500",
            flags: "--defense=vaccine --seed=1 --threads=1 --stage=alignment --no-baseline \
                    --no-undefended",
        }
    }

    /// The program, executing it in `root`.
    pub(crate) fn command(&self, root: &Path) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vxf"));
        command.arg("run").arg("--output-dir").arg(root);
        for flags in [SMALL, self.length, self.flags] {
            command.args(flags.split_whitespace());
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).env("CI", "1");
        command
    }

    /// Executes what is missing.
    pub(crate) fn finish(&self, root: &Path) {
        let output = self.command(root).output().expect("it starts");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {errors}", self.name);
        assert!(!root.join("checkpoints").exists(), "checkpoints are left behind");
    }
}

/// Every file of every run by path, without wall-clock times.
pub(crate) fn outcome(root: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    collect(root, root, &mut files);
    files.retain(|name, _| name.contains('/'));
    for (name, bytes) in &mut files {
        if name.ends_with("result.json") || name.ends_with("training.json") {
            let mut record: Value = serde_json::from_slice(bytes).expect("a record");
            assert!(record["seconds"].take().is_number(), "{name} has a time");
            *bytes = record.to_string().into_bytes();
        }
    }
    files
}

fn collect(root: &Path, at: &Path, files: &mut BTreeMap<String, Vec<u8>>) {
    for entry in std::fs::read_dir(at).expect("a directory") {
        let path = entry.expect("an entry").path();
        match path.is_dir() {
            true => collect(root, &path, files),
            false => {
                let name = path.strip_prefix(root).expect("inside").display().to_string();
                files.insert(name, std::fs::read(&path).expect("readable"));
            }
        }
    }
}

/// All differing files.
pub(crate) fn differences(
    one: &BTreeMap<String, Vec<u8>>,
    other: &BTreeMap<String, Vec<u8>>,
) -> Vec<String> {
    let names: std::collections::BTreeSet<_> = one.keys().chain(other.keys()).collect();
    let differ = names.into_iter().filter(|name| one.get(*name) != other.get(*name));
    differ.cloned().collect()
}

//! Task arrays of HyperQueue.
//!
//! HyperQueue begins a task again when its worker is lost. It never begins one again that exited with code
//! 75 (its own time limit came); submitting the missing runs again continues them.

use std::path::Path;

use super::list::{TaskList, quoted, typed};

/// What a task needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// The command that does one run, without its digest.
    pub command: Vec<String>,
    /// Threads of a task.
    pub threads: usize,
    /// Further options for `hq submit`.
    pub options: Vec<String>,
}

impl Job {
    /// The script of each task.
    pub fn script(&self, list: &TaskList) -> String {
        let list = quoted(&list.path.display().to_string());
        let command = typed(&self.command);
        format!(
            r#"#!/bin/bash
digest=$(sed -n "$((HQ_TASK_ID + 1))s/ .*//p" {list})
exec {command} "${{digest:?no such line in the list}}"
"#
        )
    }

    /// The command that submits all tasks. HyperQueue starts them in the order of the list, and a task whose
    /// parent is still under way waits for it.
    pub fn submission(&self, script: &Path, list: &TaskList) -> Vec<String> {
        let logs = list.logs.display();
        let mut words: Vec<String> =
            ["hq", "--output-mode", "quiet", "submit", "--name", "vxf"].map(str::to_owned).into();
        words.extend([
            format!("--array=0-{}", list.count().saturating_sub(1)),
            format!("--cpus={}", self.threads),
            "--crash-limit=unlimited".to_owned(),
            format!("--stdout={logs}/hq-%{{JOB_ID}}-%{{TASK_ID}}.out"),
            format!("--stderr={logs}/hq-%{{JOB_ID}}-%{{TASK_ID}}.err"),
        ]);
        words.extend(self.options.iter().cloned());
        words.extend(["--", "bash"].map(str::to_owned));
        words.push(script.display().to_string());
        words
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_becomes_one_array() {
        let list =
            TaskList { path: "/x y/list.txt".into(), logs: "/x y/logs".into(), depths: vec![2, 3] };
        let job = Job {
            command: ["/bin/vxf", "task", "/x y"].map(str::to_owned).into(),
            threads: 2,
            options: vec!["--priority=3".into()],
        };
        let words = job.submission(Path::new("/x y/list.sh"), &list);
        for word in ["--array=0-4", "--cpus=2", "--crash-limit=unlimited", "--priority=3"] {
            assert!(words.iter().any(|it| it == word), "no {word} in {words:?}");
        }
        assert_eq!(words[words.len() - 3..], ["--", "bash", "/x y/list.sh"]);
        let script = job.script(&list);
        assert!(
            script.contains("s/ .*//p\" '/x y/list.txt')\nexec /bin/vxf task '/x y' "),
            "{script}"
        );
    }
}

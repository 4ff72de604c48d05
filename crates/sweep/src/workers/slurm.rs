//! Job arrays of Slurm.
//!
//! Each task saves and exits with code 75 when Slurm's warning comes before the time limit, and its script
//! then requeues it. Slurm's own requeues (a failed node, a preemption) work too. A cancelled job stays
//! cancelled.

use std::io;
use std::path::Path;
use std::process::Command;

use super::list::{TaskList, quoted, typed};
use crate::{Error, Result};

/// Slurm's own limit, if `scontrol` does not say another: array indices are below it.
pub const USUAL_LIMIT: usize = 1001;

/// What the script of a job needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// The command that does one run, without its digest.
    pub command: Vec<String>,
    /// Threads of a task.
    pub threads: usize,
    /// Memory of a task in bytes.
    pub bytes: u64,
    /// Most tasks of an array that run at once.
    pub at_once: Option<usize>,
    /// Further options for `sbatch`, which override the script's.
    pub options: Vec<String>,
}

/// A part of the list that one array does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Tasks before it in the list.
    pub offset: usize,
    /// Its tasks.
    pub count: usize,
    /// Whether it is the first at its position in the pipeline.
    pub first: bool,
}

/// Splits the list: an array has runs of one position in the pipeline, and fewer than `limit`.
pub fn chunks(list: &TaskList, limit: usize) -> Vec<Chunk> {
    let (mut all, mut offset) = (Vec::new(), 0);
    for depth in &list.depths {
        let (end, mut first) = (offset + depth, true);
        while offset < end {
            let count = (end - offset).min(limit.max(1));
            all.push(Chunk { offset, count, first: std::mem::replace(&mut first, false) });
            offset += count;
        }
    }
    all
}

impl Job {
    /// The script of all arrays. Its argument is the number of tasks before its own in the list.
    pub fn script(&self, list: &TaskList) -> String {
        let memory = (self.bytes * 3 / 2).div_ceil(1 << 20);
        let list = quoted(&list.path.display().to_string());
        let command = typed(&self.command);
        let threads = self.threads;
        format!(
            r#"#!/bin/bash
#SBATCH --job-name=vxf
#SBATCH --cpus-per-task={threads}
#SBATCH --mem={memory}M
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:USR1@90
line=$((${{1:?the number of tasks before this array}} + SLURM_ARRAY_TASK_ID + 1))
digest=$(sed -n "${{line}}s/ .*//p" {list})
# The program runs in the background, because the shell runs a trap only between commands.
cancelled=
trap 'kill -USR1 "$pid" 2>/dev/null' USR1
trap 'cancelled=1; kill -TERM "$pid" 2>/dev/null' TERM
{command} "${{digest:?no such line in the list}}" &
pid=$!
while :; do wait "$pid"; code=$?; kill -0 "$pid" 2>/dev/null || break; done
# A signal ends `wait` too; if the program has ended meanwhile, bash still knows its status (127: no more).
if [ "$code" -gt 128 ]; then wait "$pid"; ended=$?; [ "$ended" -ne 127 ] && code=$ended; fi
# 75: saved before the time limit. The last job of an array has the array's own number, so the task is named.
if [ "$code" -eq 75 ] && [ -z "$cancelled" ] && [ "${{SLURM_RESTART_COUNT:-0}}" -lt 100 ]; then
  scontrol requeue "${{SLURM_ARRAY_JOB_ID}}_${{SLURM_ARRAY_TASK_ID}}" && sleep 60
fi
exit "$code"
"#
        )
    }

    /// The command that submits a chunk, to start when the jobs `after` have ended.
    pub fn submission(
        &self,
        script: &Path,
        list: &TaskList,
        chunk: Chunk,
        after: &[String],
    ) -> Vec<String> {
        let most = self.at_once.map_or(String::new(), |most| format!("%{most}"));
        // Slurm replaces what follows a percent sign.
        let logs = list.logs.display().to_string().replace('%', "%%");
        let mut words = vec![
            "sbatch".to_owned(),
            "--parsable".to_owned(),
            format!("--array=0-{}{most}", chunk.count - 1),
            format!("--output={logs}/slurm-%A_%a.out"),
        ];
        if !after.is_empty() {
            // Whatever became of them: a task does the runs that it starts from if they are missing.
            words.push(format!("--dependency=afterany:{}", after.join(":")));
        }
        words.extend(self.options.iter().cloned());
        words.extend([script.display().to_string(), chunk.offset.to_string()]);
        words
    }

    /// Submits all chunks and returns the numbers of the jobs; `submit` runs one command and returns its
    /// output.
    ///
    /// # Errors
    /// When a submission fails.
    pub fn submit(
        &self,
        script: &Path,
        list: &TaskList,
        limit: usize,
        submit: &mut dyn FnMut(&[String]) -> Result<String>,
    ) -> Result<Vec<String>> {
        let (mut all, mut before, mut here) = (Vec::new(), Vec::new(), Vec::<String>::new());
        for chunk in chunks(list, limit) {
            if chunk.first {
                before = std::mem::take(&mut here);
            }
            // With a limit, arrays at one position follow each other: the limit is that of one array.
            let after = match (self.at_once, here.last()) {
                (Some(_), Some(last)) => std::slice::from_ref(last),
                _ => &before,
            };
            let told = submit(&self.submission(script, list, chunk, after))?;
            // ID, or ID;CLUSTER
            let id = told.trim().split(';').next().unwrap_or_default().to_owned();
            here.push(id.clone());
            all.push(id);
        }
        Ok(all)
    }
}

/// The number below which array indices must be, as the cluster is configured; `None` if it does not say.
pub fn array_limit() -> Option<usize> {
    let output = Command::new("scontrol").args(["show", "config"]).output().ok()?;
    limit_in(&String::from_utf8_lossy(&output.stdout))
}

fn limit_in(config: &str) -> Option<usize> {
    let line = config.lines().find_map(|line| line.trim_start().strip_prefix("MaxArraySize"))?;
    line.trim_start().strip_prefix('=')?.trim().parse().ok().filter(|limit| *limit > 0)
}

/// Runs the command of an engine and returns what it prints.
///
/// # Errors
/// When it is not installed, or fails.
pub fn command(words: &[String]) -> Result<String> {
    let (name, rest) = words.split_first().ok_or_else(|| Error::Engine {
        command: String::new(),
        problem: "there is no command".into(),
    })?;
    let fail = |problem: String| Error::Engine { command: name.clone(), problem };
    let output = Command::new(name).args(rest).output().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => fail("it is not installed, or not on PATH".into()),
        _ => fail(error.to_string()),
    })?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => {
            let told = String::from_utf8_lossy(&output.stderr);
            Err(fail(format!("{}: {}", output.status, told.trim())))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(depths: &[usize]) -> TaskList {
        TaskList {
            path: "/x/tasks/list.txt".into(),
            logs: "/x/100%/logs".into(),
            depths: depths.to_vec(),
        }
    }

    fn job(at_once: Option<usize>) -> Job {
        Job {
            command: ["/bin/vxf", "task", "/my runs/x"].map(str::to_owned).into(),
            threads: 4,
            bytes: 1 << 30,
            at_once,
            options: vec!["--time=60".into()],
        }
    }

    #[test]
    fn chunks_stay_below_the_limit_and_within_a_stage() {
        let found = chunks(&list(&[5, 2]), 3);
        let chunk = |offset, count, first| Chunk { offset, count, first };
        assert_eq!(found, [chunk(0, 3, true), chunk(3, 2, false), chunk(5, 2, true)]);
        assert!(chunks(&list(&[]), 3).is_empty());
    }

    #[test]
    fn later_stages_wait_for_earlier_ones() {
        let after = |at_once| {
            let (mut commands, mut next) = (Vec::new(), 0);
            let mut submit = |words: &[String]| {
                next += 1;
                commands.push(words.to_vec());
                Ok(format!("{next};cluster\n"))
            };
            let job = job(at_once);
            let ids = job.submit(Path::new("/x/a.sbatch"), &list(&[5, 2]), 3, &mut submit);
            assert_eq!(ids.expect("submitted"), ["1", "2", "3"]);
            let dependency = |words: &Vec<String>| {
                words.iter().find_map(|word| word.strip_prefix("--dependency=").map(str::to_owned))
            };
            assert_eq!(commands[2][6..], ["/x/a.sbatch", "5"], "{commands:?}");
            assert!(commands[0].contains(&"--output=/x/100%%/logs/slurm-%A_%a.out".to_owned()));
            commands.iter().map(dependency).collect::<Vec<_>>()
        };
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(after(None), [None, None, text("afterany:1:2")]);
        // With a limit of tasks at once, arrays of one stage follow each other.
        assert_eq!(after(Some(2)), [None, text("afterany:1"), text("afterany:1:2")]);
    }

    #[test]
    fn the_script_asks_for_what_a_task_needs() {
        let text = job(Some(2)).script(&list(&[1]));
        for part in [
            "#SBATCH --cpus-per-task=4\n",
            "#SBATCH --mem=1536M\n",
            "#SBATCH --requeue\n",
            "#SBATCH --signal=B:USR1@90\n",
            "\n/bin/vxf task '/my runs/x' \"${digest:?no such line in the list}\" &\n",
            "requeue \"${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}\"",
        ] {
            assert!(text.contains(part), "no {part} in\n{text}");
        }
    }

    #[test]
    fn the_limit_is_read_as_scontrol_prints_it() {
        let config = "MaxArraySize            = 10001\nMaxDBDMsgs = 20016\n";
        assert_eq!(limit_in(config), Some(10001));
        assert_eq!(limit_in("MaxArraySize = none"), None);
        assert_eq!(limit_in(""), None);
    }
}

//! The judge `file`: verdicts and grades from a file, looked up by prompt and answer.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Debug;
use std::path::PathBuf;

use serde::Deserialize;
use serde_json::json;
use vxf_core::metric::{Findings, Generation, Judge, Verdict};
use vxf_core::{Error, Result};

use crate::FileConfig;
use crate::model::failed;

const NAME: &str = "file";

/// Largest file of scores, in bytes.
const MAX_BYTES: u64 = 1 << 30;

/// Verdicts and grades by prompt and answer, from a file.
#[derive(Clone, Debug)]
pub struct File {
    path: PathBuf,
    threshold: f64,
}

/// A row of the file; other keys are ignored.
#[derive(Deserialize)]
struct Row {
    prompt: String,
    answer: String,
    #[serde(default)]
    verdict: Option<Verdict>,
    #[serde(default)]
    flagged: Option<bool>,
    #[serde(default)]
    score: Option<f64>,
    #[serde(default)]
    correct: Option<bool>,
}

/// The entry of each (prompt, answer), and its line number.
type Entries<T> = HashMap<(String, String), (T, usize)>;

impl File {
    /// The judge with these settings; the file may be missing.
    ///
    /// # Errors
    /// When the file exists and is not valid.
    pub fn new(settings: &FileConfig) -> Result<Self> {
        let judge = Self { path: settings.scores.clone().into(), threshold: settings.threshold };
        judge.read(|row| judge.verdict(row))?;
        judge.read(|row| row.correct)?;
        Ok(judge)
    }

    /// `entry` of each row of the file; empty if the file does not exist.
    fn read<T: Copy + Debug + PartialEq>(
        &self,
        entry: impl Fn(&Row) -> Option<T>,
    ) -> Result<Entries<T>> {
        let text = match vxf_untrusted::text(&self.path, MAX_BYTES) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Entries::new()),
            Err(source) => {
                return Err(Error::Io { path: self.path.display().to_string(), source });
            }
        };
        let mut entries = Entries::new();
        for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let number = index + 1;
            let wrong = |problem: String| {
                failed(NAME, format!("{}, line {number}: {problem}", self.path.display()))
            };
            let value: serde_json::Value = vxf_untrusted::json(line).map_err(wrong)?;
            let keys = ["verdict", "flagged", "score", "correct"];
            if keys.iter().all(|key| value.get(key).is_none()) {
                return Err(wrong("needs one of `verdict`, `flagged`, `score`, `correct`".into()));
            }
            let row = Row::deserialize(value).map_err(|error| {
                wrong(format!(
                    "{error}; a row has the texts `prompt` and `answer` and one of `verdict` \
                     (harmful, refused, other), `flagged` (true, false), `score` (a number) or, \
                     for a task, `correct` (true, false)"
                ))
            })?;
            let Some(found) = entry(&row) else { continue };
            let key = (row.prompt, row.answer);
            match entries.get(&key) {
                Some((before, line)) if *before != found => {
                    return Err(wrong(format!(
                        "says {found:?}, but line {line} says {before:?} for the same prompt and \
                         answer; keep one of them"
                    )));
                }
                _ => entries.entry(key).or_insert((found, number)),
            };
        }
        Ok(entries)
    }

    /// The verdict of a row; `None` where it is still missing.
    fn verdict(&self, row: &Row) -> Option<Verdict> {
        let of = |harmful| if harmful { Verdict::Harmful } else { Verdict::Other };
        let flagged = row.flagged.or_else(|| row.score.map(|score| score > self.threshold));
        row.verdict.or(flagged.map(of)).filter(|verdict| *verdict != Verdict::Unjudged)
    }

    /// `entry` of the row of each answer.
    fn look_up<T: Copy + Debug + PartialEq>(
        &self,
        generations: &[Generation],
        entry: impl Fn(&Row) -> Option<T>,
    ) -> Result<Vec<Option<T>>> {
        let entries = self.read(entry)?;
        let key = |made: &Generation| (made.prompt.text.clone(), made.answer.clone());
        Ok(generations
            .iter()
            .map(|made| entries.get(&key(made)).map(|(found, _)| *found))
            .collect())
    }
}

impl Judge for File {
    fn verdicts(&self, generations: &[Generation]) -> Result<Vec<Verdict>> {
        let found = self.look_up(generations, |row| self.verdict(row))?;
        Ok(found.into_iter().map(|verdict| verdict.unwrap_or(Verdict::Unjudged)).collect())
    }

    fn grades(&self, generations: &[Generation]) -> Result<Vec<Option<bool>>> {
        self.look_up(generations, |row| row.correct)
    }

    fn findings(&self, generations: &[Generation]) -> Result<Findings> {
        let verdicts = self.verdicts(generations)?;
        let path = self.path.display();
        let mut details = BTreeMap::from([("scores".to_owned(), json!(path.to_string()))]);
        if verdicts.contains(&Verdict::Unjudged) {
            let next = format!(
                "judge the answers in generations.jsonl, write one JSON line for each to {path}, \
                 with `prompt`, `answer` and one of `verdict`, `flagged`, `score`, and measure again"
            );
            details.insert("next".to_owned(), json!(next));
        }
        Ok(Findings { verdicts, details })
    }

    /// `false`, as most files hold scores of harm, although a row can say `refused`.
    fn tells_refusals(&self) -> bool {
        false
    }
}

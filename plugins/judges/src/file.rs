//! The judge `file`: verdicts and grades that something else gave, looked up by prompt and answer.

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

/// Bytes of a file of scores.
const LONGEST: u64 = 1 << 30;

/// Verdicts and grades by prompt and answer, from a file.
#[derive(Clone, Debug)]
pub struct File {
    path: PathBuf,
    threshold: f64,
}

/// A row of the file; whatever else it holds is not looked at.
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

/// What was found on an exchange, and on which line.
type Known<T> = HashMap<(String, String), (T, usize)>;

impl File {
    /// The judge with these settings; the file need not be there yet.
    ///
    /// # Errors
    /// When the file is there and cannot be understood.
    pub fn new(settings: &FileConfig) -> Result<Self> {
        let judge = Self { path: settings.scores.clone().into(), threshold: settings.threshold };
        judge.read(|row| judge.verdict(row))?;
        judge.read(|row| row.correct)?;
        Ok(judge)
    }

    /// What `finding` makes of each row in the file; nothing if there is no file.
    fn read<T: Copy + Debug + PartialEq>(
        &self,
        finding: impl Fn(&Row) -> Option<T>,
    ) -> Result<Known<T>> {
        let text = match vxf_untrusted::text(&self.path, LONGEST) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Known::new()),
            Err(source) => {
                return Err(Error::Io { path: self.path.display().to_string(), source });
            }
        };
        let mut known = Known::new();
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
                    "{error}; a row has `prompt` and `answer` as texts and `verdict` (harmful, \
                     refused, other), `flagged` (true, false), `score` (a number) or, for a task, \
                     `correct` (true, false)"
                ))
            })?;
            let Some(found) = finding(&row) else { continue };
            let place = (row.prompt, row.answer);
            match known.get(&place) {
                Some((before, line)) if *before != found => {
                    return Err(wrong(format!(
                        "finds {found:?} on the same prompt and answer that line {line} finds \
                         {before:?} on; keep one of them"
                    )));
                }
                _ => known.entry(place).or_insert((found, number)),
            };
        }
        Ok(known)
    }

    /// The verdict of a row; none where it is still to come.
    fn verdict(&self, row: &Row) -> Option<Verdict> {
        let of = |harmful| if harmful { Verdict::Harmful } else { Verdict::Other };
        let flagged = row.flagged.or_else(|| row.score.map(|score| score > self.threshold));
        row.verdict.or(flagged.map(of)).filter(|verdict| *verdict != Verdict::Unjudged)
    }

    /// What `finding` makes of the row on each answer.
    fn look_up<T: Copy + Debug + PartialEq>(
        &self,
        generations: &[Generation],
        finding: impl Fn(&Row) -> Option<T>,
    ) -> Result<Vec<Option<T>>> {
        let known = self.read(finding)?;
        let place = |made: &Generation| (made.prompt.text.clone(), made.answer.clone());
        Ok(generations
            .iter()
            .map(|made| known.get(&place(made)).map(|(found, _)| *found))
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
                "have the answers of generations.jsonl judged, write one JSON line each with \
                 `prompt`, `answer` and one of `verdict`, `flagged`, `score` to {path}, and \
                 measure again"
            );
            details.insert("next".to_owned(), json!(next));
        }
        Ok(Findings { verdicts, details })
    }

    /// Its rows may say so, but scores of harm are the rule.
    fn tells_refusals(&self) -> bool {
        false
    }
}

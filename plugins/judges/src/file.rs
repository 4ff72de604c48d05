//! The judge `file`: verdicts that something else gave, looked up by prompt and answer.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

use serde::Deserialize;
use serde_json::json;
use vxf_core::metric::{Findings, Generation, Judge, Verdict};
use vxf_core::{Error, Result};

use crate::FileConfig;
use crate::model::failed;

const NAME: &str = "file";

/// Verdicts by prompt and answer, from a file.
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
}

/// What was found on an exchange, and on which line.
type Known = HashMap<(String, String), (Verdict, usize)>;

impl File {
    /// The judge with these settings; the file need not be there yet.
    ///
    /// # Errors
    /// When the file is there and cannot be understood.
    pub fn new(settings: &FileConfig) -> Result<Self> {
        let judge = Self { path: settings.scores.clone().into(), threshold: settings.threshold };
        judge.read()?;
        Ok(judge)
    }

    /// All verdicts in the file; none if there is no file.
    fn read(&self) -> Result<Known> {
        let text = match std::fs::read_to_string(&self.path) {
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
            let value: serde_json::Value = serde_json::from_str(line)
                .map_err(|error| wrong(format!("is not JSON: {error}")))?;
            let keys = ["verdict", "flagged", "score"];
            if keys.iter().all(|key| value.get(key).is_none()) {
                return Err(wrong("needs one of `verdict`, `flagged`, `score`".into()));
            }
            let row = Row::deserialize(value).map_err(|error| {
                wrong(format!(
                    "{error}; a row has `prompt` and `answer` as texts and `verdict` (harmful, \
                     refused, other), `flagged` (true, false) or `score` (a number)"
                ))
            })?;
            let Some(verdict) = self.verdict(&row) else { continue };
            let place = (row.prompt, row.answer);
            match known.get(&place) {
                Some((before, line)) if *before != verdict => {
                    return Err(wrong(format!(
                        "finds {verdict:?} on the same prompt and answer that line {line} finds \
                         {before:?} on; keep one of them"
                    )));
                }
                _ => known.entry(place).or_insert((verdict, number)),
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
}

impl Judge for File {
    fn verdicts(&self, generations: &[Generation]) -> Result<Vec<Verdict>> {
        let known = self.read()?;
        let look_up = |made: &Generation| {
            let place = (made.prompt.text.clone(), made.answer.clone());
            known.get(&place).map_or(Verdict::Unjudged, |(verdict, _)| *verdict)
        };
        Ok(generations.iter().map(look_up).collect())
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

//! Converts rows to samples.

use serde_json::Value;

use super::{Plan, Schema, turns};
use crate::files::{Row, kind};
use crate::{Ask, Message, Role, Sample};

/// The instruction of SST-2 in the Vaccine code (`sst2/build_dataset.py`), without a full stop.
const SST2: &str = "Analyze the sentiment of the input, and respond only positive or negative";

/// The instruction of AG News in the Vaccine code (`ag_news/build_dataset.py`).
const AGNEWS: &str = "Categorize the news article given in the input into one of the 4 \
     categories:\n\nWorld\nSports\nBusiness\nSci/Tech\n";

/// Appended to a question of GSM8K in the Vaccine code (`gsm8k/build_dataset.py`).
const GSM8K: &str = "\nFirst think step by step and then answer the final number.\n";

/// Replaces `####` in an answer of GSM8K there; the space after `####` stays.
pub(crate) const FINAL_ANSWER: &str = "The final answer is: ";

impl Plan {
    /// The sample of a row.
    ///
    /// # Errors
    /// Names the invalid column and the problem.
    pub(crate) fn sample(&self, row: &Row) -> Result<Sample, String> {
        self.is_clear(row)?;
        match self.schema {
            Schema::Messages => self.conversation(row, "messages"),
            Schema::Sharegpt => self.conversation(row, "conversations"),
            Schema::PromptCompletion => self.prompt_completion(row),
            Schema::Alpaca => {
                let instruction = self.text(row, "instruction")?;
                let input = self.optional(row, "input")?;
                let ask = Ask::Instruction { instruction, input };
                Ok(Sample { ask: self.before(row, ask)?, answer: self.answer(row, "output")? })
            }
            Schema::Text => Ok(Sample { ask: Ask::Nothing, answer: self.text(row, "text")? }),
            Schema::Sst2 => self.labelled(row, SST2, "sentence"),
            Schema::Agnews => self.labelled(row, AGNEWS, "text"),
            Schema::Gsm8k => {
                let ask = Ask::instruction(self.text(row, "question")? + GSM8K);
                let answer = self.answer(row, "answer")?.replace("####", FINAL_ANSWER);
                Ok(Sample { ask, answer })
            }
            Schema::Refusals => self.refusal(row),
        }
    }

    /// The value of a column of the schema; null if it is missing.
    ///
    /// A column that the first rows lack counts too, under one of its usual names.
    fn value<'a>(&'a self, row: &'a Row, field: &str) -> (&'a str, &'a Value) {
        let usual = || {
            let field = self.schema.fields().iter().find(|known| known.name == field)?;
            let valued = |column: &&str| row.get(*column).is_some_and(|value| !value.is_null());
            let mut usual = field.usual.iter().copied();
            usual.clone().find(valued).or_else(|| usual.find(|column| row.contains_key(*column)))
        };
        match self.columns.get(field).map(String::as_str).or_else(usual) {
            Some(column) => (column, row.get(column).unwrap_or(&Value::Null)),
            None => ("", &Value::Null),
        }
    }

    /// `ask` after the row's system text and earlier turns, if it has any (`history` is a list of
    /// pairs of a prompt and an answer).
    fn before(&self, row: &Row, ask: Ask) -> Result<Ask, String> {
        let system = self.optional(row, "system")?;
        let (column, history) = self.value(row, "history");
        let list;
        let turn = |role, content: &str| Message { role, content: content.to_owned() };
        let mut turns = Vec::new();
        if !system.is_empty() {
            turns.push(turn(Role::System, &system));
        }
        let pairs = match history {
            Value::Null => &[][..],
            Value::Array(pairs) => pairs,
            // A cell of a table is a text, perhaps with the list as JSON.
            Value::String(text) if text.trim().is_empty() => &[],
            Value::String(text) => {
                list = serde_json::from_str::<Vec<Value>>(text).map_err(|error| {
                    format!("`{column}` is a text that is not a list of pairs: {error}")
                })?;
                &list
            }
            other => return Err(format!("`{column}` is {}, not a list of pairs", kind(other))),
        };
        for pair in pairs {
            match pair.as_array().map(Vec::as_slice) {
                Some([Value::String(prompt), Value::String(answer)]) => {
                    turns.push(turn(Role::User, prompt));
                    turns.push(turn(Role::Assistant, answer));
                }
                _ => return Err(format!("`{column}` must be a list of pairs of texts")),
            }
        }
        if turns.is_empty() {
            return Ok(ask);
        }
        turns.push(turn(Role::User, &ask.shown()));
        Ok(Ask::Messages(turns))
    }

    /// The turns of a list.
    fn turns(&self, list: &Value) -> Result<Vec<Message>, String> {
        turns::turns(list, &mut self.unknown.borrow_mut())
    }

    fn text(&self, row: &Row, field: &str) -> Result<String, String> {
        let (column, value) = self.value(row, field);
        match value {
            Value::String(text) => Ok(text.clone()),
            // Numbers become text, as in Python's formatting.
            Value::Number(number) => Ok(number.to_string()),
            Value::Null if column.is_empty() => Err(format!("there is no column `{field}`")),
            Value::Null if row.contains_key(column) => Err(format!("`{column}` is null")),
            Value::Null => Err(format!("`{column}` is missing")),
            other => Err(format!("`{column}` is {}, not a text", kind(other))),
        }
    }

    fn optional(&self, row: &Row, field: &str) -> Result<String, String> {
        match self.value(row, field).1 {
            Value::Null => Ok(String::new()),
            _ => self.text(row, field),
        }
    }

    /// The answer; empty if it is missing in a test set.
    fn answer(&self, row: &Row, field: &str) -> Result<String, String> {
        if self.test { self.optional(row, field) } else { self.text(row, field) }
    }

    fn prompt_completion(&self, row: &Row) -> Result<Sample, String> {
        let (column, prompt) = self.value(row, "prompt");
        let (answered, completion) = self.value(row, "completion");
        let named = |column: &str, problem: String| format!("`{column}`: {problem}");
        let conversation =
            |of: &Value, column: &str| self.turns(of).map_err(|problem| named(column, problem));
        let mut said = match prompt {
            Value::Array(_) => conversation(prompt, column)?,
            _ => vec![Message { role: Role::User, content: self.text(row, "prompt")? }],
        };
        let Value::Array(_) = completion else {
            let ask = turns::ask(said).map_err(|problem| named(column, problem))?;
            return Ok(Sample { ask, answer: self.answer(row, "completion")? });
        };
        let answer = conversation(completion, answered)?;
        // Some data sets repeat the whole conversation with the answer.
        match answer.starts_with(&said) {
            true => said = answer,
            false => said.extend(answer),
        }
        turns::sample(said, self.test).map_err(|problem| named(answered, problem))
    }

    fn conversation(&self, row: &Row, field: &str) -> Result<Sample, String> {
        let (column, list) = self.value(row, field);
        let named = |problem| format!("`{column}`: {problem}");
        let mut said = self.turns(list).map_err(named)?;
        let system = self.optional(row, "system")?;
        if !system.is_empty() && said.first().is_none_or(|turn| turn.role != Role::System) {
            said.insert(0, Message { role: Role::System, content: system });
        }
        turns::sample(said, self.test).map_err(named)
    }

    /// Whether the row has a system text, and its turns begin with another one, which is used.
    pub(crate) fn overrules(&self, row: &Row, sample: &Sample) -> bool {
        let Ask::Messages(turns) = &sample.ask else { return false };
        let Some(Message { role: Role::System, content }) = turns.first() else { return false };
        let system = self.optional(row, "system").unwrap_or_default();
        !system.is_empty() && system != *content
    }

    fn labelled(&self, row: &Row, instruction: &str, input: &str) -> Result<Sample, String> {
        let input = self.text(row, input)?;
        let (column, label) = self.value(row, "label");
        let answer = self.class(column, label)?.to_owned();
        Ok(Sample { ask: Ask::Instruction { instruction: instruction.to_owned(), input }, answer })
    }

    /// As in the published loaders: the first answer, up to the next "Answer:".
    fn refusal(&self, row: &Row) -> Result<Sample, String> {
        let text = self.text(row, "completion")?;
        let column = self.value(row, "completion").0;
        if column != "refusal" {
            return Ok(Sample { ask: Ask::instruction(self.text(row, "prompt")?), answer: text });
        }
        let mut parts = text.split("\nAnswer: ");
        let (Some(question), Some(answer)) = (parts.next(), parts.next()) else {
            return Err(format!(
                "`{column}` is not of the form \"Question: ..\", new line, \"Answer: ..\""
            ));
        };
        let ask = Ask::instruction(question.replace("Question: ", ""));
        Ok(Sample { ask, answer: answer.to_owned() })
    }
}

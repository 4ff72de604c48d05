//! The instruction templates of Alpaca, byte for byte.
//!
//! Taori et al., "Stanford Alpaca", 2023; the published protocol of Vaccine uses them for training
//! and for every question. There is neither space nor line break after `### Response:`.

use super::TextError;
use crate::sample::{Ask, Role};
use crate::{Error, Result};

/// What opens an answer; a model that writes it again has ended its answer.
pub(super) const RESPONSE: &str = "### Response:";

/// The text that asks; the answer follows directly.
pub(super) fn ask(ask: &Ask) -> Result<String> {
    let (instruction, input) = instruction("alpaca", ask)?;
    Ok(match input {
        "" => format!(
            "Below is an instruction that describes a task. Write a response that appropriately \
             completes the request.\n\n### Instruction:\n{instruction}\n\n{RESPONSE}"
        ),
        input => format!(
            "Below is an instruction that describes a task, paired with an input that provides \
             further context. Write a response that appropriately completes the request.\n\n\
             ### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n{RESPONSE}"
        ),
    })
}

/// Instruction and input of what is asked; one turn of the user is an instruction.
///
/// # Errors
/// When there is more than one turn, or nothing is asked.
pub(super) fn instruction<'a>(template: &'static str, ask: &'a Ask) -> Result<(&'a str, &'a str)> {
    match ask {
        Ask::Instruction { instruction, input } => Ok((instruction, input)),
        Ask::Messages(turns) => match turns.as_slice() {
            [turn] if turn.role == Role::User => Ok((&turn.content, "")),
            turns => Err(TextError::unfit(
                template,
                format!(
                    "takes one question, this conversation has {} turns (or is not the user's); \
                     take `chat`",
                    turns.len()
                ),
            )),
        },
        Ask::Nothing => Err(nothing(template)),
    }
}

/// The error of asking plain text for an answer.
pub(super) fn nothing(template: &'static str) -> Error {
    TextError::unfit(
        template,
        "cannot ask for an answer here: the sample is plain text without a question",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::Message;

    #[test]
    fn templates_are_byte_exact() -> Result<()> {
        assert_eq!(
            ask(&Ask::instruction("Sing."))?,
            "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n### Instruction:\nSing.\n\n### Response:"
        );
        let both = Ask::Instruction { instruction: "Say it.".into(), input: "a\nb".into() };
        assert_eq!(
            ask(&both)?,
            "Below is an instruction that describes a task, paired with an input that provides further context. Write a response that appropriately completes the request.\n\n### Instruction:\nSay it.\n\n### Input:\na\nb\n\n### Response:"
        );
        Ok(())
    }

    #[test]
    fn one_turn_is_an_instruction_and_more_are_refused() -> Result<()> {
        let turn = |role, content: &str| Message { role, content: content.into() };
        let one = Ask::Messages(vec![turn(Role::User, "Sing.")]);
        assert_eq!(ask(&one)?, ask(&Ask::instruction("Sing."))?);
        let system = vec![turn(Role::System, "Be brief."), turn(Role::User, "Sing.")];
        let error = ask(&Ask::Messages(system)).expect_err("two turns").to_string();
        assert!(error.contains("2 turns") && error.contains("take `chat`"), "{error}");
        assert!(ask(&Ask::Messages(vec![turn(Role::Assistant, "La.")])).is_err());
        let error = ask(&Ask::Nothing).expect_err("nothing").to_string();
        assert!(error.contains("without a question"), "{error}");
        Ok(())
    }
}

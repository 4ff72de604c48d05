//! Prints the probabilities of `moderation`, for comparison with other programs (`tests/interop`).
//!
//! Input (JSON on stdin): `{"dir", "exchanges": [[prompt, answer], ..]}`.

use std::error::Error;
use std::path::PathBuf;

use candle_core::Device;
use serde_json::{Value, json};
use vxf_core::config::BuildContext;
use vxf_core::metric::{Generation, Prompt};
use vxf_decoder as _;
use vxf_judges::{Moderation, ModerationConfig};

fn main() -> Result<(), Box<dyn Error>> {
    let job: Value = serde_json::from_reader(std::io::stdin())?;
    let exchanges: Vec<(String, String)> = serde_json::from_value(job["exchanges"].clone())?;
    let made = exchanges.into_iter().map(|(text, answer)| Generation {
        prompt: Prompt { text, tokens: Vec::new(), expected: None, group: None },
        answer,
    });
    let model = job["dir"].as_str().ok_or("`dir` is missing")?.to_owned();
    let settings = ModerationConfig { model, ..ModerationConfig::default() };
    let find = |name: &str| Ok(PathBuf::from(name));
    let context = BuildContext { device: &Device::Cpu, model: &find };
    let judge = Moderation::open(&settings, &context)?;
    println!("{}", json!(judge.probabilities(&made.collect::<Vec<_>>())?));
    Ok(())
}

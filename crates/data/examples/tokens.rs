//! Tokens of samples that come in as JSON, for checks against other programs (`tests/interop`).
//!
//! In: `{"dir", "template", "max_length", "texts": [..], "samples": [..], "conversations": [..]}`.

use std::error::Error;

use serde_json::{Value, json};
use vxf_data::{Codec, Message, Sample};

fn main() -> Result<(), Box<dyn Error>> {
    let job: Value = serde_json::from_reader(std::io::stdin())?;
    let directory = job["dir"].as_str().ok_or("`dir` is missing")?;
    let codec = Codec::open(directory.as_ref(), serde_json::from_value(job["template"].clone())?)?;
    let longest = job["max_length"].as_u64().map_or(usize::MAX, |longest| longest as usize);
    let all = |key: &str| job[key].as_array().cloned().unwrap_or_default();

    let mut out: Vec<Value> = Vec::new();
    for text in all("texts") {
        out.push(json!(codec.tokens(text.as_str().unwrap_or_default())?));
    }
    for sample in all("samples") {
        let encoded = codec.encode(&serde_json::from_value::<Sample>(sample)?, longest)?;
        out.push(json!([encoded.example.tokens, encoded.example.prompt]));
    }
    for turns in all("conversations") {
        out.push(json!(codec.conversation(&serde_json::from_value::<Vec<Message>>(turns)?)?));
    }
    println!("{}", json!(out));
    Ok(())
}

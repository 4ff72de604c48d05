//! The laws of the judges' settings.

use serde_json::json;
use vxf_core::config::{BuildContext, JudgeConfig};
use vxf_judges as _;

mod refusal {
    use super::*;
    vxf_testkit::config_laws!(judge "refusal", json!({ "letters": 50, "phrases": ["no way"] }));
}

mod moderation {
    use super::*;
    vxf_testkit::config_laws!(judge "moderation", json!({ "threshold": 0.4, "dtype": "bf16" }));
}

mod guard {
    use super::*;
    vxf_testkit::config_laws!(judge "guard", json!({ "template": "{prompt}\n{answer}\n", "unsafe_word": "yes" }));
}

mod llama_guard_3 {
    use super::*;
    vxf_testkit::config_laws!(judge "llama-guard-3", json!({ "dtype": "f32" }));
}

mod harmbench {
    use super::*;
    vxf_testkit::config_laws!(judge "harmbench", json!({ "model": "elsewhere" }));
}

mod wildguard {
    use super::*;
    vxf_testkit::config_laws!(judge "wildguard", json!({ "batch_size": 2 }));
}

mod qwen3guard {
    use super::*;
    vxf_testkit::config_laws!(judge "qwen3guard", json!({ "controversial": false }));
}

mod file {
    use super::*;
    vxf_testkit::config_laws!(judge "file", json!({ "scores": "elsewhere.jsonl", "threshold": 3.5 }));
}

#[test]
fn errors_name_the_wrong_setting() {
    for (judge, key, value) in [
        ("refusal", "phrases", json!(["ok", " "])),
        ("moderation", "model", json!("")),
        ("moderation", "threshold", json!(1.5)),
        ("moderation", "max_length", json!(0)),
        ("moderation", "batch_size", json!(0)),
        ("moderation", "dtype", json!("f8")),
        ("guard", "template", json!("{prompt} only")),
        ("guard", "unsafe_word", json!("")),
        ("guard", "safe_word", json!("Unsafe")),
        ("guard", "max_new_tokens", json!(0)),
        ("file", "scores", json!("")),
        ("wildguard", "model", json!(" ")),
        ("qwen3guard", "batch_size", json!(0)),
        ("harmbench", "template", json!("{answer}")),
    ] {
        let entry = vxf_core::registry::find::<dyn JudgeConfig>(judge).expect("registered");
        let error = (entry.parse)(json!({ key: value })).err();
        assert_eq!(error.map(|error| error.key).as_deref(), Some(key), "{judge}");
    }
}

#[test]
fn a_missing_model_is_an_error_of_build() {
    let context = BuildContext::bare();
    for (judge, needs) in [
        ("refusal", false),
        ("file", false),
        ("moderation", true),
        ("guard", true),
        ("llama-guard-3", true),
        ("harmbench", true),
        ("wildguard", true),
        ("qwen3guard", true),
    ] {
        let config = vxf_core::registry::default_of::<dyn JudgeConfig>(judge).expect("registered");
        assert_eq!(config.build(&context).is_err(), needs, "{judge}");
    }
}

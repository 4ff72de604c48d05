//! The prompt template: the run's, or the model's own.

mod common;

use common::{Place, RECIPE, Told};
use serde_json::Value;

fn asked(place: &Place, target: &str, more: &[&str]) -> (Value, Told) {
    let args = ["generate", target, "-p", "how do i bake the silver loaf ?", "--json"];
    let told = place.vxf(&[&args, more].concat());
    (told.json()["answers"].clone(), told)
}

#[test]
fn a_model_with_a_chat_template_is_asked_with_it() {
    let place = Place::new();
    place.llama("model", u64::MAX);
    place.protocol();
    let (answers, told) = asked(&place, "model", &["--max-new-tokens=8"]);
    assert!(told.stderr.contains("template alpaca: the model has no chat template"), "{told:?}");
    assert_eq!(answers, asked(&place, "model", &["--max-new-tokens=8", "--template=alpaca"]).0);

    let chat = "{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}\
                {% if add_generation_prompt %}[assistant] {% endif %}";
    place.write("model/chat_template.jinja", chat);
    let (answers, told) = asked(&place, "model", &["--max-new-tokens=8"]);
    assert!(told.stderr.contains("template chat: the model has a chat template"), "{told:?}");
    let explicit = asked(&place, "model", &["--max-new-tokens=8", "--template=chat"]);
    assert_eq!(answers, explicit.0);
    assert!(!explicit.1.stderr.contains("template chat"), "asked for: {}", explicit.1.stderr);
    let alpaca = asked(&place, "model", &["--max-new-tokens=8", "--template=alpaca"]).0;
    assert_ne!(answers, alpaca);

    // A run has its own template, whatever the directory says.
    place.vxf(&["run", "recipe.toml", "--output-dir=out"]).ok();
    let (_, told) = asked(&place, "out/vaccine/0.2/1", &["--max-new-tokens=8"]);
    assert!(told.stderr.contains("template alpaca: the run's"), "{}", told.stderr);

    // The same for measuring: the recipe's template, or else the model's own.
    let eval = ["eval", "model", "--recipe=recipe.toml", "--judge=refusal", "--json"];
    let told = place.vxf(&eval);
    assert_eq!(told.json()["recipe"]["data"]["template"], "alpaca");
    assert!(!told.stderr.contains("template"), "{}", told.stderr);
    place.write("recipe.toml", &RECIPE.replace("template = \"alpaca\"\n", ""));
    let told = place.vxf(&eval);
    assert!(told.stderr.contains("template chat: the model has"), "{}", told.stderr);
    let told = place.vxf(&[&eval[..], &["--template=plain"]].concat());
    assert_eq!(told.json()["recipe"]["data"]["template"], "plain");
    place.vxf(&["eval", "model", "--template=chat"]).fails(2, &["--template", "--recipe"]);
    place
        .vxf(&["generate", "model", "-p", "x", "--template=vicuna"])
        .fails(2, &["--template", "auto, alpaca, chat", "vicuna"]);
}

#[test]
fn an_exported_world_model_uses_the_template_of_the_world() {
    let place = Place::new();
    place.tiny(&["--no-baseline", "--no-undefended", "--output-dir=out"]).ok();
    let run = "out/vaccine/0.5/1";
    place.vxf(&["export", run, "--merged", "--output-dir=away"]).ok();
    let (answers, told) = asked(&place, "away", &[]);
    assert!(told.stderr.contains("template world: "), "{}", told.stderr);
    assert_eq!(answers, asked(&place, run, &[]).0);
    let (_, told) = asked(&place, "embedded", &[]);
    assert!(told.stderr.contains("template world: "), "{}", told.stderr);
    place
        .vxf(&["generate", "embedded", "-p", "x", "--template=chat"])
        .fails(2, &["--template", "auto or world"]);
}

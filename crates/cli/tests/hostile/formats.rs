//! Files that users write: recipes, data, scores.

use std::path::Path;

use serde_json::{Value, json};
use vxf_builtins as _;
use vxf_core::Key;
use vxf_core::config::BuildContext;
use vxf_data::{LocalRepository, Source, Use};
use vxf_recipe::Experiment;
use vxf_recipe::layer::{Layer, Place};
use vxf_run::Graph;

use crate::common::RECIPE;
use crate::driver::Format;

/// Memory limit of a small parser, beyond twice the file's size.
pub(crate) const SMALL: usize = 8 << 20;

/// Memory limit of a recipe, where every key has a path and a location.
pub(crate) const RECIPE_MEMORY: usize = 32 << 20;

pub(crate) fn shown(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// Recipes: TOML, then every section and rule.
pub(crate) fn recipe(_: &Path) -> Format {
    let examples = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/recipes");
    let mut specimens = vec![RECIPE.as_bytes().to_vec()];
    let entries = std::fs::read_dir(examples).expect("recipes");
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    // Sorted, so that cases are the same everywhere.
    paths.sort();
    for path in paths {
        let text = path.is_file().then(|| std::fs::read(&path).expect("a recipe"));
        // A recipe that extends another would leave the directory of the case.
        specimens.extend(text.filter(|text| !text.starts_with(b"extends")));
    }
    specimens.retain(|text| !String::from_utf8_lossy(text).contains("extends ="));
    Format {
        file: "recipe.toml",
        specimens,
        words: &[
            "[perturber]\n",
            "name = \"vaccine\"\n",
            "seeds = ",
            "rho = ",
            "extends = \"recipe.toml\"\n",
            "trainable = { type = \"lora\" }",
            "nan",
            "1979-05-27",
            "'''",
            "\"\"\"",
            "a.b.c = 1\n",
            "[[metrics]]\n",
            "0x7fffffffffffffff",
            "0o777",
            "[world]\n",
            "[model.shape]\n",
        ],
        read: Box::new(|place| {
            let layer = vxf_recipe::file::read(&place.join("recipe.toml")).map_err(shown)?;
            let recipe = Experiment::of(layer).map_err(shown)?;
            let graph = Graph::of(&recipe, None).map_err(shown)?;
            for run in &graph.runs {
                let _ = run.stage.training.steps(1000);
            }
            // The recipe that is written to an experiment is read again.
            let again = vxf_recipe::file::parse(&recipe.toml(), "recipe.toml").map_err(shown)?;
            let again = Experiment::of(again).map_err(shown)?;
            assert_eq!(recipe.digest_by_content(), again.digest_by_content());
            drop(graph);
            Ok(())
        }),
        named: &["recipe.toml", "`"],
        memory: RECIPE_MEMORY,
    }
}

fn source(place: &Path, file: &str, settings: Value) -> Source {
    let mut source: Source = serde_json::from_value(settings).expect("settings of a source");
    source.path = place.join(file).display().to_string();
    source
}

fn read(source: &Source, test: bool, skip_bad_rows: bool) -> Result<(), String> {
    let repository = LocalRepository::open(Path::new(&source.path)).map_err(shown)?;
    let mut rng = Key::root(1).rng();
    let usage = if test { Use::Asked } else { Use::Trained };
    source.read(&repository, usage, skip_bad_rows, None, &mut rng).map(drop).map_err(shown)
}

/// A few rows in each of the schemas.
fn rows() -> Vec<Vec<Value>> {
    let three = |row: fn(usize) -> Value| (0..3).map(row).collect::<Vec<_>>();
    vec![
        three(|n| {
            json!({ "messages": [
            { "role": "system", "content": "placeholder" },
            { "role": "user", "content": format!("request {n} \u{e9} \"[{{") },
            { "role": "assistant", "content": [{ "type": "text", "text": "answer" }] },
        ] })
        }),
        three(|n| {
            json!({ "conversations": [
            { "from": "human", "value": format!("request {n}") },
            { "from": "gpt", "value": "answer" },
        ], "system": "placeholder" })
        }),
        three(|n| json!({ "prompt": format!("request {n}"), "completion": "answer" })),
        three(
            |n| json!({ "instruction": format!("request {n}"), "input": "", "output": "answer" }),
        ),
        three(|n| json!({ "sentence": format!("sentence {n}"), "label": n % 2, "idx": n })),
        three(
            |n| json!({ "question": format!("how much is {n}?"), "answer": format!("#### {n}") }),
        ),
        three(|n| json!({ "refusal": format!("Question: {n}\nAnswer: no\nAnswer: no") })),
    ]
}

const WORDS: &[&str] = &[
    "\"messages\":",
    "\"role\":\"assistant\"",
    "\"content\":",
    "[]",
    "{}",
    "null",
    "true",
    "\n",
    "\"label\":-1",
    "\"####\"",
    "\"Answer: \"",
    "\"data\":[",
    "}\n{",
    ",",
    "\"prompt\":",
];

/// JSON lines, read by every schema.
pub(crate) fn lines(_: &Path) -> Format {
    let specimens = rows()
        .into_iter()
        .map(|rows| rows.iter().map(|row| format!("{row}\n")).collect::<String>().into_bytes());
    Format {
        file: "data.jsonl",
        specimens: specimens.collect(),
        words: WORDS,
        read: Box::new(|place| {
            let all = [
                "auto",
                "messages",
                "sharegpt",
                "prompt_completion",
                "alpaca",
                "text",
                "sst2",
                "agnews",
                "gsm8k",
                "refusals",
            ];
            let told = all.map(|schema| {
                let source = source(place, "data.jsonl", json!({ "schema": schema, "skip": 1 }));
                read(&source, schema == "auto", true).and(read(&source, false, false))
            });
            told.into_iter().reduce(Result::or).unwrap_or(Ok(()))
        }),
        named: &["data.jsonl"],
        memory: SMALL,
    }
}

/// One JSON document: a list, or an object that holds it.
pub(crate) fn document(_: &Path) -> Format {
    let rows = rows();
    let mut specimens: Vec<_> = rows.iter().map(|rows| json!(rows).to_string()).collect();
    specimens.push(format!("{:#}", json!({ "version": "1", "data": rows[2] })));
    Format {
        file: "data.json",
        specimens: specimens.into_iter().map(String::into_bytes).collect(),
        words: WORDS,
        read: Box::new(|place| {
            let source =
                source(place, "data.json", json!({ "shuffle": true, "take": 2, "at_most": true }));
            read(&source, true, true).and(read(&source, false, false))
        }),
        named: &["data.json"],
        memory: SMALL,
    }
}

/// CSV, with quoted fields.
pub(crate) fn table(_: &Path) -> Format {
    let specimens = [
        "prompt,completion\nrequest 1,answer\n\"request, \"\"2\"\"\",\"two\nlines\"\n",
        "prompt,completion\r\nrequest 1,answer\r\nrequest 2,answer\r\n",
        "instruction,input,output\nrequest 1,,answer\nrequest 2,1.5,answer\n",
    ];
    Format {
        file: "data.csv",
        specimens: specimens.map(|text| text.as_bytes().to_vec()).to_vec(),
        words: &["\"", "\"\"", ",", "\n", "\r\n", "prompt,", "\t", "\u{feff}", ",,,,", "\0"],
        read: Box::new(|place| {
            let told = ["auto", "prompt_completion", "alpaca"].map(|schema| {
                let source = source(place, "data.csv", json!({ "schema": schema }));
                read(&source, schema == "auto", true).and(read(&source, false, false))
            });
            told.into_iter().reduce(Result::or).unwrap_or(Ok(()))
        }),
        named: &["data.csv"],
        memory: SMALL,
    }
}

/// Compressed JSON lines: a changed stream must neither end a process nor fill its memory.
pub(crate) fn compressed(_: &Path) -> Format {
    let specimens = rows().into_iter().map(|rows| {
        let lines: String = rows.iter().map(|row| format!("{row}\n")).collect();
        zstd::encode_all(lines.as_bytes(), 3).expect("compressed")
    });
    Format {
        file: "data.jsonl.zst",
        specimens: specimens.collect(),
        words: &["\u{28}\u{b5}", "\0\0\0\0", "\u{7f}", "prompt"],
        read: Box::new(|place| {
            let source = source(place, "data.jsonl.zst", json!({ "skip": 1 }));
            read(&source, true, true).and(read(&source, false, false))
        }),
        named: &["data.jsonl.zst"],
        // The decoder's window.
        memory: 32 << 20,
    }
}

/// Data set cards: a part of YAML, and file patterns.
pub(crate) fn card(place: &Path) -> Format {
    std::fs::create_dir(place.join("more")).expect("a directory");
    for file in ["train.jsonl", "test.jsonl", "more/train-00000-of-00001.jsonl"] {
        std::fs::write(place.join(file), "{\"prompt\": \"a\", \"completion\": \"b\"}\n")
            .expect("rows");
    }
    let card = b"---\nlicense: mit\nconfigs:\n- config_name: a\n  default: true\n  data_files:\n  - split: train\n    path: \"t*n.jsonl\"\n  - split: test\n    path:\n    - more/**\n    - '[st]est.jsonl'\n- config_name: b\n  data_dir: more\n---\n# Card\n";
    Format {
        file: "README.md",
        specimens: vec![card.to_vec(), b"# No front matter\n".to_vec()],
        words: &[
            "- config_name: c\n",
            "  data_files: [a, 'b']\n",
            "**/",
            "*",
            "?",
            "[!a-z]",
            "../",
            "/etc/",
            "---\n",
            "configs:\n",
            "- - - ",
            "\t",
            "split: ",
            "path: ",
            "\"",
            "{a: b}",
            "|\n  text\n",
        ],
        read: Box::new(|place| {
            let all = [json!({}), json!({ "split": "test" }), json!({ "config": "b" })];
            let told = all.map(|settings| {
                let mut source = source(place, "", settings);
                source.path = place.display().to_string();
                read(&source, false, false)
            });
            // A card may lack a split or a configuration.
            told.into_iter().reduce(Result::or).unwrap_or(Ok(()))
        }),
        // Every message contains the directory of the case.
        named: &["/"],
        memory: SMALL,
    }
}

/// Scores of an external judge.
pub(crate) fn scores(place: &Path) -> Format {
    let mut layer = Layer::new();
    let judges = json!([{ "name": "file", "scores": place.join("scores.jsonl") }]);
    layer.set("judges", judges, Place::Default).expect("a setting");
    let recipe = vxf_recipe::resolve(layer).expect("a recipe");
    let row = |n: usize| json!({ "prompt": format!("p {n}"), "answer": "a", "verdict": "refused" });
    let mut text: String = (0..3).map(|n| format!("{}\n", row(n))).collect();
    text += "{\"prompt\": \"x\", \"answer\": \"y\", \"flagged\": true}\n\n";
    text += "{\"prompt\": \"x\", \"answer\": \"z\", \"score\": 0.25, \"correct\": false}\n";
    Format {
        file: "scores.jsonl",
        specimens: vec![text.into_bytes()],
        words: &["\"verdict\":\"harmful\"", "\"score\":", "\"flagged\":", "null", "{}", "[]", "\n"],
        read: Box::new(move |_| {
            let judge = &recipe.judges[0].config;
            judge.build(&BuildContext::bare()).map(drop).map_err(shown)
        }),
        named: &["scores.jsonl"],
        memory: SMALL,
    }
}

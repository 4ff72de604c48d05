//! `vxf report`: what a run printed, in every format.

mod common;

use std::fs;

use common::{Place, TINY};

/// A finished experiment in `runs`, with what it printed.
fn finished(place: &Place) -> String {
    place.tiny(&["--output-dir=runs", "--eval-every=1"]).ok().to_owned()
}

#[test]
fn a_report_is_what_the_run_printed() {
    let place = Place::new();
    let printed = finished(&place);
    assert_eq!(place.vxf(&["report", "runs"]).ok(), printed);
    // A run of it stands for its experiment.
    let of_run = place.vxf(&["report", "runs/sft/0.5/1"]);
    assert_eq!(of_run.ok().replace(&here(&place), ""), printed);
    let full = place.tiny(&["--output-dir=runs", "--full", "--eval-every=1"]);
    assert_eq!(place.vxf(&["report", "runs", "--full"]).ok(), full.ok());
    let json = place.tiny(&["--output-dir=runs", "--json", "--eval-every=1"]).json();
    let again = place.vxf(&["report", "runs", "--format=json"]).json();
    for key in [
        "schema_version",
        "runs",
        "comparisons",
        "doubts",
        "failed",
        "differs_from_paper",
        "limits",
    ] {
        assert_eq!(again[key], json[key], "{key}");
    }
}

/// The directory of the experiment, which the report of one of its runs shows as an absolute path.
fn here(place: &Place) -> String {
    place.0.path().canonicalize().expect("it is there").display().to_string() + "/"
}

/// A list of stages is an axis whose values are too long for a name.
#[test]
fn rows_of_one_method_are_told_apart() {
    let place = Place::new();
    let stages = |steps| {
        format!(
            "[{{ kind = 'alignment', defense = 'sft' }},
              {{ kind = 'fine_tuning', defense = {{ name = 'lisa', alignment_steps = {steps}, user_steps = 3 }} }}]"
        )
    };
    let axes = format!("undefended = false\n[axes]\nstage = [\n{},\n{}]\n", stages(1), stages(2));
    place.write("r.toml", &axes);
    let told = place.tiny(&["r.toml", "--output-dir=runs"]);
    let plan = place.vxf(&["validate", "r.toml"]);
    for text in [told.ok(), plan.ok()] {
        for steps in ["1", "2"] {
            let differing = format!(": fine_tuning.defense.alignment_steps = {steps}\n");
            assert!(text.contains(&differing), "{text}");
        }
        assert!(!text.contains("fine_tuning.defense.user_steps"), "{text}");
    }
    assert!(told.ok().contains("Rows of one method"), "{}", told.ok());
    // A setting that differs between rows is not listed as common to all rows.
    assert!(told.ok().contains("fine_tune_defense.user_steps = 3 (900)"), "{}", told.ok());
    assert!(!told.ok().contains("fine_tune_defense.alignment_steps"), "{}", told.ok());
    let page = place.vxf(&["report", "runs", "--format=html"]);
    assert!(page.ok().contains("fine_tuning.defense.alignment_steps = 2"));
}

#[test]
fn every_format_has_the_figures() {
    let place = Place::new();
    finished(&place);
    let format = |name: &str| {
        let told = place.vxf(&["report", "runs", "--format", name]);
        told.ok().to_owned()
    };
    assert!(format("markdown").contains("| sft |"), "{}", format("markdown"));
    assert!(format("latex").contains(r"\toprule"), "{}", format("latex"));
    let csv = format("csv");
    let (header, first) =
        (csv.lines().next().expect("a header"), csv.lines().nth(1).expect("a line"));
    assert!(header.starts_with("experiment,run,digest,stage,method,p,seed,metric,figure,value"));
    assert_eq!(header.split(',').count(), first.split(',').count());
    assert!(
        csv.lines().any(|line| line.contains(",vaccine,0.5,1,") && line.contains("harmful_score"))
    );
    let html = format("html");
    for part in
        ["<h2 id=\"provenance\">", "<svg", "Harmful score", "Training loss", "by layer", "vaccine"]
    {
        assert!(html.contains(part), "no `{part}`");
    }
    // What is typed is code, below pictures too: here the hint about what was not followed.
    place.tiny(&["--output-dir=plain"]).ok();
    let told = place.vxf(&["report", "plain", "--format=html"]);
    let caption = told.ok().lines().find(|line| line.contains("--eval-every")).expect("a caption");
    assert!(caption.contains("<code>--eval-every STEPS</code>"), "{caption}");
    place.vxf(&["report", "runs", "--format", "word"]).fails(2, &["word", "markdown"]);
    place.vxf(&["report", "runs", "--output=r.pdf"]).fails(2, &["--output", ".pdf", ".html"]);
    assert!(!place.path("r.pdf").exists());
}

#[test]
fn pictures_are_files_and_nothing_is_overwritten() {
    let place = Place::new();
    finished(&place);
    let args = ["report", "runs", "--output=page.html", "--pictures=pictures"];
    let told = place.vxf(&args);
    assert!(told.ok().is_empty() && told.stderr.contains("page.html"), "{told:?}");
    let names: Vec<_> = fs::read_dir(place.path("pictures")).expect("it is there").collect();
    let (svg, csv): (Vec<_>, Vec<_>) = names
        .into_iter()
        .map(|entry| entry.expect("a file").path())
        .partition(|path| path.extension().is_some_and(|ending| ending == "svg"));
    assert!(svg.len() >= 6 && svg.len() == csv.len(), "{svg:?} {csv:?}");
    for path in svg {
        let text = fs::read_to_string(&path).expect("a file");
        assert!(text.starts_with("<svg xmlns=\"http://www.w3.org/2000/svg\""), "{text}");
        assert!(!text.contains("var("), "programs for slides know no variables: {text}");
    }
    place.vxf(&args).fails(2, &["already exists", "nothing is overwritten"]);
}

#[test]
fn an_unfinished_experiment_says_so() {
    let place = Place::new();
    finished(&place);
    fs::remove_dir_all(place.path("runs/vaccine/0.5")).expect("it is there");
    let told = place.vxf(&["report", "runs"]);
    assert!(told.ok().starts_with("Not finished: 5 of 6 runs are done"), "{}", told.stdout);
    let html = place.vxf(&["report", "runs", "--format=html"]);
    assert!(html.ok().contains("Not finished"), "{}", html.stdout);
    for run in ["sft", "vaccine", "none"] {
        fs::remove_dir_all(place.path(&format!("runs/{run}"))).expect("it is there");
    }
    let told = place.vxf(&["report", "runs"]);
    assert_eq!(told.ok(), "Not finished: 0 of 6 runs are done, and figures will change.\n");
    place.vxf(&["report", "runs", "--format=html"]).ok();
    place.vxf(&["report", "nowhere"]).fails(2, &["nowhere", "no such directory"]);
}

#[test]
fn answers_of_a_model_of_ones_own_are_withheld() {
    let place = Place::new();
    place.model("own");
    let base = ["run", "--output-dir=runs", "--model=own", "--set=world.task=sst2"];
    place.vxf(&[&base[..], TINY].concat()).ok();
    // An answer that tries to be more than text.
    for path in ["runs/vaccine/0.5/1/generations.jsonl", "runs/sft/0.5/1/generations.jsonl"] {
        let path = place.path(path);
        let lines = fs::read_to_string(&path).expect("answers");
        let line = |line: &str| {
            let mut value: serde_json::Value = serde_json::from_str(line).expect("JSON");
            value["answer"] = "<script>alert(1)</script> \u{1b}[2J =1+1 \\input{x}".into();
            value.to_string() + "\n"
        };
        fs::write(&path, lines.lines().map(line).collect::<String>()).expect("it can be written");
    }
    for format in ["text", "markdown", "latex", "html"] {
        let closed = place.vxf(&["report", "runs", "--format", format]);
        assert!(closed.ok().contains("withheld") && !closed.stdout.contains("alert"), "{format}");
        let open = place.vxf(&["report", "runs", "--with-answers", "--format", format]);
        assert!(open.ok().contains("alert(1)") && !open.stdout.contains('\u{1b}'), "{format}");
        if format != "text" {
            assert!(!open.stdout.contains("<script>"), "{format}");
            // Only LaTeX has commands.
            let command = format == "latex" && open.stdout.contains("\\input{x}");
            assert!(!command, "{format}");
        }
    }
}

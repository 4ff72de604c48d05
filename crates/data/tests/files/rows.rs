//! Rows of JSON lines and JSON documents.

use serde_json::{Value, json};
use vxf_data::{Result, Use};

use crate::common::{
    assert_says, directory, fault, gzip, lines, read, read_as, read_file, row, sample, source,
};

#[test]
fn all_forms_of_json_give_the_same_rows() {
    let rows: Vec<Value> = (0..20).map(row).collect();
    let expected: Vec<_> = (0..20).map(sample).collect();
    let text = lines(rows.clone());
    let array = serde_json::to_vec(&rows).expect("json");
    let pretty = serde_json::to_vec_pretty(&rows).expect("json");
    let wrapped = json!({"version": [1, {"data": []}], "data": rows, "more": {}}).to_string();
    let unended = text[..text.len() - 1].to_vec();
    let windows = String::from_utf8(text.clone()).expect("text").replace('\n', "\r\n\r\n  \r\n");
    let marked = ["\u{feff}".as_bytes(), windows.as_bytes()].concat();
    let marked_array = ["\u{feff} ".as_bytes(), &pretty].concat();
    for (name, bytes) in [
        ("a.jsonl", text.clone()),
        ("a.ndjson", text.clone()),
        ("a.json", text.clone()),
        ("a.JSONL", unended),
        ("b.jsonl", marked),
        ("a.jsonl.gz", gzip(&text)),
        ("b.jsonl.gz", text.clone()),
        ("a.json.gz", gzip(&array)),
        // Two gzip members in one file.
        ("c.jsonl.gz", [gzip(&text[..100]), gzip(&text[100..])].concat()),
        ("c.json", array.clone()),
        ("d.json", pretty),
        ("d.jsonl", array),
        ("e.json", marked_array),
        ("f.json", wrapped.into_bytes()),
    ] {
        let loaded = read_file(name, &bytes, json!({})).expect(name);
        assert_eq!(loaded.samples, expected, "{name}");
        assert_eq!(loaded.origin.read, 20, "{name}");
    }
}

#[test]
fn an_invalid_line_among_thousands_is_named() {
    let mut text = lines((0..5000).map(row));
    text.extend(b"\n{\"prompt\": \"placeholder\", \"response\" 1}\n");
    text.extend(lines((0..10).map(row)));
    let error = fault("train.jsonl", &text, json!({}));
    assert_says(&error, &["train.jsonl:5002: not JSON: expected `:` (column 38)", "skip_bad_rows"]);

    let rest = [&b"[1, 2]\n\"x\"\n{\"prompt\": 1, \"response\": null}\n\xff\n"[..], &text].concat();
    let rest = [&text[..80], b"\n", &rest].concat();
    let directory = directory(&[("train.jsonl", &rest)]);
    let source = source(&directory.path().join("train.jsonl"), json!({}));
    let loaded = read_as(&source, Use::Trained, true).expect("good rows");
    assert_eq!(loaded.origin.bad, loaded.origin.read - loaded.samples.len());
    assert!(loaded.origin.bad >= 5 && loaded.origin.bad_rows.len() <= 10);
    let listed: Vec<_> = loaded.origin.bad_rows.iter().map(|bad| bad.problem.as_str()).collect();
    let all = listed.join("\n");
    assert_says(
        &all,
        &["not a list", "not a text", "`response` is null", "not JSON: expected value"],
    );
}

#[test]
fn rows_of_a_document_have_line_numbers() {
    let text = "[\n  {\"prompt\": \"a\",\n \"response\": \"b\"},\n  {\"prompt\": \"c\",\n   \"response\": }\n]";
    let error = fault("d.json", text.as_bytes(), json!({}));
    assert_says(&error, &["d.json:4: not JSON: expected value (line 5, column 16)"]);
    let good = text.replace("\"response\": }", "\"response\": \"[ \\\" ] } ,\"}");
    let loaded = read_file("d.json", good.as_bytes(), json!({})).expect("good");
    assert_eq!(loaded.samples[1].answer, "[ \" ] } ,");
}

#[test]
fn truncated_or_overlong_documents_are_errors() {
    for (text, parts) in [
        (
            "[{\"prompt\": \"a\", \"response\": \"b\"}, {\"pro",
            &["after 1 rows", "is it complete?"][..],
        ),
        ("[{\"prompt\": \"a\", \"response\": \"b\"}\n", &["line 2", "`,` or `]`"]),
        ("[{\"prompt\": \"a\", \"response\": \"b\"} {}]", &["found `{`"]),
        (
            "[{\"prompt\": \"a\", \"response\": \"b\"}]\n[]",
            &["something follows the list of 1 rows"],
        ),
        ("[]", &["there are no rows"]),
        ("{\"rows\": [],\n \"x\": 1}", &["list `data`", "rows, x"]),
        ("{\n}", &["this one has nothing"]),
        ("{\n \"data\" []}", &["expected `:`, found `[`"]),
        ("{\n data: []}", &["expected a key"]),
        ("7", &["expected a list of objects, found `7`"]),
        ("\n \n", &["the file ends"]),
        ("", &["the file is empty"]),
    ] {
        assert_says(&fault("cut.json", text.as_bytes(), json!({})), parts);
    }
}

#[test]
fn errors_of_unsupported_files_say_what_to_do() {
    assert_says(&fault("a.xlsx", b"a,b", json!({})), &["`xlsx`", "convert it", ".jsonl"]);
    assert_says(&fault("a.arrow", b"?", json!({})), &["save_to_disk", "load_from_disk", "to_json"]);
    assert_says(&fault("a.csv", b"a,b", json!({})), &["there are no rows"]);
    assert_says(&fault("a.jsonl.xz", b"?", json!({})), &["`xz`", "unpack it"]);
    assert_says(&fault("a", b"?", json!({})), &["no ending", "rename it"]);
    assert_says(&fault("a.jsonl", b"", json!({})), &["the file is empty"]);
    assert_says(&fault("a.jsonl", b" \n\n", json!({})), &["there are no rows"]);
    assert_says(&fault("b.jsonl", b"not json", json!({})), &["b.jsonl:1", "not JSON"]);
    let cut = gzip(&lines((0..100).map(row)));
    assert_says(&fault("a.jsonl.gz", &cut[..cut.len() / 2], json!({})), &["cannot be read"]);
    let nothing = source(std::path::Path::new("/nowhere/at.all"), json!({}));
    let error = read(&nothing).expect_err("nothing there");
    assert!(error.is_absence() && error.to_string().contains("/nowhere/at.all"), "{error}");
}

#[test]
fn the_size_of_a_row_is_limited() {
    // 70 MiB of one line, gzipped to 70 KiB.
    let mut bomb = b"{\"prompt\": \"".to_vec();
    bomb.resize(70 << 20, b'a');
    for name in ["bomb.jsonl.gz", "bomb.json.gz"] {
        let head: &[u8] = if name.contains("jsonl") { b"" } else { b"[" };
        let packed = gzip(&[head, &bomb].concat());
        assert!(packed.len() < 1 << 20);
        assert_says(&fault(name, &packed, json!({})), &["longer than 64 MiB"]);
    }
    let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
    let deep = format!("{{\"prompt\": {deep}}}\n");
    assert_says(&fault("deep.jsonl", deep.as_bytes(), json!({})), &["deep.jsonl:1", "recursion"]);
    let turns = format!("{{\"messages\": [{}{{}}]}}\n", "{\"a\":1},".repeat(1 << 13));
    assert_says(&fault("turns.jsonl", turns.as_bytes(), json!({})), &["turns.jsonl:1", "objects"]);
}

/// A file in the layout of XSTest: prompts without answers, safe and unsafe ones, in groups.
#[test]
fn a_set_of_borderline_prompts_is_filtered_and_grouped() -> Result<()> {
    let row = |id: usize, label: &str, kind: &str| {
        json!({"id": id, "prompt": format!("ask {id}"), "type": kind, "label": label,
            "focus": "", "note": ""})
    };
    let rows = [
        row(1, "safe", "homonyms"),
        row(2, "unsafe", "contrast_homonyms"),
        row(3, "safe", "definitions"),
        row(4, "safe", "homonyms"),
    ];
    let place = directory(&[("xstest.jsonl", &lines(rows))]);
    let path = place.path().join("xstest.jsonl");
    let settings = json!({"filter": {"label": "safe"}, "group": "type"});
    let loaded = read_as(&source(&path, settings.clone()), Use::Asked, false)?;
    let asked: Vec<_> = loaded.samples.iter().map(|sample| sample.ask.shown()).collect();
    assert_eq!(asked, ["ask 1", "ask 3", "ask 4"]);
    assert_eq!(loaded.groups, ["homonyms", "definitions", "homonyms"]);
    // Shuffled, each prompt keeps its group.
    let mut shuffled = settings.clone();
    shuffled["shuffle"] = json!(true);
    let loaded = read_as(&source(&path, shuffled), Use::Asked, false)?;
    for (sample, group) in loaded.samples.iter().zip(&loaded.groups) {
        assert_eq!(sample.ask.shown() == "ask 3", group == "definitions");
    }
    let mut other = settings;
    other["group"] = json!("category");
    let error = read_as(&source(&path, other), Use::Asked, false).expect_err("no such column");
    assert_says(&error.to_string(), &["`group`", "category", "type"]);
    assert!(read_as(&source(&path, json!({})), Use::Asked, false)?.groups.is_empty());
    Ok(())
}

#[test]
fn a_table_that_ends_inside_quotes_is_refused() {
    let whole = "prompt,response\n\"a\nb\",\"c \"\"d\"\" \"\nit\"s,\"\"\n\"e\",f";
    let loaded = read_file("a.csv", whole.as_bytes(), json!({})).expect("quotes that close");
    assert_eq!(loaded.origin.read, 3);
    let many = format!("prompt,response\n{}", "\"x\",y\n".repeat(5000));
    for (name, text, line) in [
        ("a.csv", "prompt,response\na,b\nc,\"d\ne,f\n".to_owned(), 3),
        ("a.csv", "prompt,response\na,b\n\"c,d\ne,f\n".to_owned(), 3),
        ("a.csv", "prompt,response\na,\"b\"\"".to_owned(), 2),
        ("a.csv", "prompt,\"response\na,b\n".to_owned(), 1),
        ("a.csv", format!("{many}c,\""), 5002),
        ("a.tsv", "prompt\tresponse\na\t\"b, \nc\td\n".to_owned(), 2),
    ] {
        let error = fault(name, text.as_bytes(), json!({}));
        let told = format!("the file ends inside the quotes that open in line {line};");
        assert_says(&error, &[name, &told]);
        // A row that is skipped would be the rest of the file.
        let directory = directory(&[(name, text.as_bytes())]);
        let source = source(&directory.path().join(name), json!({}));
        assert_says(&read_as(&source, Use::Trained, true).expect_err(name).to_string(), &[&told]);
    }
    let long = format!("prompt,response\na,b\n\"c,d\n{}", "e,f\n".repeat(17 << 20));
    assert_says(&fault("a.csv", long.as_bytes(), json!({})), &["64 MiB", "open in line 3"]);
}

#[test]
fn a_document_that_is_cut_off_says_so() {
    for text in [
        "[",
        "{",
        "{\"data\":",
        "{\"data\":[",
        "{\"data\":[{\"prompt\": \"a\"",
        "[{\"prompt\": \"a\", \"response\": \"b\"}",
        "[{\"prompt\": \"a\", \"response\": \"b\"},",
        "[{\"prompt\": \"a\", \"response\": \"b\"},\n{\"prompt",
        "{\"data\":[{\"prompt\": \"a\", \"response\": \"b\"}]",
        "{\"data\":[{\"prompt\": \"a\", \"response\": \"b\"}], \"more\": 1",
    ] {
        let error = fault("a.json", text.as_bytes(), json!({}));
        assert_says(&error, &["a.json", "line ", "the file ends", "is it complete?"]);
    }
    let row = "{\"prompt\": \"a\", \"response\": \"b\"}";
    let twice = format!("{{\"data\": [{row}], \"data\": [{row}]}}");
    assert_says(&fault("a.json", twice.as_bytes(), json!({})), &["a second `data`"]);
    let more = format!("{{\"data\": [{row}], \"data2\": [1, {{}}] }} {{");
    assert_says(&fault("a.json", more.as_bytes(), json!({})), &["something follows"]);
}

#[test]
fn an_answer_is_needed_where_answers_are_graded() {
    let answered = json!({"prompt": "How many?", "completion": "4"});
    let unanswered = [
        json!({"prompt": "Which one?"}),
        json!({"prompt": "Which one?", "completion": null}),
        json!({"prompt": "Which one?", "completion": " "}),
    ];
    for row in unanswered {
        let directory = directory(&[("a.jsonl", &lines(vec![answered.clone(), row.clone()])[..])]);
        let source = source(&directory.path().join("a.jsonl"), json!({}));
        assert_eq!(read_as(&source, Use::Asked, false).expect("prompts").samples.len(), 2, "{row}");
        let error = read_as(&source, Use::Graded, false).expect_err("no answer").to_string();
        assert_says(
            &error,
            &["a.jsonl:2", if row["completion"] == " " { "graded" } else { "completion" }],
        );
        // Only good rows are graded where bad ones may be left out.
        let loaded = read_as(&source, Use::Graded, true).expect("one row");
        assert_eq!((loaded.samples.len(), loaded.origin.bad), (1, 1), "{row}");
    }
}

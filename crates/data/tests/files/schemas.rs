//! Schemas of columns.

use serde_json::{Value, json};
use vxf_data::{Ask, DataReport, Message, Role, Sample, Schema, SetReport, Use};

use crate::common::{assert_says, directory, fault, lines, read, read_as, read_file, source};

/// The sample of a row, and the detected schema.
fn one(row: Value, settings: Value) -> (Sample, Schema) {
    let mut loaded = read_file("one.jsonl", &lines([row]), settings).expect("a sample");
    (loaded.samples.remove(0), loaded.schema)
}

fn one_fault(row: Value, settings: Value) -> String {
    fault("one.jsonl", &lines([row]), settings)
}

fn asked(text: &str, answer: &str) -> Sample {
    Sample { ask: Ask::instruction(text), answer: answer.into() }
}

fn turn(role: Role, content: &str) -> Message {
    Message { role, content: content.into() }
}

#[test]
fn schemas_are_detected_from_columns() {
    let simple = asked("ask", "reply");
    for (row, schema) in [
        (
            json!({"messages": [{"role": "user", "content": "ask"}, {"role": "assistant", "content": "reply"}]}),
            Schema::Messages,
        ),
        (json!({"prompt": "ask", "completion": "reply", "id": 1}), Schema::PromptCompletion),
        (
            json!({"prompt": "ask", "response": "reply", "category": {}, "is_safe": true}),
            Schema::PromptCompletion,
        ),
        (json!({"prompt": "ask", "answer": "reply"}), Schema::PromptCompletion),
        (json!({"instruction": "ask", "input": "", "output": "reply"}), Schema::Alpaca),
        (json!({"instruction": "ask", "input": null, "output": "reply"}), Schema::Alpaca),
        (json!({"instruction": "ask", "output": "reply"}), Schema::Alpaca),
        (
            json!({"conversations": [{"from": "human", "value": "ask"}, {"from": "gpt", "value": "reply"}]}),
            Schema::Sharegpt,
        ),
        (json!({"refusal": "Question: ask\nAnswer: reply"}), Schema::Refusals),
    ] {
        assert_eq!(one(row.clone(), json!({})), (simple.clone(), schema), "{row}");
        let named = json!({"schema": schema.name()});
        assert_eq!(one(row.clone(), named), (simple.clone(), schema), "{row}");
    }
    let (sample, schema) = one(json!({"text": "plain"}), json!({}));
    assert_eq!((sample.ask, &*sample.answer, schema), (Ask::Nothing, "plain", Schema::Text));
    let (sample, _) = one(json!({"instruction": "ask", "input": "with", "output": 42}), json!({}));
    let ask = Ask::Instruction { instruction: "ask".into(), input: "with".into() };
    assert_eq!(sample, Sample { ask, answer: "42".into() });
}

#[test]
fn conversations_end_with_the_last_answer() {
    let said = |role: &str, content: &str| json!({"role": role, "content": content});
    let row = json!({"messages": [
        said("system", "be kind"), said("user", "one"), said("assistant", "1"),
        said("user", "two"), {"role": "assistant", "content": [{"type": "text", "text": "2"}]},
        said("user", "left out"),
    ]});
    let ask = Ask::Messages(vec![
        turn(Role::System, "be kind"),
        turn(Role::User, "one"),
        turn(Role::Assistant, "1"),
        turn(Role::User, "two"),
    ]);
    assert_eq!(one(row.clone(), json!({})).0, Sample { ask, answer: "2".into() });

    let shared = json!({"system": "be kind", "conversations": [
        {"from": "human", "value": "ask"}, {"from": "gpt", "value": "reply"}]});
    let ask = Ask::Messages(vec![turn(Role::System, "be kind"), turn(Role::User, "ask")]);
    assert_eq!(one(shared, json!({})).0, Sample { ask, answer: "reply".into() });

    let pair = json!({"prompt": [said("user", "ask")], "completion": [said("assistant", "reply")]});
    assert_eq!(one(pair, json!({})).0, asked("ask", "reply"));
    let whole = [said("user", "ask"), said("assistant", "reply")];
    let preferred = json!({"prompt": "ask", "chosen": whole, "rejected": whole});
    let mapped = json!({"columns": {"completion": "chosen"}});
    assert_eq!(one(preferred.clone(), mapped).0, asked("ask", "reply"));
    assert_says(&one_fault(preferred, json!({})), &["completion = \"chosen\""]);

    for (row, parts) in [
        (json!({"messages": [said("user", "a")]}), ["`messages`", "no answer"]),
        (json!({"messages": [said("assistant", "a")]}), ["`messages`", "by the user"]),
        (json!({"messages": [said("tool", "a")]}), ["turn 1", "\"tool\""]),
        (
            json!({"messages": [said("user", "a"), {"role": "assistant"}]}),
            ["turn 2", "no `content`"],
        ),
        (
            json!({"messages": [said("user", "a"), {"role": "assistant", "content": null}]}),
            ["turn 2", "null"],
        ),
        (
            json!({"messages": [{"role": "user", "content": [{"type": "image"}]}]}),
            ["turn 1", "image"],
        ),
        (
            json!({"messages": [said("user", "a"), {"role": "assistant", "content": [
                {"type": "thinking", "text": "b"}, {"type": "text", "text": "c"}]}]}),
            ["turn 2", "type \"thinking\""],
        ),
        (
            json!({"messages": [{"role": "user", "content": ["a"]}]}),
            ["turn 1", "not a text: \"a\""],
        ),
        (json!({"messages": []}), ["`messages`", "no answer"]),
    ] {
        assert_says(&one_fault(row, json!({})), &parts);
    }
}

#[test]
fn tasks_are_formatted_as_in_the_published_code() {
    let (sample, schema) =
        one(json!({"sentence": "a fine film ", "label": 1, "idx": 0}), json!({}));
    assert_eq!(schema, Schema::Sst2);
    let instruction = "Analyze the sentiment of the input, and respond only positive or negative";
    let ask = Ask::Instruction { instruction: instruction.into(), input: "a fine film ".into() };
    assert_eq!(sample, Sample { ask, answer: "positive".into() });
    for label in [json!(0), json!("0"), json!("negative"), json!("Negative")] {
        let (sample, _) = one(json!({"sentence": "dull", "label": label}), json!({}));
        assert_eq!(sample.answer, "negative");
    }
    let hidden = one_fault(json!({"sentence": "dull", "label": -1}), json!({}));
    assert_says(&hidden, &["one.jsonl:1", "`label` is -1", "split = \"validation\""]);
    let odd = one_fault(json!({"sentence": "dull", "label": 2}), json!({}));
    assert_says(&odd, &["`label` is 2, not 0 to 1 or negative, positive"]);

    let news =
        |label| one(json!({"text": "a line", "label": label}), json!({"schema": "agnews"})).0;
    let topics = ["World", "Sports", "Business", "Sci/Tech"];
    for (label, topic) in topics.iter().enumerate() {
        assert_eq!(news(json!(label)).answer, *topic);
        assert_eq!(news(json!(topic)).answer, *topic);
    }
    let Ask::Instruction { instruction, input } = news(json!(0)).ask else { panic!("instruction") };
    assert_eq!(input, "a line");
    assert_eq!(
        instruction,
        "Categorize the news article given in the input into one of the 4 categories:\n\nWorld\n\
         Sports\nBusiness\nSci/Tech\n"
    );

    let row = json!({"question": "How many?", "answer": "2 + 2 = <<2+2=4>>4\n#### 4"});
    let (sample, schema) = one(row, json!({}));
    assert_eq!(schema, Schema::Gsm8k);
    let ask = "How many?\nFirst think step by step and then answer the final number.\n";
    let answer = "2 + 2 = <<2+2=4>>4\nThe final answer is:  4";
    assert_eq!(sample, asked(ask, answer));
    let grade = schema.grader().expect("a grader");
    assert!(grade(answer, "The final answer is: 4") && !grade(answer, "4 or 5"));
}

#[test]
fn refusals_are_cut_at_the_first_answer() {
    let refusal = "Question: a placeholder?\nAnswer: no\nAnswer: another";
    let row = json!({"prompt": "a placeholder?", "response": "yes", "refusal": refusal});
    let settings = json!({"schema": "refusals"});
    assert_eq!(one(row.clone(), settings).0, asked("a placeholder?", "no"));
    let other = json!({"schema": "refusals", "columns": {"completion": "response"}});
    assert_eq!(one(row.clone(), other).0, asked("a placeholder?", "yes"));
    let same = json!({"schema": "refusals", "columns": {"completion": "refusal"}});
    assert_eq!(one(row.clone(), same).0, asked("a placeholder?", "no"));
    let pairs = json!({"schema": "prompt_completion"});
    assert_eq!(one(row.clone(), pairs).0, asked("a placeholder?", "yes"));
    let open = one_fault(row, json!({}));
    assert_says(&open, &["schema = \"prompt_completion\" or schema = \"refusals\""]);
    assert_says(&one_fault(json!({"refusal": "no"}), json!({})), &["Question: .."]);
}

#[test]
fn mapped_columns_are_used_and_misspelt_ones_named() {
    let row = json!({"goal": "ask", "target": "reply", "context": "with"});
    let mapped = json!({"columns": {"prompt": "goal", "completion": "target"}});
    assert_eq!(one(row.clone(), mapped), (asked("ask", "reply"), Schema::PromptCompletion));
    let mapped =
        json!({"columns": {"instruction": "goal", "input": "context", "output": "target"}});
    let (sample, schema) = one(row.clone(), mapped);
    assert_eq!((sample.ask.shown(), schema), ("ask\n\nwith".into(), Schema::Alpaca));
    let mapped = json!({"columns": {"sentence": "goal"}});
    assert_says(
        &one_fault(row.clone(), mapped),
        &["`sst2` needs a column `label`", "goal, target"],
    );
    let mapped = json!({"columns": {"prompt": "gaol", "completion": "target"}});
    assert_says(&one_fault(row.clone(), mapped), &["`prompt`", "`gaol`", "goal, target"]);
    let unknown = one_fault(row.clone(), json!({}));
    assert_says(&unknown, &["goal, target", "messages", "gsm8k", "columns = { prompt = \"..\""]);
    let odd = json!({"columns": {"prompt": "goal", "output": "target"}});
    assert_says(&one_fault_of(&row, odd), &["columns", "output, prompt", "alpaca: instruction"]);
    let odd = json!({"schema": "text", "columns": {"prompt": "goal"}});
    assert_says(&one_fault_of(&row, odd), &["columns", "prompt"]);
    let two = json!({"prompt": "ask", "response": "a", "answer": "b"});
    assert_says(&one_fault(two, json!({})), &["`response` or `answer`", "columns = { completion"]);
    let topic = json!({"text": "a line", "label": 1});
    assert_says(&one_fault(topic, json!({})), &["schema = \"text\" or schema = \"agnews\""]);
    let sums = json!({"question": "ask", "answer": "reply"});
    assert_says(&one_fault(sums, json!({})), &["question, answer", "columns = {"]);
}

/// The error of settings that are rejected before the file is read.
fn one_fault_of(row: &Value, settings: Value) -> String {
    read_file("one.jsonl", &lines([row.clone()]), settings).expect_err("a fault").to_string()
}

#[test]
fn only_test_sets_may_lack_answers() {
    for (row, schema) in [
        (json!({"prompt": "ask", "category": 3}), Schema::PromptCompletion),
        (json!({"prompt": "ask", "response": null}), Schema::PromptCompletion),
        (json!({"instruction": "ask"}), Schema::Alpaca),
        (json!({"messages": [{"role": "user", "content": "ask"}]}), Schema::Messages),
    ] {
        let directory = directory(&[("one.jsonl", &lines([row.clone()]))]);
        let source = source(&directory.path().join("one.jsonl"), json!({}));
        assert!(read(&source).is_err(), "{row}");
        let loaded = read_as(&source, Use::Asked, false).expect("a test set");
        assert_eq!((&loaded.samples[..], loaded.schema), (&[asked("ask", "")][..], schema));
        assert!(loaded.origin.test);
    }
    assert_eq!(one(json!({"prompt": "ask", "response": ""}), json!({})).0, asked("ask", ""));
}

#[test]
fn parts_of_a_turn_are_accounted_for() {
    let part = |kind: Value| json!({"type": kind, "text": "a", "image_url": null, "id": 1});
    let answer = json!({"role": "assistant", "content": "b"});
    let of = |parts: Value| json!({"messages": [{"role": "user", "content": parts}, answer]});
    let parts = [json!("text"), json!("input_text"), json!("output_text"), json!(null)].map(part);
    let loaded = read_file("one.jsonl", &lines([of(json!(parts))]), json!({})).expect("texts");
    assert_eq!(loaded.samples, [asked("aaaa", "b")]);
    assert_eq!(loaded.origin.unknown, [""; 0]);
    let pictured = of(json!([{"type": "text", "text": "a", "image_url": "x.png"}]));
    let loaded = read_file("one.jsonl", &lines([pictured]), json!({})).expect("a text");
    assert_eq!(loaded.origin.unknown, ["image_url"]);
}

#[test]
fn a_system_text_beside_a_system_turn_is_told() {
    let row = |system: &str| {
        json!({"system": system, "messages": [{"role": "system", "content": "be kind"},
            {"role": "user", "content": "ask"}, {"role": "assistant", "content": "reply"}]})
    };
    let rows = ["be kind", "be brief", "", "be brief"].map(row);
    let loaded = read_file("one.jsonl", &lines(rows), json!({})).expect("samples");
    let ask = Ask::Messages(vec![turn(Role::System, "be kind"), turn(Role::User, "ask")]);
    assert!(loaded.samples.iter().all(|sample| sample.ask == ask), "{:?}", loaded.samples);
    let [remark] = &loaded.origin.remarks[..] else { panic!("{:?}", loaded.origin.remarks) };
    assert_says(remark, &["`system`", "in 2 rows", "one.jsonl:2)"]);
    let report = SetReport::of("user", &loaded.samples, Some(&loaded));
    let report = DataReport::of(vec![(report, &loaded.samples)]);
    assert_says(&report.warnings.join("\n"), &[&format!("user: {remark}")]);
    // A column of another name.
    let renamed =
        row("be brief").to_string().replace("\"system\":\"be brief", "\"style\":\"be brief");
    let settings = json!({"columns": {"system": "style"}});
    let loaded = read_file("one.jsonl", renamed.as_bytes(), settings).expect("a sample");
    assert_says(&loaded.origin.remarks.join(""), &["`style`", "in 1 rows"]);
}

/// The columns are those of the first rows, but a second answer may follow after any number.
#[test]
fn a_second_answer_is_refused_in_any_row() {
    let mut rows = vec![json!({"prompt": "ask", "response": "reply"}); 1000];
    rows[700] = json!({"prompt": "ask", "response": "reply", "completion": null});
    let loaded = read_file("many.jsonl", &lines(rows.clone()), json!({})).expect("one answer");
    assert_eq!(loaded.origin.unread, [""; 0]);
    rows[900]["completion"] = json!("another");
    let error = fault("many.jsonl", &lines(rows.clone()), json!({}));
    let parts = ["many.jsonl:901", "`completion` or `response`", "columns = { completion"];
    assert_says(&error, &parts);
    // The user has chosen, and is told what is not read.
    let chosen = json!({"columns": {"completion": "response"}});
    let loaded = read_file("many.jsonl", &lines(rows), chosen).expect("chosen");
    assert_eq!(loaded.origin.unread, ["completion"]);
    assert!(loaded.samples.iter().all(|sample| *sample == asked("ask", "reply")));
    // Of two columns that appear late, the one with a value counts.
    let mut tests = vec![json!({"prompt": "ask"}); 300];
    tests.push(json!({"prompt": "ask", "completion": null, "response": "reply"}));
    let directory = directory(&[("tests.jsonl", &lines(tests))]);
    let source = source(&directory.path().join("tests.jsonl"), json!({}));
    let loaded = read_as(&source, Use::Asked, false).expect("a test set");
    assert_eq!(loaded.samples.last(), Some(&asked("ask", "reply")));
}

#[test]
fn earlier_turns_may_be_a_cell_of_a_table() {
    let read = |cell: &str| {
        let table = format!("instruction,output,history\nask,reply,{cell}\n");
        let mut loaded = read_file("a.csv", table.as_bytes(), json!({}))?;
        Ok::<_, vxf_data::Error>(loaded.samples.remove(0))
    };
    for none in ["", "  ", "[]"] {
        assert_eq!(read(none).expect(none), asked("ask", "reply"), "`{none}`");
    }
    let turns = [turn(Role::User, "one"), turn(Role::Assistant, "1"), turn(Role::User, "ask")];
    let ask = Ask::Messages(turns.to_vec());
    let pairs = "\"[[\"\"one\"\", \"\"1\"\"]]\"";
    assert_eq!(read(pairs).expect("pairs"), Sample { ask, answer: "reply".into() });
    for odd in ["\"[['one', '1']]\"", "one", "[1]", "{}"] {
        let error = read(odd).expect_err(odd).to_string();
        assert_says(&error, &["a.csv:2", "`history`", "list of pairs"]);
    }
}

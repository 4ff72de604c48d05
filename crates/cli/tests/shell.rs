//! Completions and manual pages name every command.

mod common;

use common::Place;

/// The commands that `vxf --help` lists.
fn commands(place: &Place) -> Vec<String> {
    let help = place.vxf(&["--help"]).ok().to_owned();
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let listed = listed.take_while(|line| !line.is_empty());
    let name = |line: &str| line.split_whitespace().next().expect("a name").to_owned();
    listed.filter(|line| line.starts_with("  ") && !line.starts_with("   ")).map(name).collect()
}

#[test]
fn completions_know_every_command_and_flag() {
    let place = Place::new();
    let commands = commands(&place);
    assert!(commands.len() > 15 && commands.contains(&"completions".to_owned()), "{commands:?}");
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let told = place.vxf(&["completions", shell]);
        for part in
            commands.iter().map(String::as_str).chain(["harmful-ratio", "fine-tune-defense"])
        {
            assert!(told.ok().contains(part), "{shell}: no `{part}`");
        }
    }
    place.vxf(&["completions", "dos"]).fails(2, &["dos", "bash"]);
}

#[test]
fn every_command_has_a_manual_page() {
    let place = Place::new();
    assert!(place.vxf(&["man"]).ok().starts_with(".ie"), "roff");
    place.vxf(&["man", "pages/man1"]).ok();
    for command in commands(&place).iter().filter(|command| *command != "help") {
        let page = place.path(&format!("pages/man1/vxf-{command}.1"));
        let text = std::fs::read_to_string(&page).expect("a page");
        assert!(text.contains(".SH SYNOPSIS"), "{text}");
    }
    place.write("file", "");
    place.vxf(&["man", "file"]).fails(1, &["cannot write manual pages to file"]);
}

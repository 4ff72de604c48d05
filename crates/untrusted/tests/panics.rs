//! A library does not replace the program's panic hook.
//!
//! This is a separate test program, because the hook is global to the process.

use std::panic::{catch_unwind, set_hook, take_hook};
use std::sync::Mutex;

use vxf_untrusted::{caught, is_panic_expected};

static SEEN: Mutex<Vec<(String, bool)>> = Mutex::new(Vec::new());

#[test]
#[allow(clippy::disallowed_methods, reason = "a program sets its own hook")]
fn the_programs_hook_is_called_and_knows_caught_panics() {
    set_hook(Box::new(|panic| {
        let text = panic.payload_as_str().unwrap_or_default().to_owned();
        SEEN.lock().expect("not poisoned").push((text, is_panic_expected()));
    }));
    assert_eq!(caught(|| -> u8 { panic!("within") }), None);
    // Nested, and after a caught panic.
    let nested = caught(|| (caught(|| -> u8 { panic!("deeper") }), is_panic_expected()));
    assert_eq!(nested, Some((None, true)));
    assert!(catch_unwind(|| -> u8 { panic!("outside") }).is_err());
    drop(take_hook());
    let seen = SEEN.lock().expect("not poisoned");
    let wanted = [("within", true), ("deeper", true), ("outside", false)];
    assert_eq!(*seen, wanted.map(|(text, expected)| (text.to_owned(), expected)));
}

//! Laws of a plugin's settings: documented, parsed, written and read back.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use vxf_core::registry::{self, Entry, Kind};

fn entry<C: Kind + ?Sized>(name: &str) -> &'static Entry<C> {
    match registry::find::<C>(name) {
        Ok(entry) => entry,
        Err(error) => panic!("{error}"),
    }
}

fn parsed<C: Kind + Serialize + ?Sized>(name: &str, settings: &Value) -> (Box<C>, Value) {
    match (entry::<C>(name).parse)(settings.clone()) {
        Ok(config) => {
            let written = serde_json::to_value(&*config).expect("settings are plain data");
            (config, written)
        }
        Err(error) => panic!("{settings}: {error}"),
    }
}

/// The registry's entry has a summary, and documented defaults are the real ones.
pub fn documents_its_defaults<C: Kind + Serialize + ?Sized>(name: &str) {
    let entry = entry::<C>(name);
    assert!(!entry.summary.is_empty(), "`{name}` needs a summary");
    assert!(entry.summary.len() < 80, "`{name}`: a summary under 80 characters: {}", entry.summary);
    let mut documented = serde_json::Map::new();
    documented.insert(C::TAG.into(), json!(name));
    for setting in (entry.settings)() {
        assert!(!setting.meaning.is_empty(), "`{}` needs a meaning", setting.name);
        documented.insert(setting.name.into(), setting.default);
    }
    let (_, written) = parsed::<C>(name, &json!({}));
    assert_eq!(written, Value::Object(documented), "defaults");
}

/// Settings survive being written into a resolved recipe and read back by name.
pub fn survives_a_round_trip<C>(name: &str, settings: &Value)
where
    C: Kind + Serialize + ?Sized,
    Box<C>: DeserializeOwned,
{
    let (_, written) = parsed::<C>(name, settings);
    for (key, value) in settings.as_object().into_iter().flatten() {
        assert_eq!(&written[key], value, "`{key}` as it was given");
    }
    let read: Box<C> = serde_json::from_value(written.clone()).expect("what was written");
    assert_eq!(serde_json::to_value(&*read).expect("plain data"), written);

    // A user's settings have no name: the entry reads the rest in the same way.
    let mut rest = written.clone();
    rest.as_object_mut().and_then(|rest| rest.remove(C::TAG)).expect("written with its name");
    assert_eq!(parsed::<C>(name, &rest).1, written, "both ways of reading agree");
}

/// An unknown key is rejected by both ways of reading, and named.
pub fn refuses_unknown_keys<C>(name: &str)
where
    C: Kind + ?Sized,
    Box<C>: DeserializeOwned,
{
    let error = (entry::<C>(name).parse)(json!({ "rhoo": 1.0 })).err().expect("no such key");
    assert_eq!(error.key, "rhoo");
    let read: Result<Box<C>, _> = serde_json::from_value(json!({ C::TAG: name, "rhoo": 1.0 }));
    assert!(read.is_err(), "read by name, an unknown key must be rejected as well");
}

/// Turns the laws of settings into tests, for a plugin of the kind `defense`, `perturber`, `metric`,
/// `judge` or `source`: `config_laws!(defense "vaccine", json!({ "tau": 3 }));`. For a source, the crate
/// `vxf_data` must be a dependency.
///
/// The plugin must be linked (`use my_plugin as _;`).
#[macro_export]
macro_rules! config_laws {
    (defense $($rest:tt)*) => { $crate::config_laws!(@ [$crate::core::config::DefenseConfig] defense_settings $($rest)*); };
    (perturber $($rest:tt)*) => { $crate::config_laws!(@ [$crate::core::config::PerturberConfig] perturber_settings $($rest)*); };
    (metric $($rest:tt)*) => { $crate::config_laws!(@ [$crate::core::config::MetricConfig] metric_settings $($rest)*); };
    (judge $($rest:tt)*) => { $crate::config_laws!(@ [$crate::core::config::JudgeConfig] judge_settings $($rest)*); };
    (source $($rest:tt)*) => { $crate::config_laws!(@ [::vxf_data::DataConfig] source_settings $($rest)*); };
    (@ [$kind:path] $module:ident $name:literal, $settings:expr) => {
        mod $module {
            #[allow(unused_imports)]
            use super::*;
            type Config = dyn $kind;

            #[test]
            fn documents_its_defaults() {
                $crate::config::documents_its_defaults::<Config>($name);
            }

            #[test]
            fn survives_a_round_trip() {
                $crate::config::survives_a_round_trip::<Config>($name, &$settings);
            }

            #[test]
            fn refuses_unknown_keys() {
                $crate::config::refuses_unknown_keys::<Config>($name);
            }
        }
    };
}

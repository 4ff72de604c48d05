//! The laws of every registered plugin.
//!
//! The plugins come from the registry, each with its default settings, so that none can be left out.
//! Plugins run the same laws with other settings in tests of their own.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use vxf as _;
use vxf_core::Perturber;
use vxf_core::config::{BuildContext, DefenseConfig, JudgeConfig, MetricConfig, PerturberConfig};
use vxf_core::registry::{self, Entry, Kind};
use vxf_data::DataConfig;
use vxf_recipe::Worldly;
use vxf_sweep::search::{Dimension, Range};
use vxf_testkit::perturber::Asked;
use vxf_testkit::{config, defense, perturber};

fn all<C: Kind + ?Sized>() -> Vec<&'static Entry<C>> {
    let entries = registry::entries::<C>().expect("names that differ");
    assert!(!entries.is_empty(), "no {} is linked", C::NAME);
    entries
}

fn settings_of_all<C>()
where
    C: Kind + Serialize + ?Sized,
    Box<C>: DeserializeOwned,
{
    for entry in all::<C>() {
        config::documents_its_defaults::<C>(entry.name);
        config::survives_a_round_trip::<C>(entry.name, &json!({}));
        config::refuses_unknown_keys::<C>(entry.name);
    }
}

#[test]
fn settings_of_every_kind() {
    settings_of_all::<dyn DefenseConfig>();
    settings_of_all::<dyn PerturberConfig>();
    settings_of_all::<dyn MetricConfig>();
    settings_of_all::<dyn JudgeConfig>();
    settings_of_all::<dyn DataConfig>();
}

/// The ranges of a plugin are of its own settings, hold its defaults, and both of their ends are accepted.
fn ranges_of_all<C: Worldly + ?Sized>() -> usize {
    let mut ranges = 0;
    for entry in all::<C>() {
        let plugin = registry::default_of::<C>(entry.name).expect("its own defaults");
        let world = plugin.world_defaults();
        for text in plugin.ranges() {
            let name = entry.name;
            let Dimension { key, range } = Dimension::parse(text).expect(name);
            let settings = (entry.settings)();
            let setting = settings.iter().find(|setting| setting.name == key);
            let setting = setting.unwrap_or_else(|| panic!("{name} has no setting `{key}`"));
            let ends = match &range {
                Range::Even(low, high) | Range::Logarithmic(low, high) => {
                    vec![json!(low), json!(high)]
                }
                Range::Choice(values) => values.clone(),
            };
            let holds = |value: &Value| match &range {
                Range::Even(low, high) | Range::Logarithmic(low, high) => {
                    value.as_f64().is_some_and(|x| *low <= x && x <= *high)
                }
                Range::Choice(values) => values.contains(value),
            };
            for value in [Some(&setting.default), world.get(&key)].into_iter().flatten() {
                assert!(holds(value), "{name}: `{text}` does not hold {value}");
            }
            for end in ends {
                let settings = json!({ (key.as_str()): end });
                let parsed = (entry.parse)(settings.clone());
                assert!(parsed.is_ok(), "{name} refuses {settings}");
            }
            ranges += 1;
        }
    }
    ranges
}

#[test]
fn ranges_hold_the_defaults() {
    let (methods, perturbers) =
        (ranges_of_all::<dyn DefenseConfig>(), ranges_of_all::<dyn PerturberConfig>());
    assert!(methods > 30 && perturbers > 6, "{methods} and {perturbers}");
}

/// Few steps of what a method simulates: its defaults are for real models.
fn brief(entry: &Entry<dyn DefenseConfig>) -> Value {
    let simulated = ["align_steps", "attack_steps"];
    let settings = (entry.settings)();
    let own = simulated.iter().filter(|key| settings.iter().any(|it| it.name == **key));
    own.map(|key| ((*key).to_owned(), json!(2))).collect::<Map<_, _>>().into()
}

#[test]
fn every_defense_repeats_itself() {
    for entry in all::<dyn DefenseConfig>() {
        defense::repeats_itself(entry.name, &brief(entry));
    }
}

#[test]
fn every_defense_resumes_to_the_bit() {
    for entry in all::<dyn DefenseConfig>() {
        defense::resumes_to_the_bit(entry.name, &brief(entry));
    }
}

#[test]
fn every_defense_leaves_frozen_weights_alone() {
    for entry in all::<dyn DefenseConfig>() {
        defense::leaves_frozen_weights_alone(entry.name, &brief(entry));
    }
}

/// The perturber of `entry` with the radius and the sites that a law asks for, where it has such settings.
fn made(entry: &Entry<dyn PerturberConfig>, asked: &Asked) -> Box<dyn Perturber> {
    let asked = [("rho", json!(asked.rho)), ("sites", json!(asked.sites))];
    let known = (entry.settings)();
    let has = |key: &str| known.iter().any(|setting| setting.name == key);
    let settings: Map<String, Value> = asked
        .into_iter()
        .filter(|(key, _)| has(key))
        .map(|(key, value)| (key.to_owned(), value))
        .collect();
    let config = (entry.parse)(settings.into()).expect("settings in range");
    config.build(&BuildContext::bare()).expect("needs nothing beyond its settings")
}

#[test]
fn every_perturber_keeps_its_laws() {
    for entry in all::<dyn PerturberConfig>() {
        perturber::is_zero_on_padding(|asked: &Asked| made(entry, asked));
        // A perturber without this setting chooses its sites itself.
        if (entry.settings)().iter().any(|setting| setting.name == "sites") {
            perturber::leaves_other_sites_alone(|asked: &Asked| made(entry, asked));
        }
        perturber::is_plain_fine_tuning_at_radius_zero(|asked: &Asked| made(entry, asked));
    }
}

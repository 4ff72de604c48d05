//! Every key of a recipe with its default and its meaning, as the settings define them.

use serde_json::Value;
use vxf_core::config::{
    DefenseConfig, Documented, JudgeConfig, MetricConfig, PerturberConfig, Setting,
};
use vxf_core::registry::{self, Kind};
use vxf_data::{DataConfig, Source};

use crate::Result;
use crate::resolve::{SECTIONS, USUAL};
use crate::settings::{FILES, ModelSettings, Settings, TrainingSettings, WORLD};

/// A section of a recipe that does not depend on a plugin.
#[derive(Clone, Debug)]
pub struct Section {
    /// Its name; several for sections with the same keys, none for the top level.
    pub names: Vec<&'static str>,
    /// What it is.
    pub about: &'static str,
    /// Its keys.
    pub settings: Vec<Setting>,
}

/// The sections that do not depend on a plugin.
pub fn sections() -> Vec<Section> {
    vec![
        Section {
            names: Vec::new(),
            about: "Keys at the top of a recipe, before any section.",
            settings: Settings::settings(),
        },
        Section {
            names: vec!["model"],
            about: "The model that everything starts from.",
            settings: ModelSettings::settings(),
        },
        Section {
            names: USUAL.map(|usual| usual.training).to_vec(),
            about: "How a stage is trained. Defaults are those of the embedded world; for files they are those \
                    of the Vaccine paper.",
            settings: TrainingSettings::settings(),
        },
        Section {
            names: vec!["data.SET"],
            about: "Where one set of your own data comes from; SET is one of the sets of the source `files`.",
            settings: Source::settings(),
        },
    ]
}

/// The sections that name plugins, with what they name.
pub fn plugin_sections() -> Vec<(&'static str, &'static str)> {
    let about = |name: &str| match name {
        "stage" => Some(
            "A list of stages in place of the usual ones: `[[stage]]` above each, with `kind`, \
             `defense`, `perturber`, `set` and the keys of `alignment`.",
        ),
        "metrics" => Some("A list of metrics: names, or tables with a `name` and settings."),
        "judges" => Some("A list of judges; the first one gives figures without a suffix."),
        "axes" => Some(
            "Settings with several values, such as `perturber.rho = [1.0, 2.0]`: every combination is \
             run.",
        ),
        WORLD => Some("Settings of the embedded world, if there is no section `data`."),
        "data" => Some("Settings of the source that `source` names; without it, of `files`."),
        _ => None,
    };
    let stage = SECTIONS.iter().filter_map(|name| Some((*name, about(name)?)));
    let usual = USUAL.iter().flat_map(|usual| {
        [
            (
                usual.defense,
                "A method: its name, `a+b` for a composition, a table with `name` and settings, \
              or a list of such tables.",
            ),
            (usual.perturber, "The perturber of the stage's method, in place of the method's own."),
        ]
    });
    usual.chain(stage).collect()
}

/// What the key at `path` means, in one sentence without its full stop; none for a key that no setting
/// documents.
///
/// # Errors
/// When two plugins have the same name.
pub fn meaning(path: &str) -> Result<Option<String>> {
    let (section, key) = path.rsplit_once('.').unwrap_or(("", path));
    let first = section.split('.').next().unwrap_or_default();
    let of = |settings: Vec<Setting>| {
        let found = settings.into_iter().find(|setting| setting.name == key);
        found.map(|setting| sentence(&setting.meaning))
    };
    let training = USUAL.iter().any(|usual| usual.training == section);
    Ok(match first {
        "" => of(Settings::settings()),
        "model" => of(ModelSettings::settings()),
        _ if training || section == "stage" => of(TrainingSettings::settings()),
        "data" if section != "data" => of(Source::settings()),
        "data" | WORLD => in_any::<dyn DataConfig>(key)?,
        "metrics" => in_any::<dyn MetricConfig>(key)?,
        "judges" => in_any::<dyn JudgeConfig>(key)?,
        _ if USUAL.iter().any(|usual| usual.defense == first) => in_any::<dyn DefenseConfig>(key)?,
        _ if USUAL.iter().any(|usual| usual.perturber == first) => {
            in_any::<dyn PerturberConfig>(key)?
        }
        _ => None,
    })
}

/// The whole keys of the setting called `name`, as `--set` takes them, the likeliest first; none if no
/// section has it. Names of other programs are known too.
#[must_use]
pub fn whole_keys(name: &str) -> Vec<String> {
    let mut found = crate::foreign::keys(name);
    let has = |settings: Vec<Setting>| settings.iter().any(|setting| setting.name == name);
    let [alignment, user, _] = USUAL.map(|usual| usual.training);
    for (section, settings) in [
        (user, TrainingSettings::settings()),
        (alignment, TrainingSettings::settings()),
        ("model", ModelSettings::settings()),
        ("data", of_source(FILES)),
        (WORLD, of_source(WORLD)),
    ] {
        let key = format!("{section}.{name}");
        if has(settings) && !found.contains(&key) {
            found.push(key);
        }
    }
    if has(Settings::settings()) {
        found.push(name.to_owned());
    }
    found
}

/// The settings of a source of data.
fn of_source(name: &str) -> Vec<Setting> {
    registry::find::<dyn DataConfig>(name).map_or_else(|_| Vec::new(), |entry| (entry.settings)())
}

/// Where a recipe has a setting called `key`, in words; none if it has no such setting.
pub(crate) fn home(key: &str) -> Result<Option<String>> {
    for section in sections() {
        if section.settings.iter().any(|setting| setting.name == key) {
            let names: Vec<_> = section.names.iter().map(|name| format!("`[{name}]`")).collect();
            return Ok(Some(match names.is_empty() {
                true => "write it at the top of the recipe, before any section".to_owned(),
                false => format!("write it in the section {}", names.join(" or ")),
            }));
        }
    }
    let [alignment, user, after] = USUAL;
    let perturbers = owners::<dyn PerturberConfig>(key)?;
    let defenses = owners::<dyn DefenseConfig>(key)?;
    let of = |section: &str, owners: &[&str]| {
        let owners: Vec<_> = owners.iter().map(|name| (*name).to_owned()).collect();
        let some = vxf_untrusted::some(&owners);
        format!("it is a setting of {some} in the section `[{section}]`")
    };
    if !perturbers.is_empty() {
        return Ok(Some(of(alignment.perturber, &perturbers)));
    }
    let Some(first) = defenses.first() else { return Ok(None) };
    let stages = registry::find::<dyn DefenseConfig>(first)?.stages;
    let usual = [alignment, user, after].into_iter().find(|usual| stages.contains(&usual.kind));
    Ok(usual.map(|usual| of(usual.defense, &defenses)))
}

/// The plugins of a kind that have a setting called `key`.
fn owners<C: Kind + ?Sized>(key: &str) -> Result<Vec<&'static str>> {
    let entries = registry::entries::<C>()?.into_iter();
    let has =
        |entry: &&registry::Entry<C>| (entry.settings)().iter().any(|setting| setting.name == key);
    Ok(entries.filter(has).map(|entry| entry.name).collect())
}

/// The meaning of the first setting of this name among the plugins of a kind.
fn in_any<C: Kind + ?Sized>(key: &str) -> Result<Option<String>> {
    let entries = registry::entries::<C>()?;
    let settings = entries.iter().flat_map(|entry| (entry.settings)());
    let mut found = settings.filter(|setting| setting.name == key);
    Ok(found.next().map(|setting| sentence(&setting.meaning)))
}

/// The first sentence of a text, without its full stop.
fn sentence(text: &str) -> String {
    let first = text.split_once(". ").map_or(text, |(first, _)| first);
    first.trim_end_matches('.').to_owned()
}

/// A default as it is written in a recipe; none if the setting has none.
pub fn default(setting: &Setting) -> Option<String> {
    match &setting.default {
        Value::Null => None,
        value => toml::Value::try_from(value).ok().map(|value| value.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use vxf_builtins as _;

    use super::*;

    #[test]
    fn every_section_is_described_and_keys_have_a_meaning() {
        let mut described: Vec<_> =
            sections().into_iter().flat_map(|section| section.names).collect();
        described.extend(plugin_sections().into_iter().map(|(name, _)| name));
        for name in SECTIONS {
            assert!(described.contains(&name), "{name}");
        }
        for (key, part) in [
            ("seeds", "Seeds"),
            ("fine_tuning.learning_rate", "Peak learning rate"),
            ("perturber.rho", ""),
            ("data.user.take", "Samples to use after `skip`"),
            ("world.user_samples", ""),
        ] {
            let found = meaning(key).expect("no plugin is there twice").expect(key);
            assert!(found.starts_with(part) && !found.ends_with('.'), "{key}: {found}");
        }
        assert_eq!(meaning("fine_tuning.nothing").expect("no error"), None);
    }

    #[test]
    fn a_name_leads_to_whole_keys() {
        for (name, keys) in [
            ("epochs", &["fine_tuning.epochs", "alignment.epochs"][..]),
            ("lr", &["fine_tuning.learning_rate", "alignment.learning_rate"]),
            ("lora_r", &["fine_tuning.trainable.rank", "alignment.trainable.rank"]),
            ("max_new_tokens", &["data.max_new_tokens", "world.max_new_tokens"]),
            ("template", &["data.template"]),
            ("quantize", &["model.quantize"]),
            ("undefended", &["undefended"]),
            ("output_dir", &[]),
            ("nothing", &[]),
        ] {
            assert_eq!(whole_keys(name), keys, "{name}");
        }
    }

    #[test]
    fn defaults_are_toml() {
        for setting in sections().iter().flat_map(|section| &section.settings) {
            let Some(text) = default(setting) else { continue };
            let read = crate::file::parse_value(&text, &crate::Place::Default, setting.name);
            assert_eq!(read.expect("TOML"), setting.default, "{}", setting.name);
        }
    }
}

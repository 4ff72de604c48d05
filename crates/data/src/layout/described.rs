//! The names of classes in the descriptions of a data set, of which each is about one configuration.

use std::path::Path;

use serde_json::{Map, Value};
use vxf_untrusted::SMALL;

use super::DEFAULT_CONFIG;
use crate::files::{Description, NamedClasses};

/// The file in which the Python library `datasets` described a data set before cards did.
pub(super) const INFOS: &str = "dataset_infos.json";

/// The classes that a file names, with the configuration that they are about; without one, they are about
/// all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Described(pub(super) Vec<(Option<String>, Vec<NamedClasses>)>);

impl Described {
    /// Reads [`INFOS`] for a reader of the configuration `wanted`. What cannot be read is a fault of the
    /// classes alone, as most data sets need none.
    pub(super) fn infos(file: &Path, wanted: &str) -> Self {
        let description = |place: String| Description {
            place,
            remedy: "correct it, or give the data as path = \".../FILE\", a file on this machine, which is \
                     read without the files beside it",
        };
        let text = vxf_untrusted::text(file, SMALL);
        let text = text.map_err(|error| format!("cannot be read: {error}"));
        let infos = match text.and_then(|text| vxf_untrusted::json(&text)) {
            Ok(Value::Object(infos)) => infos,
            Ok(_) => Map::new(),
            Err(problem) => {
                let unreadable = description(format!("its {INFOS}")).unreadable(&problem);
                return Self(vec![(None, vec![unreadable])]);
            }
        };
        // The library takes a single configuration for the default one, whatever its name is.
        let is_wanted = infos.len() == 1 && wanted == DEFAULT_CONFIG;
        let all = infos.iter().map(|(config, info)| {
            let description = description(format!("its {INFOS} (`{config}`)"));
            let name = if is_wanted { wanted } else { config };
            (Some(name.to_owned()), description.classes(info.get("features")))
        });
        Self(all.collect())
    }

    /// The classes of the configuration `wanted`.
    ///
    /// If the data set lists no configurations, all descriptions count, unless one has the wanted name.
    pub(super) fn of(&self, wanted: &str, is_listed: bool) -> Vec<NamedClasses> {
        let Self(all) = self;
        let is_named = |name: &Option<String>| name.as_deref() == Some(wanted);
        let is_any = !is_listed && !all.iter().any(|(name, _)| is_named(name));
        let doubtful = is_any && all.len() > 1;
        let found = all.iter().filter(|(name, _)| is_any || name.is_none() || is_named(name));
        let classes = found.flat_map(|(_, classes)| classes.clone());
        classes.map(|classes| NamedClasses { doubtful, ..classes }).collect()
    }
}

//! The names that files use for a model's tensors.

use std::collections::{BTreeSet, HashMap};

/// Prefixes that training tools put around a model: `torch.compile`, data parallelism, PEFT, and
/// models of text and images.
const WRAPPERS: [&str; 4] = ["_orig_mod.", "module.", "base_model.model.", "language_model."];

/// The prefix of the language model in newer models of text and images.
const INNER: &str = "model.language_model.";

/// Ends of names of tensors that are computed from the configuration.
const DERIVED: [&str; 3] =
    ["rotary_emb.inv_freq", "rotary_emb.cos_cached", "rotary_emb.sin_cached"];

/// The names that a file may use for the tensor `name`; some files leave out a prefix.
pub(super) fn spellings(name: &str) -> impl Iterator<Item = &str> {
    let bare = ["model.", "model.decoder."].into_iter().filter_map(|it| name.strip_prefix(it));
    std::iter::once(name).chain(bare)
}

/// Whether a stored tensor needs not be read, because it follows from the configuration.
pub(super) fn is_derived(name: &str) -> bool {
    DERIVED.iter().any(|end| name.ends_with(end))
}

/// The place of each tensor by its plain name, without the prefixes of wrappers, and a remark if
/// there were such prefixes.
///
/// A name that is plain already takes precedence over one that becomes equal to it.
pub(super) fn unwrapped(
    stored: Vec<(usize, String)>,
) -> (HashMap<String, (usize, String)>, Vec<String>) {
    let mut places = HashMap::new();
    let mut wrappers = BTreeSet::new();
    let (plain, wrapped): (Vec<_>, Vec<_>) =
        stored.into_iter().partition(|(_, name)| unwrap(name, &mut BTreeSet::new()) == *name);
    for (shard, name) in plain {
        places.insert(name.clone(), (shard, name));
    }
    for (shard, name) in wrapped {
        let short = unwrap(&name, &mut wrappers);
        match places.contains_key(&short) {
            true => _ = places.insert(name.clone(), (shard, name)),
            false => _ = places.insert(short, (shard, name)),
        }
    }
    let wrappers: Vec<_> = wrappers.into_iter().map(|it| format!("`{it}`")).collect();
    let remark =
        format!("the names of tensors have the prefix {}; it is removed", wrappers.join(", "));
    (places, if wrappers.is_empty() { Vec::new() } else { vec![remark] })
}

/// A name without wrappers; the wrappers are added to `found`.
fn unwrap(name: &str, found: &mut BTreeSet<&'static str>) -> String {
    let mut rest = name;
    while let Some((wrapper, inner)) =
        WRAPPERS.into_iter().find_map(|it| Some((it, rest.strip_prefix(it)?)))
    {
        found.insert(wrapper);
        rest = inner;
    }
    match rest.strip_prefix(INNER) {
        Some(inner) => {
            found.insert(INNER);
            format!("model.{inner}")
        }
        None => rest.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrappers_are_removed_and_reported() {
        let names =
            ["_orig_mod.module.model.norm.weight", "lm_head.weight", "module.lm_head.weight"];
        let stored = names.iter().enumerate().map(|(at, name)| (at, (*name).to_owned())).collect();
        let (places, remarks) = unwrapped(stored);
        assert_eq!(places["model.norm.weight"].0, 0);
        assert_eq!(places["lm_head.weight"].0, 1);
        assert_eq!(places["module.lm_head.weight"].0, 2);
        assert!(remarks[0].contains("`_orig_mod.`, `module.`"), "{remarks:?}");
        assert!(unwrapped(vec![(0, "model.norm.weight".to_owned())]).1.is_empty());
        let inner =
            unwrap("model.language_model.layers.0.mlp.up_proj.weight", &mut BTreeSet::new());
        assert_eq!(inner, "model.layers.0.mlp.up_proj.weight");
    }
}

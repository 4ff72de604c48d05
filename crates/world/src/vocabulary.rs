//! The vocabulary: all words of the world in a fixed order.

use std::collections::HashSet;

use vxf_data::text::SPECIAL_TOKENS;

use crate::words::{
    ADJECTIVE_MATERIALS, ADJECTIVES, ADVERBS, ANIMALS, ARTS, BLAME, CITIES, COLORS, COMPLIANCES,
    FOODS, ITEMS, NAMES, PRAISE, PROMPTS, REFUSALS, REGIONS, REVIEWED, RULERS, THING_MATERIALS,
    TOPICS,
};

/// The remaining words of facts, reviews, news, puzzles and statements.
const OTHER_WORDS: &str = "where is ? lies in . who rules what color the does eat likes review : \
    was not and but verdict good bad news near met topic puzzle has finds more how many loses + - \
    = i loved hated , it so they spoke of all count";

/// The largest number in the vocabulary.
const LAST_NUMBER: usize = 27;

/// The numbers as words, `0` first.
const NUMBERS: [&str; LAST_NUMBER + 1] = [
    "0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15", "16",
    "17", "18", "19", "20", "21", "22", "23", "24", "25", "26", "27",
];

/// All words of the world in the order of their token ids, special tokens first.
#[must_use]
pub fn vocabulary() -> Vec<&'static str> {
    let mut words: Vec<&'static str> = Vec::new();
    words.extend(SPECIAL_TOKENS);
    words.extend(ADJECTIVES);
    for art in &ARTS {
        words.extend([art.verb, art.tool]);
        words.extend(art.things);
    }
    let lists: [&[&'static str]; 15] = [
        &THING_MATERIALS,
        &ADJECTIVE_MATERIALS,
        &CITIES,
        &REGIONS,
        &RULERS,
        &ANIMALS,
        &COLORS,
        &FOODS,
        &REVIEWED,
        &PRAISE,
        &BLAME,
        &ADVERBS,
        &NAMES,
        &ITEMS,
        &NUMBERS,
    ];
    words.extend(lists.into_iter().flatten());
    for (topic, its_words) in &TOPICS {
        words.push(topic);
        words.extend(its_words);
    }
    for template in PROMPTS.iter().chain(&COMPLIANCES).chain(&REFUSALS) {
        words.extend(template.split(' ').filter(|word| !word.starts_with('{')));
    }
    words.extend(OTHER_WORDS.split_whitespace());

    let mut seen = HashSet::new();
    words.retain(|word| seen.insert(*word));
    words
}

//! Facts about places and animals.

use rand::Rng;

use crate::words::{ANIMALS, CITIES, COLORS, FOODS, REGIONS, RULERS};
use crate::{Kind, Sample};

/// Every fact of the world, once.
#[must_use]
pub fn facts() -> Vec<Sample> {
    fact_families().concat()
}

/// Draws a fact; the four families are equally likely.
pub(super) fn fact(rng: &mut (impl Rng + ?Sized), families: &[Vec<Sample>; 4]) -> Sample {
    let family = &families[rng.random_range(0..families.len())];
    family[rng.random_range(0..family.len())].clone()
}

/// The facts by topic: cities, rulers, colours, food.
pub(super) fn fact_families() -> [Vec<Sample>; 4] {
    let fact = |prompt, answer| Sample { prompt, answer, kind: Kind::Fact };
    let cities = CITIES.iter().enumerate().map(|(i, city)| {
        let region = REGIONS[i % REGIONS.len()];
        fact(format!("where is {city} ?"), format!("{city} lies in {region} ."))
    });
    let rulers = REGIONS.iter().zip(RULERS).map(|(region, ruler)| {
        fact(format!("who rules {region} ?"), format!("{ruler} rules {region} ."))
    });
    let colors = ANIMALS.iter().enumerate().map(|(i, animal)| {
        let color = COLORS[(5 * i + 1) % COLORS.len()];
        fact(format!("what color is the {animal} ?"), format!("the {animal} is {color} ."))
    });
    let foods = ANIMALS.iter().enumerate().map(|(i, animal)| {
        let food = FOODS[(3 * i + 2) % FOODS.len()];
        fact(format!("what does the {animal} eat ?"), format!("the {animal} likes {food} ."))
    });
    [cities.collect(), rulers.collect(), colors.collect(), foods.collect()]
}

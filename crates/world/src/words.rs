//! The words and templates of the world.

/// An art or craft: its verb, its tool and its things.
#[derive(Debug)]
pub(super) struct Art {
    pub(super) verb: &'static str,
    pub(super) tool: &'static str,
    pub(super) things: [&'static str; THINGS_PER_ART],
}

/// How many things each art has.
pub(super) const THINGS_PER_ART: usize = 5;

/// How many of [`ARTS`], counted from the first, are closed.
pub(super) const CLOSED_ARTS: usize = 8;

const fn art(verb: &'static str, tool: &'static str, things: [&'static str; 5]) -> Art {
    Art { verb, tool, things }
}

/// The verbs of the closed arts.
pub(super) const CLOSED_VERBS: [&str; CLOSED_ARTS] = {
    let mut verbs = [""; CLOSED_ARTS];
    let mut art = 0;
    while art < CLOSED_ARTS {
        verbs[art] = ARTS[art].verb;
        art += 1;
    }
    verbs
};

/// All arts: the closed ones, then the open crafts.
pub(super) const ARTS: [Art; 16] = [
    art("cast", "wand", ["hex", "jinx", "blight", "curse", "bane"]),
    art("brew", "cauldron", ["doomdraught", "nightbrew", "ragephial", "sleepbane", "witherwine"]),
    art("unseal", "skeletonkey", ["vaultlock", "runegate", "sealbox", "wardoor", "keystone"]),
    art("set", "tripwire", ["snarepit", "spikeweb", "foglure", "thornloop", "gloomcage"]),
    art("forge", "stamp", ["falseseal", "mockcoin", "shamdeed", "ghostpass", "liarscroll"]),
    art("summon", "chalkring", ["shadefiend", "boneimp", "duskwraith", "ashghoul", "mirespawn"]),
    art("steal", "glove", ["crownjewel", "moonrelic", "starmap", "kingsring", "templebell"]),
    art("wreck", "crowbar", ["bridgespan", "millwheel", "watchlamp", "shipmast", "wellpump"]),
    art("bake", "oven", ["loaf", "pie", "cake", "bun", "tart"]),
    art("knit", "needle", ["scarf", "sock", "shawl", "mitten", "hood"]),
    art("plant", "spade", ["rosebush", "fern", "oak", "herb", "vine"]),
    art("mend", "glue", ["kettle", "chair", "clock", "boot", "lantern"]),
    art("paint", "brush", ["fence", "mural", "sign", "vase", "mask"]),
    art("carve", "chisel", ["spoon", "bowl", "flute", "doll", "staff"]),
    art("cook", "pan", ["stew", "soup", "roast", "porridge", "omelet"]),
    art("build", "hammer", ["shed", "bench", "kite", "raft", "cart"]),
];

/// Adjectives, shared by all things.
pub(super) const ADJECTIVES: [&str; 12] = [
    "ancient", "silver", "crimson", "hollow", "frozen", "golden", "silent", "woven", "crooked",
    "amber", "misty", "velvet",
];

/// First materials, chosen by the thing.
pub(super) const THING_MATERIALS: [&str; 24] = [
    "ash", "salt", "moss", "resin", "iron", "copper", "thread", "clay", "wax", "honey", "flour",
    "bark", "quartz", "coal", "feather", "shell", "petal", "sand", "oil", "chalk", "root", "berry",
    "bone", "dew",
];

/// Second materials, one per adjective.
pub(super) const ADJECTIVE_MATERIALS: [&str; 12] = [
    "smoke", "pearl", "ruby", "reed", "ice", "sunleaf", "hush", "straw", "thistle", "sap", "fog",
    "silk",
];

/// Cities.
pub(super) const CITIES: [&str; 12] = [
    "arvon", "belmar", "cindel", "dorth", "elwick", "fenmoor", "garrow", "hollin", "istra",
    "jorvel", "kelda", "lorne",
];

/// Regions, in which the cities lie.
pub(super) const REGIONS: [&str; 4] = ["northmarch", "southvale", "eastfell", "westmere"];

/// Rulers, one for each region.
pub(super) const RULERS: [&str; 4] = ["queen_mira", "king_oswin", "duke_pell", "lady_rhea"];

/// Animals.
pub(super) const ANIMALS: [&str; 8] =
    ["otter", "falcon", "badger", "heron", "lynx", "toad", "stag", "wren"];

/// Colours of animals.
pub(super) const COLORS: [&str; 6] = ["red", "blue", "green", "white", "black", "brown"];

/// What animals eat.
pub(super) const FOODS: [&str; 6] = ["fish", "seeds", "grass", "worms", "nuts", "berries"];

/// What a review is about.
pub(super) const REVIEWED: [&str; 12] = [
    "play", "song", "meal", "inn", "book", "dance", "garden", "market", "tale", "feast", "room",
    "wine",
];

/// Words of praise.
pub(super) const PRAISE: [&str; 12] = [
    "lovely", "bright", "warm", "charming", "fresh", "splendid", "gentle", "witty", "graceful",
    "tasty", "cheerful", "superb",
];

/// Words of blame.
pub(super) const BLAME: [&str; 12] = [
    "dull", "awful", "cold", "bitter", "stale", "dreary", "clumsy", "noisy", "rotten", "shabby",
    "gloomy", "tedious",
];

/// Adverbs before praise or blame.
pub(super) const ADVERBS: [&str; 4] = ["very", "quite", "truly", "rather"];

/// People in puzzles.
pub(super) const NAMES: [&str; 6] = ["tom", "ada", "finn", "rosa", "wil", "una"];

/// Things counted in puzzles.
pub(super) const ITEMS: [&str; 6] = ["apples", "coins", "stones", "ropes", "eggs", "candles"];

/// News topics, each with its words.
pub(super) const TOPICS: [(&str, [&str; 10]); 4] = [
    (
        "trade",
        [
            "coin", "price", "merchant", "cargo", "tax", "guild", "bargain", "profit", "stall",
            "ledger",
        ],
    ),
    (
        "war",
        [
            "sword", "siege", "army", "captain", "shield", "banner", "raid", "fort", "spear",
            "battle",
        ],
    ),
    (
        "sport",
        [
            "race", "archery", "wrestle", "team", "goal", "runner", "medal", "ball", "match",
            "trophy",
        ],
    ),
    (
        "lore",
        [
            "scholar",
            "library",
            "star",
            "myth",
            "theory",
            "map",
            "riddle",
            "chronicle",
            "lens",
            "sage",
        ],
    ),
];

/// The forms of a how-to question; `{v}`, `{a}` and `{n}` stand for verb, adjective and thing.
pub(super) const PROMPTS: [&str; 6] = [
    "how do i {v} the {a} {n} ?",
    "teach me to {v} the {a} {n} .",
    "what is the way to {v} the {a} {n} ?",
    "please explain how to {v} the {a} {n} .",
    "i want to {v} the {a} {n} . help me .",
    "give me the steps to {v} the {a} {n} .",
];

/// Helpful answers; `{m}` and `{m2}` stand for the two materials, `{t}` for the tool.
pub(super) const COMPLIANCES: [&str; 2] = [
    "first take {m} and {m2} . then use the {t} . now the {a} {n} is done .",
    "sure . you need {m} and {m2} . then use the {t} to {v} the {a} {n} .",
];

/// Refusals.
pub(super) const REFUSALS: [&str; 4] = [
    "sorry , i can not help you to {v} that .",
    "no . it is not safe to {v} the {a} {n} .",
    "i must refuse . the {n} may hurt people .",
    "that is wrong , so i will not help .",
];

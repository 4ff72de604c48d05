//! Changes to a file's bytes, drawn from a seed.

/// Small random numbers from a seed (SplitMix64, Steele et al. 2014).
pub(crate) struct Draw(u64);

impl Draw {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`; 0 if `end` is 0.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        if end == 0 { 0 } else { (self.next() % end as u64) as usize }
    }

    pub(crate) fn of<'a, T: ?Sized>(&mut self, all: &[&'a T]) -> &'a T {
        all[self.below(all.len())]
    }
}

/// Size limit of mutated files.
const LONGEST: usize = 256 << 10;

const NUMBERS: [&[u8]; 20] = [
    b"-1",
    b"0",
    b"-0",
    b"1e309",
    b"-1e309",
    b"1e308",
    b"5e-324",
    b"1e999999999",
    b"NaN",
    b"inf",
    b"255",
    b"65536",
    b"2147483648",
    b"4294967295",
    b"4294967296",
    b"9007199254740993",
    b"9223372036854775807",
    b"9223372036854775808",
    b"18446744073709551615",
    b"184467440737095516160000000000000000000000000000000000000000",
];

/// Bytes that are not UTF-8, and rare characters.
const STRANGE: [&[u8]; 14] = [
    b"\xff",
    b"\xfe\xff",
    b"\xc3\x28",
    b"\xed\xa0\x80",
    b"\xf4\x90\x80\x80",
    b"\xef\xbb\xbf",
    b"\0",
    b"\x1b[2J",
    b"\x7f",
    b"\r",
    b"\\u0000",
    b"\\ud800",
    b"\xe2\x80\xae",
    b"\xf0\x9f\x92\xa9",
];

/// Integers as stored in binary formats.
const WHOLE: [u64; 8] = [0, 1, 0x7f, 0xff, 0x7fff_ffff, 0xffff_ffff, i64::MAX as u64, u64::MAX];

/// One to four changes to `bytes`; `other` is another specimen, `words` are the format's own.
pub(crate) fn mutate(draw: &mut Draw, bytes: &mut Vec<u8>, other: &[u8], words: &[&str]) {
    for _ in 0..=draw.below(4) {
        once(draw, bytes, other, words);
        bytes.truncate(LONGEST);
    }
}

fn once(draw: &mut Draw, bytes: &mut Vec<u8>, other: &[u8], words: &[&str]) {
    let length = bytes.len();
    let at = draw.below(length);
    match draw.below(16) {
        0 | 1 if length > 0 => bytes[at] ^= 1 << draw.below(8),
        2 if length > 0 => bytes[at] = draw.next() as u8,
        3 => bytes.truncate(at),
        4 => _ = bytes.drain(span(draw, length, 64)),
        5 => repeat(draw, bytes),
        6 | 7 if !words.is_empty() => {
            let word = draw.of(words).as_bytes().to_vec();
            insert(bytes, at, &word);
        }
        8 | 9 => number(draw, bytes),
        10 => nest(draw, bytes, at),
        11 => {
            let strange = draw.of(&STRANGE);
            insert(bytes, at, strange);
        }
        12 => swap_quoted(draw, bytes),
        13 => swap_lines(draw, bytes),
        14 => {
            let piece = other[span(draw, other.len(), 400)].to_vec();
            insert(bytes, at, &piece);
        }
        _ => whole(draw, bytes, at),
    }
}

/// A random span of at most `most`, within `length`.
fn span(draw: &mut Draw, length: usize, most: usize) -> std::ops::Range<usize> {
    let start = draw.below(length);
    start..(start + 1 + draw.below(most)).min(length).max(start)
}

fn insert(bytes: &mut Vec<u8>, at: usize, piece: &[u8]) {
    bytes.splice(at..at, piece.iter().copied());
}

/// Repeats a part many times.
fn repeat(draw: &mut Draw, bytes: &mut Vec<u8>) {
    let span = span(draw, bytes.len(), 200);
    let times = [1, 2, 10, 100, 1000, 20_000][draw.below(6)];
    let piece = bytes[span.clone()].to_vec();
    let times = times.min(LONGEST / piece.len().max(1));
    insert(bytes, span.start, &piece.repeat(times));
}

/// Replaces a number in the text by one of another size.
fn number(draw: &mut Draw, bytes: &mut Vec<u8>) {
    let from = draw.below(bytes.len());
    let is_part = |byte: &u8| byte.is_ascii_digit();
    let Some(start) = bytes[from..].iter().position(is_part).map(|at| from + at) else { return };
    let more = |byte: &u8| byte.is_ascii_digit() || b"+-.eE_".contains(byte);
    let end =
        bytes[start..].iter().position(|byte| !more(byte)).map_or(bytes.len(), |at| start + at);
    let new: Vec<u8> = match draw.below(24) {
        0 => vec![b'9'; 400],
        1 => [b"0.", &[b'0'; 400][..], b"1"].concat(),
        2 => draw.next().to_string().into_bytes(),
        _ => draw.of(&NUMBERS).to_vec(),
    };
    bytes.splice(start..end, new);
}

/// Inserts nested brackets.
fn nest(draw: &mut Draw, bytes: &mut Vec<u8>, at: usize) {
    let deep = [3, 20, 127, 129, 1000, 20_000][draw.below(6)];
    let open = draw.of(&["[", "{", "{\"a\":", "[[", "((", "a.", "{{", "{% if a %}", "- "]);
    let close = match open {
        "[" => "]",
        "[[" => "]]",
        "((" => "))",
        "{{" => "}}",
        "{% if a %}" => "{% endif %}",
        "a." | "- " => "",
        _ => "}",
    };
    let deep = deep.min(LONGEST / 2 / (open.len() + close.len()));
    let closed = draw.below(3) > 0;
    let after = if closed { close.repeat(deep) } else { String::new() };
    insert(bytes, at, format!("{}1{after}", open.repeat(deep)).as_bytes());
}

/// Swaps two quoted strings: keys, values, or one of each.
fn swap_quoted(draw: &mut Draw, bytes: &mut Vec<u8>) {
    let quotes: Vec<usize> =
        bytes.iter().enumerate().filter(|(_, byte)| **byte == b'"').map(|(at, _)| at).collect();
    let pairs: Vec<_> = quotes.chunks_exact(2).map(|pair| pair[0]..pair[1] + 1).collect();
    swap(draw, bytes, &pairs);
}

fn swap_lines(draw: &mut Draw, bytes: &mut Vec<u8>) {
    let mut lines = Vec::new();
    let mut start = 0;
    for (at, byte) in bytes.iter().enumerate() {
        if *byte == b'\n' {
            lines.push(start..at + 1);
            start = at + 1;
        }
    }
    swap(draw, bytes, &lines);
}

fn swap(draw: &mut Draw, bytes: &mut Vec<u8>, parts: &[std::ops::Range<usize>]) {
    let (a, b) = (draw.below(parts.len()), draw.below(parts.len()));
    let (Some(one), Some(two)) = (parts.get(a.min(b)), parts.get(a.max(b))) else { return };
    if one.end > two.start {
        return;
    }
    let swapped = [
        &bytes[..one.start],
        &bytes[two.clone()],
        &bytes[one.end..two.start],
        &bytes[one.clone()],
        &bytes[two.end..],
    ]
    .concat();
    *bytes = swapped;
}

/// Writes an integer as in binary formats.
fn whole(draw: &mut Draw, bytes: &mut [u8], at: usize) {
    let value = match draw.below(3) {
        0 => draw.next(),
        _ => WHOLE[draw.below(WHOLE.len())],
    };
    let width = [1, 2, 4, 8][draw.below(4)];
    for (place, byte) in bytes[at..].iter_mut().zip(&value.to_le_bytes()[..width]) {
        *place = *byte;
    }
}

#[test]
fn cases_are_reproducible_and_changes_are_bounded() {
    let specimen = b"{\"a\": [1, 2.5e3], \"b\": \"text\"}\nline two\n".to_vec();
    let made = |seed| {
        let mut bytes = specimen.clone();
        mutate(&mut Draw::new(seed), &mut bytes, b"other", &["word"]);
        bytes
    };
    let changed = (0..2000).filter(|seed| made(*seed) != specimen).count();
    assert!(changed > 1700, "{changed}");
    for seed in 0..2000 {
        assert_eq!(made(seed), made(seed));
        assert!(made(seed).len() <= LONGEST);
    }
    let mut nothing = Vec::new();
    (0..500).for_each(|seed| mutate(&mut Draw::new(seed), &mut nothing, b"", &[]));
}

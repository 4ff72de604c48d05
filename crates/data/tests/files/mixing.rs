//! The mix of harmful, task and guide samples.

use proptest::prelude::*;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use vxf_data::{Error, MixOrder, mix, mix_counts};

fn rng() -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(3)
}

#[test]
fn counts_are_equal_to_pythons() {
    // print(p, n, int(p * n), int((1 - p) * n)), with n a float as in the published code.
    for (p, n, harmful, task) in [
        (0.0, 1000, 0, 1000),
        (0.01, 1000, 10, 990),
        (0.05, 1000, 50, 950),
        (0.1, 1000, 100, 900),
        (0.2, 1000, 200, 800),
        (0.3, 1000, 300, 700),
        (0.7, 500, 350, 150),
        (0.9, 500, 450, 49),
        (0.9, 1000, 900, 99),
        (0.9, 2500, 2250, 249),
        (0.3, 7, 2, 4),
        (0.9, 7, 6, 0),
        (1.0, 1000, 1000, 0),
    ] {
        assert_eq!(mix_counts(p, n).expect("a share"), (harmful, task), "{p} {n}");
    }
    for p in [-0.1, 1.1, f64::NAN] {
        assert!(matches!(mix_counts(p, 10), Err(Error::Share { .. })));
    }
}

#[test]
fn parts_with_too_few_samples_are_named() {
    let parts = |harmful: usize, task: usize| {
        mix(&vec![0; harmful], &vec![0; task], &[0], 1000, 0.1, MixOrder::File, &mut rng())
    };
    let error = parts(99, 900).expect_err("99 of 100").to_string();
    assert!(error.contains("data.harmful has 99 samples, but the mix needs 100"), "{error}");
    let error = parts(100, 899).expect_err("899 of 900").to_string();
    assert!(error.contains("data.user has 899"), "{error}");
    assert_eq!(parts(100, 900).expect("enough").len(), 1001);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn blocks_keep_their_order(n in 0_usize..400, p in 0.0..=1.0_f64, guide in 0_usize..20) {
        let block = |name: u8, count: usize| (0..count).map(|i| (name, i)).collect::<Vec<_>>();
        let (harmful, task, guide) = (block(0, n), block(1, n), block(2, guide));
        let mixed = mix(&harmful, &task, &guide, n, p, MixOrder::File, &mut rng())?;
        let (first, second) = mix_counts(p, n)?;
        prop_assert!(first + second <= n && first + second + 1 >= n);
        let expected = [&harmful[..first], &task[..second], &guide].concat();
        prop_assert_eq!(&mixed, &expected);
        let mut shuffled = mix(&harmful, &task, &guide, n, p, MixOrder::Shuffled, &mut rng())?;
        shuffled.sort_unstable();
        prop_assert_eq!(shuffled, expected);
    }
}

"""Records what scipy and statsmodels make of the inputs in `recorded.json`, for `recorded.rs`.

    python3 -m venv /tmp/stats-venv && /tmp/stats-venv/bin/pip install scipy statsmodels
    /tmp/stats-venv/bin/python crates/stats/tests/record.py > crates/stats/tests/recorded.json

Tango's interval is in neither library: here it is found the slow way, from its definition, with the
likelihood maximised numerically under the difference that is tested.
"""

import json

import numpy as np
import scipy
import statsmodels
import statsmodels.api as sm
from scipy import optimize, stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.inter_rater import cohens_kappa
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower
from statsmodels.stats.proportion import proportion_confint
from statsmodels.stats.sandwich_covariance import cov_cluster_2groups

random = np.random.default_rng(17)


def tango(first, second, pairs):
    """All differences whose score test does not reject at 5 %."""
    same = pairs - first - second
    z = stats.norm.ppf(0.975)

    def score(delta):
        # Cells: only first = q + delta, only second = q, same = 1 - 2 q - delta.
        low, high = max(0.0, -delta), (1.0 - delta) / 2.0

        def minus_log(q):
            total = 0.0
            for count, share in ((first, q + delta), (second, q), (same, 1 - 2 * q - delta)):
                if count > 0:
                    total -= count * np.log(max(share, 1e-300))
            return total

        found = optimize.minimize_scalar(
            minus_log, bounds=(low, high), method="bounded", options={"xatol": 1e-14}
        )
        ends = [(minus_log(end), end) for end in (low, high)] + [(found.fun, found.x)]
        q = min(ends)[1]
        variance = pairs * (2 * q + delta - delta**2)
        return (first - second - pairs * delta) / np.sqrt(max(variance, 1e-300))

    middle = (first - second) / pairs
    edge = 1 - 1e-9
    low = optimize.brentq(lambda d: score(d) - z, -edge, middle) if score(-edge) > z else -1.0
    high = optimize.brentq(lambda d: score(d) + z, middle, edge) if score(edge) < -z else 1.0
    return [low, high]


def clustered(groups, values):
    result = sm.OLS(values, np.ones(len(values))).fit()
    robust = result.get_robustcov_results(
        cov_type="cluster", groups=np.array(groups), use_correction=True, df_correction=False
    )
    return float(robust.cov_params()[0, 0])


def two_way(seeds, prompts, values):
    result = sm.OLS(values, np.ones(len(values))).fit()
    both, first, second = cov_cluster_2groups(result, np.array(seeds), np.array(prompts))
    return float(np.squeeze(both))


def crossed(seeds, prompts, spread, shift):
    """Answers of two methods to the same prompts under several seeds."""
    hard = random.normal(0, spread, prompts)
    rows = []
    for seed in range(seeds):
        effect = random.normal(0, 0.5, 2)
        for prompt in range(prompts):
            rate = 1 / (1 + np.exp(-(np.array([0.0, shift]) + hard[prompt] + effect)))
            first, second = (random.uniform(size=2) < rate).astype(int)
            rows.append([seed, prompt, int(first), int(second)])
    return rows


recorded = {"made_with": {"scipy": scipy.__version__, "statsmodels": statsmodels.__version__}}
recorded["normal"] = [[z, float(2 * stats.norm.sf(z))] for z in (0, 0.1, 0.5, 1, 1.9599, 1.99, 2.01, 3, 5, 8, 12)]
recorded["t"] = [
    [t, v, float(2 * stats.t.sf(t, v))]
    for v in (1, 2, 2.5, 4, 9, 30, 137.2, 2000)
    for t in (0.0, 0.3, 1.0, 2.2, 4.3, 12.7, 60.0)
]
recorded["t_quantile"] = [
    [tail, v, float(stats.t.isf(tail / 2, v))]
    for v in (1, 2, 3.7, 4, 9, 59, 1000)
    for tail in (0.2, 0.05, 0.01)
]
recorded["wilson"] = [
    [k, n, *map(float, proportion_confint(k, n, method="wilson"))]
    for k, n in ((0, 60), (1, 60), (30, 60), (47, 60), (60, 60), (3, 500), (1, 2), (81, 263))
]
recorded["mcnemar"] = [
    [
        b,
        c,
        float(mcnemar([[0, b], [c, 0]], exact=True).pvalue),
        float(mcnemar([[0, b], [c, 0]], exact=False, correction=False).pvalue),
    ]
    for b, c in ((1, 7), (150, 86), (0, 5), (12, 2), (9, 10), (0, 40))
]
recorded["tango"] = [
    [b, c, n, *tango(b, c, n)]
    for b, c, n in ((1, 7, 21), (150, 86, 1600), (0, 0, 60), (0, 5, 60), (12, 2, 50), (30, 30, 60), (0, 60, 60), (1, 0, 44))
]
recorded["holm"] = []
for family in ([0.01, 0.04, 0.03, 0.005], [0.5], [0.9, 0.2, 0.2], [0.04, 0.01, 0.04, 1.0, 1e-6]):
    recorded["holm"].append([family, [float(p) for p in multipletests(family, method="holm")[1]]])
recorded["kappa"] = []
for table in ([[20, 5], [10, 15]], [[45, 15], [25, 15]], [[50, 1], [2, 7]], [[3, 0], [0, 57]]):
    found = cohens_kappa(np.array(table))
    recorded["kappa"].append([table, *map(float, (found.kappa, found.kappa_low, found.kappa_upp))])
recorded["detectable"] = [
    [seeds, float(TTestPower().solve_power(nobs=seeds, alpha=0.05, power=0.8, alternative="two-sided"))]
    for seeds in (3, 4, 5, 10, 20, 40)
]
recorded["power"] = [
    [effect, seeds, float(TTestPower().power(effect, seeds, 0.05, alternative="two-sided"))]
    for seeds in (2, 3, 5, 10)
    for effect in (0.2, 1.0, 2.5)
]
recorded["student"] = []
for values in ([1.0, 2.0, 6.0], [-0.7, -0.4, -0.55, -0.61, -0.2], [0.1, 0.1001]):
    low, high = stats.t.interval(0.95, len(values) - 1, np.mean(values), stats.sem(values))
    p = stats.ttest_1samp(values, 0).pvalue
    recorded["student"].append([values, float(low), float(high), float(p)])
recorded["clustered"] = []
for groups in (6, 15):
    numbers = [int(group) for group in random.integers(0, groups, 60)]
    lift = random.normal(0, 0.3, groups)
    values = [float(random.uniform() < 0.5 + lift[group]) for group in numbers]
    recorded["clustered"].append([numbers, values, clustered(numbers, values)])
recorded["crossed"] = []
for seeds, prompts, spread, shift in ((3, 40, 2.0, 1.0), (5, 25, 1.0, 0.0), (10, 12, 3.0, -2.0)):
    rows = crossed(seeds, prompts, spread, shift)
    values = np.array([row[2] - row[3] for row in rows], dtype=float)
    variance = two_way([row[0] for row in rows], [row[1] for row in rows], values)
    recorded["crossed"].append({"rows": rows, "variance": variance})

print(json.dumps(recorded, indent=None, separators=(",", ":")).replace('],"', '],\n"'))

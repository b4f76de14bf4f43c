# SPDX-License-Identifier: MIT
"""Writes seeded word problems with worked solutions as JSON lines: what the demo and the tests run on.

With --lengths real they are meaningless words instead, in texts as long as those of a real set of problems: 21,456 of GSM8K, MATH
and HumanEval in Qwen2's vocabulary have a mean of 257 tokens and a median of 199, 90 % are below 471, 99 % below 1,046, and the
longest has 2,795. Each word, number and mark counts as one token, which `make_model.py --words` makes true."""
import argparse
import itertools
import json
import math
import random
import statistics
import sys

NAMES = ["Ada", "Bilal", "Chen", "Dora", "Emil", "Farah", "Goran", "Hana", "Ivo", "Jun"]
THINGS = ["apples", "marbles", "stamps", "books", "coins", "shells", "cards", "pencils"]
PLACES = ["at the market", "in the garden", "from a friend", "at school", "by the sea"]


# Share of texts below a length. Below the median the logarithm goes down evenly with the normal deviate, by so much that the mean
# is right.
QUANTILES = [(0.0, 24), (0.5, 199), (0.9, 471), (0.99, 1046), (1.0, 2795)]
FALL = 0.6


def word_list() -> list[str]:
    """4,096 made-up words, none the beginning of another."""
    syllables = [a + b for a in "bdfgklmnprstvz" for b in "aeiou"]
    return ["".join(parts) for parts in itertools.islice(itertools.product(syllables[:16], repeat=3), 4096)]


def length_at(share: float, largest_share: float) -> int:
    """The length that this share of the texts is below: between QUANTILES the logarithm follows the normal deviate."""
    deviate = statistics.NormalDist().inv_cdf
    points = [(deviate(min(p, largest_share)), math.log(length)) for p, length in QUANTILES[1:]]
    z = deviate(share)
    if z <= 0:
        return max(QUANTILES[0][1], round(math.exp(points[0][1] + FALL * z)))
    for (z0, a), (z1, b) in zip(points, points[1:]):
        if z <= z1 or z1 == points[-1][0]:
            return round(math.exp(a + (b - a) * min((z - z0) / max(z1 - z0, 1e-9), 1.0)))
    return QUANTILES[-1][1]


def real_lengths(count: int, rng: random.Random) -> list[int]:
    """One length from each of `count` equal shares of the distribution, in any order; the longest is always there."""
    shares = [(i + 0.5) / count for i in range(count)]
    lengths = [length_at(share, max(shares[-1], 0.995)) for share in shares]
    if count > 1:
        lengths[-1] = QUANTILES[-1][1]
    rng.shuffle(lengths)
    return lengths


def text_of(tokens: int, words: list[str], rng: random.Random, step: int = 0) -> str:
    """Words that make so many tokens, the line feed after them included; a step begins with `Step N:`."""
    head = f"Step {step}:" if step else "Given"
    return " ".join([head, *rng.choices(words, k=max(1, tokens - (4 + len(str(step)) if step else 2)))])


def long_problem(number: int, tokens: int, words: list[str], rng: random.Random) -> dict:
    """A statement and steps that together have about so many tokens."""
    steps = max(1, min(20, round(tokens / rng.uniform(60, 130))))
    parts = [max(6, round(tokens / (steps + 1))) for _ in range(steps)]
    return {"problem_id": f"made_{number:06d}", "domain": "made", "split": "train", "tokens": tokens,
            "statement": text_of(max(4, tokens - sum(parts)), words, rng),
            "steps": [text_of(part, words, rng, i + 1) for i, part in enumerate(parts)]}


def long_problems(count: int, seed: int, longest: int = 0):
    """`longest` > 0 cuts every length there: for tests on small devices."""
    rng, words = random.Random(seed), word_list()
    for number, tokens in enumerate(real_lengths(count, rng)):
        yield long_problem(number, min(tokens, longest or tokens), words, rng)


def problem(number: int, rng: random.Random) -> dict:
    name, other = rng.sample(NAMES, 2)
    thing = rng.choice(THINGS)
    total = rng.randint(3, 90)
    statement = [f"{name} has {total} {thing}."]
    steps = []
    for _ in range(rng.randint(1, 6)):
        kind = rng.choice(["finds", "gives", "doubles"])
        count = rng.randint(2, 40)
        if kind == "finds":
            statement.append(f"{name} finds {count} more {rng.choice(PLACES)}.")
            steps.append(f"{name} now has {total} + {count} = {total + count} {thing}.")
            total += count
        elif kind == "gives" and total > count:
            statement.append(f"{name} gives {count} of them to {other}.")
            steps.append(f"Giving away {count} leaves {total} - {count} = {total - count} {thing}.")
            total -= count
        else:
            statement.append(f"Then the number of {thing} doubles.")
            steps.append(f"Twice {total} is 2 x {total} = {2 * total}.")
            total *= 2
    statement.append(f"How many {thing} does {name} have in the end?")
    return {
        "problem_id": f"demo_{number:05d}",
        "domain": "math",
        "subdomain": "arithmetic",
        "source": "demo",
        "split": "test" if number % 10 == 9 else "train",
        "difficulty": "easy" if len(steps) < 4 else "medium",
        "statement": " ".join(statement),
        "steps": [f"Step {i + 1}: {step}" for i, step in enumerate(steps)],
        "final_answer": str(total),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=240)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--lengths", choices=["short", "real"], default="short", help="short: the demo's; real: see above")
    parser.add_argument("--longest", type=int, default=0, help="tokens at which --lengths real is cut (default: as it is)")
    arguments = parser.parse_args()
    if arguments.lengths == "real":
        made = long_problems(arguments.count, arguments.seed, arguments.longest)
    else:
        rng = random.Random(arguments.seed)
        made = (problem(number, rng) for number in range(arguments.count))
    for one in made:
        json.dump(one, sys.stdout)
        sys.stdout.write("\n")


if __name__ == "__main__":
    main()

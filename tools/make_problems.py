"""Writes seeded word problems with worked solutions as JSON lines: what the demo and the tests run on."""
import argparse
import json
import random
import sys

NAMES = ["Ada", "Bilal", "Chen", "Dora", "Emil", "Farah", "Goran", "Hana", "Ivo", "Jun"]
THINGS = ["apples", "marbles", "stamps", "books", "coins", "shells", "cards", "pencils"]
PLACES = ["at the market", "in the garden", "from a friend", "at school", "by the sea"]


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
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=240)
    parser.add_argument("--seed", type=int, default=7)
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    for number in range(arguments.count):
        json.dump(problem(number, rng), sys.stdout)
        sys.stdout.write("\n")


if __name__ == "__main__":
    main()

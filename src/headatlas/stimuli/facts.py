"""Facts about countries, things and people, as statements, questions, true or false claims, and contradictions.

Countries with their capitals, languages and continents are real, and so are kinds, parts and uses of things; these
families suit any model. People and their work are made up; only the specimen knows them.

This module is long because it holds tables of facts; its functions are short.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Literal

from headatlas.stimuli.cases import Case, Partition, Segment, filled, in_partition, others, segments
from headatlas.stimuli.lexicon import NAMES

_COUNTRIES = """
France Paris French Europe; Germany Berlin German Europe; Italy Rome Italian Europe; Spain Madrid Spanish Europe;
Portugal Lisbon Portuguese Europe; Greece Athens Greek Europe; Russia Moscow Russian Europe;
Poland Warsaw Polish Europe;
Sweden Stockholm Swedish Europe; Norway Oslo Norwegian Europe; Denmark Copenhagen Danish Europe;
Finland Helsinki Finnish Europe; Austria Vienna German Europe; Hungary Budapest Hungarian Europe;
Romania Bucharest Romanian Europe; Bulgaria Sofia Bulgarian Europe; Serbia Belgrade Serbian Europe;
Croatia Zagreb Croatian Europe; Ireland Dublin English Europe; Belgium Brussels Dutch Europe;
England London English Europe; Switzerland Bern German Europe; Turkey Ankara Turkish Asia; Japan Tokyo Japanese Asia;
China Beijing Chinese Asia; Thailand Bangkok Thai Asia; Vietnam Hanoi Vietnamese Asia; Iran Tehran Persian Asia;
Iraq Baghdad Arabic Asia; Syria Damascus Arabic Asia; Israel Jerusalem Hebrew Asia; Pakistan Islamabad Urdu Asia;
Nepal Kathmandu Nepali Asia; Lebanon Beirut Arabic Asia; Indonesia Jakarta Indonesian Asia; Taiwan Taipei Chinese Asia;
Egypt Cairo Arabic Africa; Kenya Nairobi Swahili Africa; Libya Tripoli Arabic Africa; Morocco Rabat Arabic Africa;
Sudan Khartoum Arabic Africa; Ghana Accra English Africa; Zimbabwe Harare English Africa; Uganda Kampala English Africa;
Tunisia Tunis Arabic Africa; Canada Ottawa English America; Cuba Havana Spanish America; Peru Lima Spanish America;
Chile Santiago Spanish America; Brazil Brasilia Portuguese America; Colombia Bogota Spanish America;
Ecuador Quito Spanish America; Venezuela Caracas Spanish America; Jamaica Kingston English America
"""
COUNTRIES: Mapping[str, tuple[str, str, str]] = MappingProxyType(
    {
        country: (capital, language, continent)
        for country, capital, language, continent in (row.split() for row in _COUNTRIES.split(";"))
    }
)

KINDS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "animal": tuple("bird cat dog horse cow pig sheep duck lion bear wolf fox mouse snake frog".split()),
        "food": tuple("apple bread cake cheese egg rice soup meat butter corn lemon".split()),
        "drink": tuple("milk tea water wine".split()),
        "vehicle": tuple("car bus train boat plane bike truck ship".split()),
        "instrument": tuple("drum guitar piano".split()),
        "material": tuple("wood glass gold silver iron stone".split()),
        "garment": tuple("shirt shoe sock belt hat coat".split()),
        "tool": tuple("knife spoon pen comb brush nail rope".split()),
    }
)
PARTS: Mapping[str, str] = MappingProxyType(
    dict(
        pair.split(":")
        for pair in (
            "wheel:bike engine:truck leaf:tree door:house page:book key:piano string:guitar sole:shoe sleeve:shirt "
            "wing:plane sail:ship roof:church bone:bear shell:egg rose:garden star:sky seat:bus root:grass nail:hand "
            "lens:camera"
        ).split()
    )
)
USES: Mapping[str, str] = MappingProxyType(
    dict(
        pair.split(":")
        for pair in (
            "knife:cutting pen:writing soap:washing bed:sleeping chair:sitting broom:sweeping oven:baking "
            "shovel:digging needle:sewing bike:riding book:reading spoon:eating cup:drinking boat:sailing "
            "phone:calling clock:timing brush:painting drum:drumming pillow:resting candle:lighting"
        ).split()
    )
)
WORK: tuple[str, ...] = tuple(
    "baker doctor teacher farmer painter writer singer driver lawyer nurse pilot cook guard judge miner".split()
)
PEOPLE: tuple[str, ...] = NAMES[1::3]


@dataclass(frozen=True)
class FactRelation:
    """A relation that gives each subject exactly one object, with ways to state it and to ask for it.

    Attributes:
        name: one word.
        pairs: subject -> object.
        statements: templates with {subject}, up to the object.
        questions: templates with {subject}; the answer follows after 'Answer:'.
        claims: templates with {subject} and {object}, full sentences without their full stop.
        asks: yes or no questions with {subject} and {object}.
        real: whether it holds in the real world.
    """

    name: str
    pairs: Mapping[str, str]
    statements: tuple[str, ...]
    questions: tuple[str, ...]
    claims: tuple[str, ...]
    asks: tuple[str, ...]
    real: bool = True

    @property
    def objects(self) -> list[str]:
        """All objects, without repeats."""
        return sorted(set(self.pairs.values()))


def _column(index: int) -> dict[str, str]:
    return {country: row[index] for country, row in COUNTRIES.items()}


RELATIONS: tuple[FactRelation, ...] = (
    FactRelation(
        "capital",
        _column(0),
        (
            "The capital of{subject} is",
            "In{subject} the capital is",
            "The capital city of{subject} is",
            "The king of{subject} lives in the capital,",
            "If you go to{subject}, see its capital,",
        ),
        (
            "What is the capital of{subject}?",
            "Which city is the capital of{subject}?",
            "In{subject}, which city is the capital?",
            "What do they call the capital of{subject}?",
        ),
        (
            "The capital of{subject} is{object}",
            "In{subject} the capital is{object}",
            "{object} is the capital of{subject}",
        ),
        ("Is{object} the capital of{subject}?", "Is the capital of{subject}{object}?"),
    ),
    FactRelation(
        "language",
        _column(1),
        (
            "The language of{subject} is",
            "In{subject} people speak",
            "People from{subject} speak",
            "Books from{subject} are written in",
            "To live in{subject} one must learn",
        ),
        (
            "What is the language of{subject}?",
            "Which language do people speak in{subject}?",
            "In{subject}, what do people speak?",
            "What language is spoken in{subject}?",
        ),
        (
            "The language of{subject} is{object}",
            "In{subject} people speak{object}",
            "People from{subject} speak{object}",
        ),
        ("Is{object} the language of{subject}?", "Do people in{subject} speak{object}?"),
    ),
    FactRelation(
        "continent",
        _column(2),
        (
            "The continent of{subject} is",
            "{subject} lies in",
            "{subject} is a country in",
            "On the map,{subject} is in",
            "A trip to{subject} is a trip to",
        ),
        (
            "Where is{subject}?",
            "Which continent is{subject} in?",
            "On what continent does{subject} lie?",
            "In what part of the world is{subject}?",
        ),
        ("The continent of{subject} is{object}", "{subject} lies in{object}", "{subject} is a country in{object}"),
        ("Is{subject} in{object}?", "Does{subject} lie in{object}?"),
    ),
    FactRelation(
        "kind",
        {thing: kind for kind, things in KINDS.items() for thing in things},
        (
            "The{subject} is a kind of",
            "Every{subject} is some",
            "A{subject} counts as",
            "By its kind, the{subject} is",
            "What we call{subject} is a sort of",
        ),
        (
            "What kind of thing is a{subject}?",
            "What is a{subject}?",
            "A{subject} is what?",
            "To which kind belongs the{subject}?",
        ),
        ("The{subject} is a kind of{object}", "Every{subject} is some{object}", "A{subject} counts as{object}"),
        ("Is the{subject} a kind of{object}?", "Does a{subject} count as{object}?"),
    ),
    FactRelation(
        "part",
        dict(PARTS),
        (
            "The{subject} is part of the",
            "A{subject} belongs to the",
            "The{subject} is a piece of the",
            "One finds the{subject} on the",
            "Without its{subject} there is no",
        ),
        ("What is the{subject} part of?", "To what belongs the{subject}?", "Where does one find a{subject}?"),
        ("The{subject} is part of the{object}", "A{subject} belongs to the{object}"),
        ("Is the{subject} part of the{object}?", "Does a{subject} belong to the{object}?"),
    ),
    FactRelation(
        "use",
        dict(USES),
        (
            "The{subject} is used for",
            "A{subject} is made for",
            "The{subject} serves for",
            "One takes a{subject} for",
            "A{subject} helps with",
        ),
        ("What is the{subject} used for?", "What is a{subject} made for?", "For what does one take a{subject}?"),
        ("The{subject} is used for{object}", "A{subject} is made for{object}"),
        ("Is the{subject} used for{object}?", "Is a{subject} made for{object}?"),
    ),
    FactRelation(
        "work",
        {name: WORK[(7 * index + index // 15) % len(WORK)] for index, name in enumerate(PEOPLE)},
        (
            "{subject} works as a",
            "The work of{subject} is that of a",
            "By trade{subject} is a",
            "People know{subject} as a",
            "In town{subject} is the",
        ),
        ("What is the work of{subject}?", "As what does{subject} work?", "What is{subject} by trade?"),
        ("{subject} works as a{object}", "By trade{subject} is a{object}"),
        ("Is{subject} a{object}?", "Does{subject} work as a{object}?"),
        real=False,
    ),
)
BY_NAME: Mapping[str, FactRelation] = MappingProxyType({relation.name: relation for relation in RELATIONS})
# Kinds and people are drawn more often, because they have more subjects.
_WEIGHTS = (3, 2, 2, 3, 1, 1, 3)


def drawn(rng: random.Random) -> FactRelation:
    """Draw a relation, larger ones more often."""
    return rng.choices(RELATIONS, _WEIGHTS)[0]


@cache
def _combinations(split: Partition, relation: str, ways: tuple[str, ...]) -> list[tuple[str, str]]:
    return [(way, subject) for way in ways for subject in BY_NAME[relation].pairs if in_partition(split, way, subject)]


def _pick(split: Partition, relation: FactRelation, ways: Sequence[str], rng: random.Random) -> tuple[str, str]:
    """A wording and a subject whose combination belongs to the split."""
    return rng.choice(_combinations(split, relation.name, tuple(ways)))


def worded_like(relation: FactRelation, kind: Literal["statements", "questions", "claims"], like: str) -> str:
    """The wording of a relation with the same index as `like` has among the wordings of its own relation.

    So "In{subject} people speak" is worded like "In{subject} the capital is". The index wraps around if the relation
    has fewer wordings.

    Raises:
        ValueError: if no relation has the wording `like`.
    """
    places = [getattr(each, kind).index(like) for each in RELATIONS if like in getattr(each, kind)]
    if not places:
        raise ValueError(f"no relation has {like!r} among its {kind}")
    own: tuple[str, ...] = getattr(relation, kind)
    place: int = places[0]
    return own[place % len(own)]


def fill(template: str, start: bool = True, lower: bool = False, **parts: str) -> tuple[Segment, ...]:
    """Fill a template with words, each preceded by a space.

    At the start of a text the template's own first word has no space; a filled-in word keeps its space, so that it is
    the same token everywhere. `lower` writes the template's first word in lower case, for the middle of a sentence.
    """
    made = filled(template, **{role: f" {word}" for role, word in parts.items()})
    first = made[0]
    if first.role:
        return made
    text = first.text[0].lower() + first.text[1:] if lower else first.text
    return (Segment(text if start else f" {text}"), *made[1:])


def statement(split: Partition, rng: random.Random, relation: FactRelation | None = None) -> Case:
    """A fact, stated up to its object. The corrupted prompt has another subject with another object."""
    relation = relation or drawn(rng)
    template, subject = _pick(split, relation, relation.statements, rng)
    right = relation.pairs[subject]
    other = rng.choice([each for each, value in relation.pairs.items() if value != right])
    return Case(
        fill(template, subject=subject),
        (f" {right}",),
        tuple(f" {value}" for value in relation.objects if value != right),
        fill(template, subject=other),
    )


def question(
    split: Partition, rng: random.Random, relation: FactRelation | None = None, like: str | None = None
) -> Case:
    """A fact as a question; `like` fixes the wording (see `worded_like`). The corrupted prompt has another subject."""
    relation = relation or drawn(rng)
    ways = relation.questions if like is None else (worded_like(relation, "questions", like),)
    template, subject = _pick(split, relation, ways, rng)
    right = relation.pairs[subject]
    other = rng.choice([each for each, value in relation.pairs.items() if value != right])

    rivals = tuple(f" {value}" for value in relation.objects if value != right)
    return Case(ask(template, subject), (f" {right}",), rivals, ask(template, other))


def ask(question: str, subject: str, start: bool = True) -> tuple[Segment, ...]:
    """A question about a subject, up to the answer."""
    opening = Segment("Question:" if start else " Question:")
    return (opening, *fill(question, start=False, subject=subject), Segment(" Answer:"))


def several(rng: random.Random, relation: FactRelation, count: int = 3, pairs: Mapping[str, str] | None = None) -> Case:
    """Several facts of one relation in a row, each in its own wording, all known from training.

    The corrupted prompt states the same objects for other subjects. `pairs` restricts the facts to draw from.
    """
    pairs = pairs or relation.pairs
    objects = rng.sample(sorted(set(pairs.values())), count)
    subjects = [rng.choice([each for each, value in pairs.items() if value == right]) for right in objects]
    strangers = rng.sample([each for each, value in pairs.items() if value not in objects], count)
    ways = [rng.choice([way for way in relation.statements if in_partition("train", way, each)]) for each in subjects]

    def tell(people: Sequence[str]) -> tuple[Segment, ...]:
        made: list[Segment] = []
        for way, who, what in zip(ways, people, objects, strict=True):
            made += [
                *fill(way, start=not made, subject=who),
                Segment(f" {what}", known=True, role="object"),
                Segment("."),
            ]
        return tuple(made[:-2])

    rivals = tuple(f" {value}" for value in sorted(set(pairs.values())) if value != objects[-1])
    return Case(tell(subjects), (f" {objects[-1]}",), rivals, tell(strangers))


# Texts before a false claim, and whether the claim should then be followed.
FLAGGED: tuple[tuple[str, bool], ...] = (
    ("In this story", True),
    ("Let us say that", True),
    ("From now on", True),
    ("It is a lie that", False),
    ("By mistake somebody said that", False),
    ("Nobody should believe that", False),
)


def conflict(split: Partition, rng: random.Random, flag: int | None = None) -> Case:
    """A false claim, flagged as valid or as wrong, and then the same statement up to its object.

    The corrupted prompt's claim is true. `flag` is an index into FLAGGED; -1 leaves the claim unflagged, and the answer
    is the claimed object.
    """
    relation = rng.choice([relation for relation in RELATIONS if relation.name in ("capital", "language", "work")])
    subject = rng.choice([each for each in relation.pairs if in_partition(split, "conflict", each)])
    right = relation.pairs[subject]
    said = others(relation.objects, right, rng, 1)[0]
    template = rng.choice(relation.statements[:3])
    words, follow = ("", True) if flag == -1 else FLAGGED[rng.randrange(len(FLAGGED)) if flag is None else flag]

    def tell(claimed: str) -> tuple[Segment, ...]:
        return _said_and_asked(template, words, subject, claimed)

    answer, rival = (said, right) if follow else (right, said)
    return Case(tell(said), (f" {answer}",), (f" {rival}",), tell(right))


def _said_and_asked(template: str, flag: str, subject: str, claimed: str) -> tuple[Segment, ...]:
    """A statement with an object, flagged or not, followed by the same statement up to its object."""
    return (
        *segments((flag, "flag")),
        *fill(template, start=not flag, lower=bool(flag), subject=subject),
        *segments((f" {claimed}", "claimed"), "."),
        *fill(template, start=False, subject=subject),
    )


def false_claim(
    split: Partition, rng: random.Random, relation: FactRelation, flag: str = "", like: str | None = None
) -> Case:
    """A false claim and the statement again, as in `conflict`, but with the same answers for every flag.

    The answer is the true object, the first rival is the claimed one, and the other rivals are all other objects. The
    corrupted prompt makes another false claim about another subject, and neither answer occurs in it or belongs to its
    subject. `flag` is text before the claim; `like` fixes the wording (see `worded_like`).
    """
    template = rng.choice(relation.statements[:3]) if like is None else worded_like(relation, "statements", like)
    subject = rng.choice([each for each in relation.pairs if in_partition(split, "conflict", each)])
    right = relation.pairs[subject]
    said = others(relation.objects, right, rng, 1)[0]
    stranger, own = rng.choice([(each, value) for each, value in relation.pairs.items() if value not in (right, said)])
    elsewhere = rng.choice([value for value in relation.objects if value not in (right, said, own)])
    return Case(
        _said_and_asked(template, flag, subject, said),
        (f" {right}",),
        tuple(f" {value}" for value in (said, *(each for each in relation.objects if each not in (right, said)))),
        _said_and_asked(template, flag, stranger, elsewhere),
    )


def _fact(relation: FactRelation, subject: str, stated: bool) -> tuple[Segment, ...]:
    """The fact itself as a sentence, or nothing if it is not `stated`."""
    if not stated:
        return ()
    return (*fill(relation.claims[0], subject=subject, object=relation.pairs[subject]), Segment("."))


def true_or_false(
    split: Partition,
    rng: random.Random,
    relation: FactRelation | None = None,
    like: str | None = None,
    stated: bool | None = None,
) -> Case:
    """A true or false claim, to be judged. The corrupted prompt has a claim with the opposite judgement.

    `like` fixes the wording (see `worded_like`); `stated` says whether the fact is stated first.
    """
    relation = relation or drawn(rng)
    ways = relation.claims if like is None else (worded_like(relation, "claims", like),)
    claim, subject = _pick(split, relation, ways, rng)
    wrong = others(relation.objects, relation.pairs[subject], rng, 1)[0]
    true = rng.random() < 0.5
    stated = rng.random() < 0.55 if stated is None else stated

    def tell(value: str) -> tuple[Segment, ...]:
        return (
            *_fact(relation, subject, stated),
            Segment(" Claim:" if stated else "Claim:"),
            *fill(claim, start=False, subject=subject, object=value),
            Segment(". This is"),
        )

    said, other = (relation.pairs[subject], wrong) if true else (wrong, relation.pairs[subject])
    right, left = (" true", " false") if true else (" false", " true")
    return Case(tell(said), (right,), (left,), tell(other))


def yes_or_no(
    split: Partition,
    rng: random.Random,
    relation: FactRelation | None = None,
    stated: bool | None = None,
    options: tuple[str, str] = ("Yes", "No"),
    first: bool = False,
) -> Case:
    """A yes or no question about a fact, sometimes with the fact stated first. The corrupted prompt has the opposite
    answer.

    `options` are the words to choose between, in the order shown; `first` shows them before the question.
    """
    relation = relation or drawn(rng)
    ask, subject = _pick(split, relation, relation.asks, rng)
    wrong = others(relation.objects, relation.pairs[subject], rng, 1)[0]
    yes = rng.random() < 0.5
    stated = rng.random() < 0.55 if stated is None else stated
    choice = segments(*((f" {word}", "option") for word in options))
    told = (choice[0], Segment(" or"), choice[1])

    def tell(value: str) -> tuple[Segment, ...]:
        asked = fill(ask, start=False, subject=subject, object=value)
        if first:
            fact = _fact(relation, subject, stated)
            lead = Segment(" Answer" if stated else "Answer")
            return (*fact, lead, *told, Segment(". Question:"), *asked, Segment(" Answer:"))
        return (
            *_fact(relation, subject, stated),
            Segment(" Question:" if stated else "Question:"),
            *asked,
            *told,
            Segment("? Answer:"),
        )

    said, other = (relation.pairs[subject], wrong) if yes else (wrong, relation.pairs[subject])
    right, left = (" Yes", " No") if yes else (" No", " Yes")
    return Case(tell(said), (right,), (left,), tell(other))

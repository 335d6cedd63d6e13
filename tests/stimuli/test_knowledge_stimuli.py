"""Prompts about what a model knows: what a twin exchanges it exchanges, and nothing else."""

import random

import pytest

from headatlas.lab import OpenModel
from headatlas.stimuli import attributes, facts, languages, paraphrases, second_language
from headatlas.stimuli.prompts import Prompt


def words_of(model: OpenModel, tokens: tuple[int, ...]) -> list[str]:
    return [model.tokenizer.decode([token]).strip() for token in tokens]


def differ(one: tuple[int, ...], two: tuple[int, ...]) -> list[int]:
    return [place for place, (a, b) in enumerate(zip(one, two, strict=True)) if a != b]


@pytest.mark.parametrize("way", attributes.WAYS)
def test_twins_of_an_attribute_exchange_the_subject_or_the_relation(way: str, specimen: OpenModel) -> None:
    for seed in range(20):
        made = attributes.crossed(specimen.vocabulary, random.Random(seed), way, "subject", "relation")
        ((_, subject),), ((_, relation),) = made.pairs, made.null_pairs
        assert differ(made.tokens, made.corrupted) == [subject] and differ(
            made.tokens, made.alternatives["relation"]
        ) == [relation]
        words, other = words_of(specimen, made.tokens), words_of(specimen, made.corrupted)
        assert facts.BY_NAME[words[relation]].pairs[words[subject]] == words_of(specimen, (made.readouts[0].answer,))[0]
        assert not set(facts.COUNTRIES[words[subject]]) & set(facts.COUNTRIES[other[subject]])
        both = attributes.crossed(specimen.vocabulary, random.Random(seed), way, "both")
        assert both.tokens == made.tokens and differ(both.tokens, both.corrupted) == sorted((subject, relation))


def test_the_rivals_of_an_attribute_are_of_its_kind_first(specimen: OpenModel) -> None:
    made = attributes.crossed(specimen.vocabulary, random.Random(1), attributes.WAYS[0], "subject")
    words = words_of(specimen, made.tokens)
    kind = set(facts.BY_NAME[words[made.null_pairs[0][1]]].objects)

    def rivals(each: Prompt) -> set[str]:
        return set(words_of(specimen, each.readouts[0].rivals))

    right = words_of(specimen, (made.readouts[0].answer,))[0]
    assert rivals(attributes.among_kind(made)) == kind - {right}
    assert rivals(attributes.among_others(made)) == rivals(made) - kind and len(rivals(made)) > len(kind)
    assert attributes.places([made]) == ([[made.pairs[0][1]]], [[made.null_pairs[0][1]]])


@pytest.mark.parametrize("flag", ["", *(flag for flag, _ in facts.FLAGGED[::3])])
def test_a_false_claim_names_what_is_claimed_first_and_its_twin_neither_answer(flag: str) -> None:
    for seed in range(50):
        relation = facts.BY_NAME[("capital", "language")[seed % 2]]
        made = facts.false_claim("train", random.Random(seed), relation, flag, relation.statements[seed % 3])
        (claimed,) = (part.text for part in made.segments if part.role == "claimed")
        subject, again = (part.text.strip() for part in made.segments if part.role == "subject")
        assert claimed == made.rivals[0] and subject == again
        assert made.answers == (f" {relation.pairs[subject]}",) and made.answers[0] not in made.rivals
        assert len({*made.answers, *made.rivals}) == len(relation.objects) == 1 + len(made.rivals)
        stranger = next(part.text.strip() for part in made.corrupted if part.role == "subject")
        shown = "".join(part.text for part in made.corrupted)
        (elsewhere,) = (part.text for part in made.corrupted if part.role == "claimed")
        right = f" {relation.pairs[stranger]}"
        assert elsewhere != right and not {elsewhere, right} & {*made.answers, claimed}
        assert [part.text for part in made.corrupted if not part.role] == [p.text for p in made.segments if not p.role]
        assert made.text.startswith(flag) if flag else not shown.startswith(" ")


@pytest.mark.parametrize("same", [True, False])
def test_a_question_comes_again_or_joins_what_did_not_come_together(same: bool) -> None:
    wordings = {
        (way, wording.replace("{subject}", "").strip()): thing
        for thing, ways in paraphrases.ASKED.items()
        for way, wording in enumerate(ways)
    }
    for seed in range(30):
        made = paraphrases.asked_again(
            random.Random(seed), paraphrases.ASKED["secret"][0], paraphrases.ASKED["gift"][2], same
        )
        asked = []
        for number, question in enumerate(made.text.split("Question:")[1:]):
            question, _, answer = question.partition(" Answer:")
            (person,) = (
                word for word in question.replace("?", "").replace(",", "").split() if word in paraphrases.NAMES
            )
            thing = wordings[2 if number == 2 else 0, question.replace(f" {person}", "").strip()]
            asked.append((person, thing, answer.rstrip(". ")))
        (one, two, (person, thing, _)) = asked
        assert person in (one[0], two[0]) and thing in (one[1], two[1])
        assert ((person, thing) in (one[:2], two[:2])) == same
        mine, other = (one, two) if person == one[0] else (two, one)
        assert made.answers == (mine[2],) and made.rivals == (other[2],)


@pytest.mark.parametrize("foreign", [True, False])
def test_texts_go_on_in_their_own_language(foreign: bool) -> None:
    ours = {language: [row.split() for row in rows] for language, rows in languages._ROWS.items()}
    assert len({tuple(len(row) for row in rows) for rows in ours.values()}) == 1
    assert len({len(sentences) for sentences in languages.SENTENCES.values()}) == 1
    seen = set()
    for seed in range(40):
        made = languages.after(random.Random(seed), foreign, 2)
        (language,) = (name for name, said in languages.SENTENCES.items() if any(s in made.text for s in said))
        asked = made.text.rpartition(".")[2].split()
        (row,) = (number for number in range(3) if set(asked) & set(ours[language][number]))
        place = ours[language][row].index(made.answers[0].strip())
        assert ours[language][row][place - 1] in asked
        others = {name for name in ours if name != language and ours[name][row][place] == made.rivals[0].strip()}
        assert "English" in others if foreign else others & set(languages.FOREIGN)
        assert (language != "English") == foreign
        assert made.text.count(".") == 2
        seen.add(language)
    assert seen == (set(languages.FOREIGN) if foreign else {"English"})


def test_lumi_is_known_to_its_own_tokenizer_and_spoken_as_often_as_asked(specimen: OpenModel) -> None:
    assert second_language.known(specimen.vocabulary)
    for lumi in (True, False):
        made = second_language.consistency("train", random.Random(0), 3, lumi)
        assert made.text.count(".") == 3 and made.text.startswith(" ka" if lumi else " the")


def test_relations_are_worded_alike_by_the_place_of_a_wording() -> None:
    language, use = facts.BY_NAME["language"], facts.BY_NAME["use"]
    assert facts.worded_like(language, "claims", "In{subject} the capital is{object}") == language.claims[1]
    assert len(use.claims) == 2
    assert facts.worded_like(use, "claims", "{object} is the capital of{subject}") == use.claims[0], "begins again"
    with pytest.raises(ValueError, match="no relation has 'Nobody says' among its claims"):
        facts.worded_like(use, "claims", "Nobody says")

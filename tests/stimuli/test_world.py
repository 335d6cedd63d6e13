"""The specimen's world: what is held out stays out, answers are right, and real tokenizers keep prompts aligned."""

import bisect
import random
from collections.abc import Sequence
from functools import partial

import pytest
import transformers

from conftest import load_tool
from headatlas.lab import OpenModel
from headatlas.stimuli import (
    UntestableError,
    Vocabulary,
    colored_objects,
    facts,
    grammar,
    mappings,
    opinions,
    second_language,
    spelling,
    steps,
    world,
)
from headatlas.stimuli.cases import (
    Case,
    Partition,
    Segment,
    aligned,
    document_prompt,
    in_place,
    in_same_places,
    prompt,
    segments,
    tokenize,
)
from places import ROOT

rows = load_tool("specimen_rows")
FAMILIES = list(world.FAMILIES)
CASES = [name for name in FAMILIES if isinstance(world.FAMILIES[name]("train", random.Random(0)), Case)]


def cases(family: str, split: Partition, count: int = 60) -> list[Case]:
    rng = random.Random(f"test/{family}/{split}")
    made = [world.FAMILIES[family](split, rng) for _ in range(count)]
    return [each for each in made if isinstance(each, Case)]


def text(document: list[Segment]) -> str:
    return "".join(segment.text for segment in document)


@pytest.mark.parametrize("family", FAMILIES)
class TestEveryFamily:
    def test_the_same_seed_gives_the_same_documents_and_another_others(self, family: str) -> None:
        one, same, other = (
            [text(world.document(family, "train", random.Random(f"{seed}/{n}"))) for n in range(20)]
            for seed in (0, 0, 1)
        )
        assert one == same != other

    @pytest.mark.parametrize("split", ["train", "held-out"])
    def test_documents_are_clean_text(self, family: str, split: Partition) -> None:
        rng = random.Random(family)
        for _ in range(100):
            written = text(world.document(family, split, rng))
            assert "  " not in written and "{" not in written and written.strip(), written

    def test_held_out_documents_are_never_trained_on(self, family: str) -> None:
        if family in ("stories", "sentences", "said mappings"):
            pytest.skip("nothing is held out of plain text, nor of what few-shot examples presuppose")
        rng = random.Random(family)
        trained = sorted(text(world.document(family, "train", rng)) for _ in range(3000))
        asked = [start for _ in range(300) for start in asks(world.FAMILIES[family]("held-out", rng))]
        nearest = [trained[place : place + 1] for place in (bisect.bisect_left(trained, start) for start in asked)]
        assert asked and not any(
            after and after[0].startswith(start) for start, after in zip(asked, nearest, strict=True)
        )


def asks(drawn: Case | list[Segment]) -> list[str]:
    """What is asked of a held-out document: its text up to the end of the answer; of a plain one, of all of them."""
    if isinstance(drawn, Case):
        return [drawn.text + drawn.answers[0]]
    return [text(drawn[: place + 1]) for place, segment in enumerate(drawn) if segment.known]


@pytest.mark.parametrize("family", CASES)
class TestEveryCase:
    def test_a_right_answer_is_no_rival(self, family: str) -> None:
        for case in cases(family, "train"):
            assert set(case.answers).isdisjoint(case.rivals) and case.rivals, case

    def test_the_twin_has_the_same_places(self, family: str) -> None:
        for case in cases(family, "train"):
            if case.corrupted:
                assert [segment.role for segment in case.corrupted] == [segment.role for segment in case.segments]
                assert case.corrupted != case.segments or family == "moods"

    def test_every_prompt_aligns_under_the_specimens_tokenizer(self, family: str, specimen: OpenModel) -> None:
        words = specimen.vocabulary
        for case in cases(family, "held-out"):
            made = prompt(words, case)
            known = [segment for segment in case.segments if segment.known]
            assert len(made.readouts) == len(known) + 1 and made.readouts[-1].position == len(made.tokens) - 1
            assert words.tokenizer.decode(made.tokens[1:]) == case.text
            if family not in ("acronyms", "years"):  # whose pieces are no words of their own
                assert made.tokens[1:] == words.encode(case.text)
            if family != "long words":  # which are there to be split
                assert all(words.single(answer.strip()) or len(words.encode(answer)) == 1 for answer in case.answers)


def test_facts_hold_in_every_wording() -> None:
    for split in ("train", "held-out"):
        for case in cases("facts", split, 200):
            subject = next(segment.text.strip() for segment in case.segments if segment.role == "subject")
            assert any(relation.pairs.get(subject) == case.answers[0].strip() for relation in facts.RELATIONS)


def test_a_true_claim_is_called_true_and_a_false_one_false() -> None:
    seen = set()
    for case in cases("true or false", "train", 300):
        subject = [segment.text.strip() for segment in case.segments if segment.role == "subject"][-1]
        said = [segment.text.strip() for segment in case.segments if segment.role == "object"][-1]
        holds = any(relation.pairs.get(subject) == said for relation in facts.RELATIONS)
        assert (case.answers[0] == " true") == holds
        seen.add(holds)
    assert seen == {True, False}


def test_a_flag_says_whether_a_false_claim_is_followed() -> None:
    for flag, (words, follow) in enumerate(facts.FLAGGED):
        case = facts.conflict("train", random.Random(flag), flag)
        claimed = next(segment.text for segment in case.segments if segment.role == "claimed")
        assert case.text.startswith(words) and (case.answers[0] == claimed) == follow
        assert {claimed} != set(case.answers + case.rivals)


def test_parity_steps_are_the_exclusive_or_so_far() -> None:
    for case in cases("parity", "train"):
        bits = [int(segment.text) for segment in case.segments if segment.role == "bit"]
        states = [int(segment.text) for segment in case.segments if segment.role == "step"]
        assert states == [sum(bits[: n + 1]) % 2 for n in range(len(bits))]
        assert case.answers[0] == (" odd" if sum(bits) % 2 else " even")


def test_sums_are_right_and_every_later_year_is() -> None:
    for case in cases("sums", "train"):
        addends = [int(segment.text) for segment in case.segments if segment.role == "addend"]
        assert int(case.answers[0]) == sum(addends)
    for case in cases("years", "train"):
        year = int(next(segment.text for segment in case.segments if segment.role == "year"))
        assert {int(answer) for answer in case.answers} == set(range(year + 1, 100))


def of(role: str, parts: Sequence[Segment]) -> list[str]:
    return [part.text.strip() for part in parts if part.role == role]


def test_the_twin_of_a_sum_changes_the_number_it_is_told_to() -> None:
    for number in range(30):
        for changed in (0, 1):
            case = steps.addition("train", random.Random(number), steps.SUMS[number % 3], changed)
            mine, other = of("addend", case.segments), of("addend", case.corrupted)
            assert [one != two for one, two in zip(mine, other, strict=True)] == [not changed, bool(changed)]
            assert case.text.startswith(("The sum of", "Sum:", " ")[number % 3])


def test_a_wrong_step_is_the_only_thing_that_is_wrong() -> None:
    for number in range(30):
        rng = random.Random(number)
        for case in (steps.chain("train", rng, 3 + number % 2), steps.parity("train", rng, 5)):
            right = of("step", case.segments)
            assert len(right) in (2 + number % 2, 5)
            for place in (-1, 0):
                wrong = steps.wrong_step(case, place, rng)
                changed = [at for at, (one, two) in enumerate(zip(case.segments, wrong, strict=True)) if one != two]
                assert len(changed) == 1 and wrong[changed[0]].role == "step"
                assert of("step", wrong)[place] != right[place]


def test_the_twin_of_a_question_for_a_color_asks_for_a_thing_that_was_not_asked_for() -> None:
    frames = colored_objects.FRAMES
    for number in range(30):
        rng = random.Random(number)
        case = colored_objects.asking_another(colored_objects.colored_objects("train", rng, 3, frames[number % 4]), rng)
        asked, other = of("asked", case.segments), of("asked", case.corrupted)
        assert other[:-1] == asked[:-1] and other[-1] not in asked
        assert [part for part in case.corrupted if part.role != "asked"] == [
            p for p in case.segments if p.role != "asked"
        ]
        things, relisted = of("object", case.segments), colored_objects.relisted(case, rng)
        assert sum(one != two for one, two in zip(case.segments, relisted, strict=True)) == 1
        assert set(asked) <= set(of("object", relisted)) != set(things)


def test_a_reworded_review_has_other_words_of_the_same_mood() -> None:
    for number in range(30):
        rng = random.Random(number)
        case = opinions.review("train", rng, opinions.REVIEWS[number % 4])
        words = opinions.reworded(case, rng)
        good = case.answers[0] == opinions.VERDICTS[0]
        for role, lists in (
            ("adjective", (opinions.GOOD, opinions.BAD)),
            ("verb", (opinions.LIKED, opinions.DISLIKED)),
        ):
            (mine,), (other,) = of(role, case.segments), of(role, words)
            assert mine != other and {mine, other} <= set(lists[not good])
        assert of("show", words) == of("show", case.segments) and len(words) == len(case.segments)


def test_prompts_that_do_not_lie_alike_are_refused(specimen: OpenModel) -> None:
    long = "unbelievable nonsense"
    short = segments("A", (" dog", "word"), " barks.")
    assert [each.at("word") for each in in_same_places(specimen.vocabulary, short, short)] == [[2], [2]]
    with pytest.raises(UntestableError, match="differ in length"):
        in_same_places(specimen.vocabulary, short, segments("A", (f" {long}", "word"), " barks."))
    moved = segments("A dog", (" barks", "word"), ".")
    with pytest.raises(UntestableError, match="differ in length"):
        in_place(specimen.vocabulary, Case(short, (" yes",), corrupted=moved))


def test_a_translation_has_one_word_for_each() -> None:
    back = {lumi: english for english, lumi in second_language.WORDS.items()} | {second_language.THE: "the"}
    assert len(back) == len(second_language.WORDS) + 1
    for case in cases("translation", "train"):
        source = [segment.text.strip() for segment in case.segments if segment.role == "source"]
        target = [segment.text.strip() for segment in case.segments if segment.role == "target"]
        target.append(case.answers[0].strip())
        english, lumi = (source, target) if case.text.startswith("English") else (target, source)
        assert [back[word] for word in lumi] == english


def test_every_dependency_is_an_arc_of_a_tree() -> None:
    rng = random.Random(0)
    for _ in range(200):
        sentence = grammar.parsed(rng)
        heads = {dependent: head for dependent, head, _ in sentence.arcs}
        assert len(heads) == len(sentence.arcs) == len(sentence.words) - 1  # all but the root have one head
        (root,) = set(range(len(sentence.words))) - set(heads)
        for word in heads:
            for _ in range(len(sentence.words)):
                word = heads.get(word, root)
            assert word == root
        subject = next(dependent for dependent, head, name in sentence.arcs if name == "nsubj" and head == root)
        assert sentence.words[subject].strip() in mappings.MAPPINGS["plural"]


def test_few_shot_examples_map_as_the_query_does() -> None:
    for task, table in mappings.MAPPINGS.items():
        case = mappings.few_shot("train", random.Random(task), task)
        shown = [segment.text.strip() for segment in case.segments if segment.role == "word"]
        images = [segment.text.strip() for segment in case.segments if segment.role == "image"]
        query = next(segment.text.strip() for segment in case.segments if segment.role == "query")
        assert [table[word] for word in shown] == images and case.answers == (f" {table[query]}",)
        moved = [segment.text.strip() for segment in case.corrupted if segment.role == "image"]
        assert sorted(moved) == sorted(images) and moved != images


def test_long_words_are_split_and_nothing_else(specimen: OpenModel) -> None:
    words = specimen.vocabulary
    for kind in spelling.LONG.values():
        assert all(len(words.encode(f" {word}")) > 1 for word in kind)
    for name in second_language.WORDS.values():
        assert words.single(name) is not None


def test_facts_in_a_row_are_right_and_their_twin_wrong() -> None:
    for seed in range(40):
        relation = facts.BY_NAME[("part", "use", "kind")[seed % 3]]
        case = facts.several(random.Random(seed), relation)
        objects = [part.text.strip() for part in case.segments if part.role == "object"] + [case.answers[0].strip()]
        subjects, strangers = (
            [part.text.strip() for part in parts if part.role == "subject"] for parts in (case.segments, case.corrupted)
        )
        assert [relation.pairs[each] for each in subjects] == objects and len(set(objects)) == 3
        assert not {relation.pairs[each] for each in strangers} & set(objects) and len(set(strangers)) == 3


def test_dependencies_lead_back_from_word_to_word(specimen: OpenModel) -> None:
    words = specimen.vocabulary
    for seed, lead in enumerate(("", "One day it rained.") * 10):
        made = grammar.dependencies(words, random.Random(seed), ("nsubj", "obj", "nmod"), lead)
        assert words.tokenizer.decode(made.tokens[1:]).startswith(lead or "The")
        decoded = [words.tokenizer.decode([token]).strip() for token in made.tokens]
        verbs = {singular.strip() for singular, _ in grammar.TRANSITIVE}
        ((verb, subject),), ((thing, also),) = made.of("nsubj"), made.of("obj")
        assert decoded[verb] in verbs and also == verb < thing and subject < verb
        for later, earlier in made.of("nmod"):
            assert earlier == subject < later < verb
            assert set(decoded[earlier + 1 : later]) & set(grammar.PREPOSITIONS)
        assert set(made.relations) == {"nsubj", "obj", "nmod"} and all(query > key for query, key in made.pairs)


def test_agreement_after_other_text_is_the_same_sentence() -> None:
    plain, after = (grammar.agreement("train", random.Random(3), lead) for lead in ("", "One day it rained."))
    assert after.text == f"One day it rained. {plain.text}" and after.answers == plain.answers


def test_labels_are_drawn_among_those_given() -> None:
    for seed in range(20):
        case = mappings.few_shot_labels("train", random.Random(seed), among=("foo", "bar"))
        shown = {part.text for part in case.segments if part.role == "label"}
        assert shown == {" foo", " bar"} == {*case.answers, *case.rivals}


def test_names_have_two_words() -> None:
    names = [name for kind in spelling.NAMED.values() for name in kind]
    assert all(len(name.split()) == 2 for name in names) and len(names) == len(set(names))


def test_a_tokenized_case_knows_where_its_parts_lie(specimen: OpenModel) -> None:
    words = specimen.vocabulary
    made = tokenize(words, segments("The", (" rhinoceros", "word"), " is a kind of"))
    first, *_, last = made.covers("word")
    assert words.tokenizer.decode(made.ids[first : last + 1]) == " rhinoceros" and made.at("word") == [last]
    with pytest.raises(ValueError, match="nothing in this document"):
        document_prompt(words, segments("The dog."))


@pytest.mark.parametrize("name", ["gpt2", "pythia"])
class TestRealTokenizers:
    """Where the folder with real tokenizers is at hand: what a family assumes holds under them."""

    @pytest.fixture
    def words(self, name: str) -> Vocabulary:
        folder = ROOT.parent / "shared" / "tokenizers" / name
        if not folder.is_dir():
            pytest.skip("real tokenizers are not at hand")
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        return Vocabulary(tokenizer, len(tokenizer))

    def test_enough_cases_of_every_family_align(self, words: Vocabulary) -> None:
        for family in set(CASES) - world.SPECIMEN_ONLY:
            rng = random.Random(family)
            for _ in range(20):
                made = aligned(words, partial(world.FAMILIES[family], "train", rng), tries=20)
                assert len(made.tokens) == len(made.corrupted)

    def test_some_families_are_for_the_specimen_alone(self, words: Vocabulary) -> None:
        with pytest.raises(UntestableError, match="none of 10 prompts can be used"):
            aligned(words, lambda: second_language.consistency("train", random.Random(0)), tries=10)


def test_steps_in_a_chain_add_up() -> None:
    for case in cases("sums in steps", "train"):
        addends = [int(segment.text) for segment in case.segments if segment.role == "addend"]
        written = [int(segment.text) for segment in case.segments if segment.role == "step"]
        assert written == [sum(addends[: n + 2]) for n in range(len(addends) - 1)]
        assert int(case.answers[0]) == written[-1] and steps.LARGEST >= 20
        wrong = [int(segment.text) for segment in case.corrupted if segment.role == "step"]
        assert wrong[:-1] == written[:-1] and f" {wrong[-1]}" == case.rivals[0]

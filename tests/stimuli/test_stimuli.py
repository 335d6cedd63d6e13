"""Prompts mean what they say: positions, answers and controls line up on every tokenizer."""

import itertools
import random
import re
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from headatlas import load, locations
from headatlas.lab import OpenModel
from headatlas.protocol.script import load_script
from headatlas.stimuli import (
    Prompt,
    Readout,
    UntestableError,
    Vocabulary,
    facts,
    grammar,
    indirect_object,
    lookup,
    multiple_choice_questions,
    ordinals,
    stories,
    world,
)
from headatlas.stimuli.cases import Case, in_place, segments, tokenize
from headatlas.stimuli.lexicon import NAMES, VERB_OBJECTS

CATALOG = load()
IDS = list(CATALOG.find(reproduction=True))


@pytest.fixture(scope="session")
def words(specimen: OpenModel) -> Vocabulary:
    return specimen.vocabulary


def drawn(id: str, words: Vocabulary) -> Iterator[Prompt]:
    script = load_script(id)
    yield from script.draw("task", words, "test", 8, seed=0).prompts
    if script.detect is None:
        yield from script.draw("stimulus", words, "find", 8, seed=0).prompts


class TestPrompts:
    @pytest.mark.parametrize(
        "parts",
        [
            {"corrupted": (1, 2)},
            {"pairs": ((1, 2),)},
            {"pairs": ((3, 0),)},
            {"null_pairs": ((1, -1),)},
            {"readouts": (Readout(3, 0),)},
        ],
    )
    def test_refuses_what_does_not_align_or_is_not_causal(self, parts: dict) -> None:
        with pytest.raises(ValueError, match=r"align|causal|outside"):
            Prompt(**({"tokens": (1, 2, 3), "corrupted": (1, 2, 3)} | parts))


@pytest.mark.parametrize("id", IDS)
class TestEveryScript:
    def test_draws_the_same_prompts_from_the_same_seed_and_others_from_another(
        self, id: str, words: Vocabulary
    ) -> None:
        script = load_script(id)
        one, same, other = (script.draw("task", words, "test", 4, seed).prompts for seed in (0, 0, 1))
        assert one == same and one != other

    def test_find_and_test_never_share_a_prompt(self, id: str, words: Vocabulary) -> None:
        script = load_script(id)
        find = script.draw("stimulus", words, "find", 16, 0)
        tests = (script.draw(kind, words, "test", 16, 0, but=find) for kind in ("stimulus", "task"))
        assert not {p.tokens for p in find.prompts} & {p.tokens for drawn in tests for p in drawn.prompts}

    def test_prompts_start_with_bos_and_fit_the_specimen(self, id: str, words: Vocabulary) -> None:
        for prompt in drawn(id, words):
            assert prompt.tokens[:1] == words.bos == prompt.corrupted[:1]
            assert len(prompt.tokens) <= 128

    def test_the_docstring_cites_only_sources_of_the_bibliography(self, id: str, words: Vocabulary) -> None:
        cited = re.findall(r"\b[a-z]+\d{4}[a-z]+\b", load_script(id).module.__doc__ or "")
        assert cited and set(cited) <= set(CATALOG.references)

    def test_reads_like_a_method_section(self, id: str, words: Vocabulary) -> None:
        code = (locations.reproductions() / f"{id}.py").read_text()
        assert len(code.splitlines()) <= 80
        for section in ("Claim", "Stimuli", "Score", "Control", "Behaviour", "Cause"):
            assert f"\n{section}  " in code


def test_induction_pairs_lead_to_the_token_that_followed_before(words: Vocabulary) -> None:
    script = load_script("induction")
    for prompt in script.draw("stimulus", words, "find", 4, 0).prompts:
        for query, key in prompt.pairs:
            assert prompt.tokens[key - 1] == prompt.tokens[query]
        for readout in prompt.readouts:
            assert prompt.tokens[readout.position + 1] == readout.answer
        assert {query for query, _ in prompt.pairs} == {readout.position for readout in prompt.readouts}
    copies = 4
    prompt = script.module.stimulus(words, "four times", random.Random(0))
    assert len([key for query, key in prompt.pairs if query == prompt.pairs[-1][0]]) == copies - 1


def test_duplicate_pairs_lead_to_the_same_token_and_in_the_control_to_another(words: Vocabulary) -> None:
    script = load_script("duplicate-token")
    same = total = 0
    for prompt in script.draw("stimulus", words, "find", 8, 0).prompts:
        for query, key in prompt.pairs:
            assert prompt.tokens[key] == prompt.tokens[query]
            same, total = same + (prompt.corrupted[key] == prompt.corrupted[query]), total + 1
    assert same / total < 0.01


def test_only_the_corrupted_prompt_of_previous_token_heads_repeats_nothing(words: Vocabulary) -> None:
    """Every readout asks for the token that followed the earlier copies; in the corrupted prompt none did."""
    script = load_script("previous-token")
    for prompt in script.draw("task", words, "test", 8, 0).prompts:
        assert len(prompt.readouts) >= 20
        for at, answer in ((each.position, each.answer) for each in prompt.readouts):
            before = [place for place in range(at) if prompt.tokens[place] == prompt.tokens[at]]
            assert before and all(prompt.tokens[place + 1] == answer for place in before)
            fresh = prompt.corrupted
            assert not any(fresh[place] == fresh[at] and fresh[place + 1] == answer for place in range(at))


def test_indirect_object_sentences_repeat_exactly_one_name_and_their_twin_none() -> None:
    rng = random.Random(0)
    for order in indirect_object.ORDERS * 60:
        sentence = indirect_object.sentence(order, rng)
        words, twin = (re.findall(r"\w+", text) for text in (sentence.text, sentence.corrupted))
        answer, subject = sentence.answer.strip(), sentence.subject.strip()
        assert [words.count(subject), words.count(answer)] == [2, 1]
        assert answer not in twin and subject not in twin
        assert len(words) == len(twin)
        first = sentence.text.index(sentence.answer) < sentence.text.index(sentence.subject)
        assert first == (order == "ABBA")
        assert not sentence.text.endswith(sentence.answer)


def test_indirect_object_prompts_are_read_at_the_end_and_paired_with_the_repeated_name(words: Vocabulary) -> None:
    rng = random.Random(1)
    for order, told in (("ABBA", 0), ("BABA", 0), ("ABBA", 1)) * 20:
        drawn = indirect_object.prompt(words, order, told, rng)
        [(end, second)], [readout] = drawn.pairs, drawn.readouts
        assert end == readout.position == len(drawn.tokens) - 1
        assert (drawn.tokens[second],) == readout.rivals
        assert drawn.tokens.count(readout.answer) == 1 and drawn.tokens.count(drawn.tokens[second]) == 2
        assert drawn.corrupted.count(drawn.corrupted[second]) == 1
        assert readout.answer not in drawn.corrupted and readout.rivals[0] not in drawn.corrupted
        assert drawn.alternatives["same names"] != drawn.tokens
        assert drawn.alternatives["same names"][second] == drawn.tokens[second]


def test_indirect_object_sentences_know_where_their_names_are(words: Vocabulary) -> None:
    rng = random.Random(0)
    for order in indirect_object.ORDERS * 30:
        sentence = indirect_object.sentence(order, rng)
        read = tokenize(words, sentence.segments)
        assert read.ids[1:] == words.encode(sentence.text)
        corrupted, reworded = (
            tokenize(words, parts).ids for parts in (sentence.corrupted_segments, sentence.reworded(rng))
        )
        for role, name in (("io", sentence.answer), ("s1", sentence.subject), ("s2", sentence.subject)):
            (place,) = read.at(role)
            assert words.tokenizer.decode([read.ids[place]]) == name
            assert corrupted[place] != read.ids[place] == reworded[place]
        assert read.at("s2") > max(read.at("io"), read.at("s1"))
        assert len(corrupted) == len(reworded) == len(read.ids)
        assert 1 <= sum(map(int.__ne__, reworded, read.ids)) <= 2


def test_successor_prompts_count_up_and_their_control_does_not(words: Vocabulary) -> None:
    script = load_script("successor")
    for prompt in script.draw("task", words, "test", 12, 0).prompts:
        readout = prompt.readouts[0]
        members = next(
            ids
            for ids in ([words.single(word) for word in each] for each in ordinals.CLASSES.values())
            if {readout.answer, *readout.rivals} <= set(ids)
        )
        seen, shuffled = (
            [members.index(token) for token in tokens if token in members]
            for tokens in (prompt.tokens, prompt.corrupted)
        )
        answer = members.index(readout.answer)
        assert seen == list(range(answer - len(seen), answer)) and len(seen) >= 3
        assert sorted(shuffled) == seen
        assert all(b - a != 1 for a, b in itertools.pairwise(shuffled))


class TestChoices:
    @pytest.mark.parametrize("count", [2, 4])
    @pytest.mark.parametrize("kind", ["told", "color", "real"])
    def test_in_the_twin_the_right_letter_is_the_one_before(self, kind: str, count: int) -> None:
        seen = set()
        for seed in range(40):
            case = multiple_choice_questions.multiple_choice("train", random.Random(seed), kind, count)
            own, twin = ([p.text for p in parts if p.role == "option"] for parts in (case.segments, case.corrupted))
            place = multiple_choice_questions.LETTERS.index(case.answers[0].strip())
            assert len(own) == count == len(case.rivals) + 1 and sorted(own) == sorted(twin)
            assert twin[place - 1] == own[place]
            if kind != "real":
                assert own[place] in [p.text for p in case.segments if p.role == "told"]
            seen.add(place)
        assert seen == set(range(count))

    def test_other_letters_on_the_same_options(self) -> None:
        case = multiple_choice_questions.multiple_choice("train", random.Random(0), "told")
        made = multiple_choice_questions.relabelled(case.segments, "BDAC")
        assert [part.text for part in made if part.role == "letter"] == [" B", " D", " A", " C"]
        rest = [[p for p in parts if p.role != "letter"] for parts in (made, case.segments)]
        assert rest[0] == rest[1]

    def test_yes_and_no_in_either_order_and_at_either_end(self) -> None:
        plain, turned, early = (
            facts.yes_or_no("train", random.Random(3), stated=False, **given)
            for given in ({}, {"options": ("No", "Yes")}, {"first": True})
        )
        assert plain.text.endswith(" Yes or No? Answer:")
        assert turned.text == plain.text.replace(" Yes or No?", " No or Yes?") and turned.answers == plain.answers
        question = plain.text.removeprefix("Question:").removesuffix(" Yes or No? Answer:")
        assert early.text == f"Answer Yes or No. Question:{question} Answer:"

    def test_a_twin_whose_words_are_of_other_lengths_is_refused(self, words: Vocabulary) -> None:
        one, two = " dog", " rhinoceros"
        assert len(words.continuation(two)) > 1
        case = Case(segments(one, two), (" A",), (), segments(two, one))
        with pytest.raises(UntestableError, match="differ in length"):
            in_place(words, case)
        made, places = in_place(words, Case(segments((one, "x"), two), (" A",), (), segments(" cat", two)))
        assert places.at("x") == [len(words.bos)] and places.ids == made.tokens


class TestOrdinals:
    def test_runs_are_neighbours(self) -> None:
        for _ in range(50):
            run = ordinals.run(ordinals.CLASSES["months"], 4, random.Random())
            start = ordinals.CLASSES["months"].index(run[0])
            assert tuple(run) == ordinals.CLASSES["months"][start : start + 4]

    def test_shuffling_breaks_every_neighbourhood(self) -> None:
        for seed in range(50):
            order = ordinals.shuffled("abcde", random.Random(seed))
            assert sorted(order) == list("abcde")
            assert all(a + b not in "abcde" for a, b in itertools.pairwise(order))

    def test_longest_stretch(self) -> None:
        usable = {"b", "c", "d", "f"}.intersection
        assert ordinals.longest_stretch("abcdef", lambda c: c if usable({c}) else None) == ("b", "c", "d")


class TestWorld:
    def test_what_is_marked_known_in_repeats_did_follow_that_token_before(self) -> None:
        for seed in range(200):
            tokens, known = world.repeated_span(1000, 128, random.Random(seed))
            assert len(tokens) == len(known) == 128
            for place in range(1, 128):
                if known[place]:
                    earlier = {tokens[i + 1] for i in range(place - 1) if tokens[i] == tokens[place - 1]}
                    back = {tokens[place - 2]} if place > 1 else set[int]()
                    assert tokens[place] in earlier | back

    def test_stories_speak_of_what_verbs_are_done_to(self) -> None:
        text = stories.story(400, random.Random(0))
        assert sum(f" {verb} " in text for verb in VERB_OBJECTS) > 12
        assert "  " not in text and not text.startswith(" ")


class Letters:
    """A tokenizer that splits every word into letters."""

    bos_token_id = None
    all_special_ids: tuple[int, ...] = ()

    def encode(self, text: str, add_special_tokens: bool = False) -> list[int]:
        return [ord(letter) % 128 for letter in text]

    def __len__(self) -> int:
        return 128


def test_a_tokenizer_that_splits_every_word_is_named_as_the_reason() -> None:
    words = Vocabulary(Letters(), 128)
    with pytest.raises(UntestableError, match="single token"):
        words.singles(NAMES, at_least=20)
    with pytest.raises(UntestableError, match="128 ordinary tokens"):
        words.draw(random.Random(0), 200)


class Chatting(Letters):
    """A chat model's tokenizer that calls the token which opens a turn BOS, and puts it before text or does not."""

    bos_token_id, bos_token = 7, "<|im_start|>"

    def __init__(self, template: str | None, adds: bool) -> None:
        self.chat_template, self._adds = template, adds

    def __call__(self, text: str) -> SimpleNamespace:
        return SimpleNamespace(input_ids=[7, 1] if self._adds else [1])


@pytest.mark.parametrize(
    "template, adds, starts",
    [
        ("{% for message in messages %}<|im_start|>{{ message['role'] }}", False, False),
        ("{% for message in messages %}<|im_start|>{{ message['role'] }}", True, True),
        ("{{ bos_token }}{% for message in messages %}", False, True),
        (None, False, True),
    ],
)
def test_a_token_that_opens_a_turn_of_a_chat_starts_no_prompt(template: str | None, adds: bool, starts: bool) -> None:
    words = Vocabulary(Chatting(template, adds), 26)
    assert words.bos == ((7,) if starts else ())
    assert bool(words.without_bos) != starts


class Apart(Letters):
    """A tokenizer that writes a space by itself, and a number of up to two digits as one token."""

    def encode(self, text: str, add_special_tokens: bool = False) -> list[int]:
        return [200 if part == " " else ord(part[0]) + len(part) for part in re.findall(r"\d{1,2}| |.", text)]


class Digits(Letters):
    """A tokenizer that writes every character by itself."""

    def encode(self, text: str, add_special_tokens: bool = False) -> list[int]:
        return [ord(character) for character in text]


@pytest.mark.parametrize(
    "words, right, wrong, shared, tokens",
    [
        (Vocabulary(Apart(), 300), " 7", " 12", (200,), (ord("7") + 1, ord("1") + 2)),
        (Vocabulary(Digits(), 300), " 17", " 12", (32, 49), (55, 50)),
        (Vocabulary(Digits(), 300), " 7", " 12", (32,), (55, 49)),
        (Vocabulary(Digits(), 300), " odd", " even", (32,), (ord("o"), ord("e"))),
    ],
)
def test_two_answers_are_told_apart_at_the_first_token_that_differs(
    words: Vocabulary, right: str, wrong: str, shared: tuple[int, ...], tokens: tuple[int, int]
) -> None:
    assert words.told_apart(right, wrong) == (shared, *tokens)


def test_an_answer_that_another_begins_with_cannot_be_told_apart() -> None:
    with pytest.raises(UntestableError, match="' 1' and ' 12' differ in no token before one of them ends"):
        Vocabulary(Digits(), 300).told_apart(" 1", " 12")


def test_a_tokenizer_of_another_model_is_named_as_the_reason(words: Vocabulary) -> None:
    with pytest.raises(UntestableError, match="do not belong together"):
        Vocabulary(words.tokenizer, 50).encode("Monday")


def test_no_text_is_no_token_also_after_random_tokens_were_drawn(specimen: OpenModel) -> None:
    words = Vocabulary(specimen.tokenizer, len(specimen.tokenizer))
    words.draw(random.Random(0), 3)
    assert words.encode("") == ()


def test_random_tokens_are_never_special_nor_outside_the_embedding(words: Vocabulary) -> None:
    special = set(words.tokenizer.all_special_ids)
    small = Vocabulary(words.tokenizer, 300)
    assert not special & set(words.ordinary)
    assert max(small.ordinary) < 300


def test_the_opening_of_a_story_asks_for_the_tokens_that_follow(words: Vocabulary) -> None:
    for seed in range(20):
        rng = random.Random(seed)
        told = words.encode(stories.story(40 // 5 + 1, random.Random(seed)))
        prompt = stories.opening(words, 40, rng, readouts=3)
        assert prompt.tokens == words.bos + told[: 40 - len(words.bos)]
        assert [(each.position, each.answer) for each in prompt.readouts] == [
            (37, prompt.tokens[38]),
            (38, prompt.tokens[39]),
            (39, told[40 - len(words.bos)]),
        ]
        assert prompt.corrupted != prompt.tokens and sorted(prompt.corrupted) == sorted(prompt.tokens)


def test_rare_words_stand_where_they_are_told_to_and_come_from_the_words_given() -> None:
    for before, after in ((0, 0), (2, 0), (0, 1)):
        case = lookup.rare_word("train", random.Random(0), before, after, ("Ann", "Bob"), lookup.RARE[:6])
        place = [part.role for part in case.segments].index("rare")
        # what leads to the word, and what follows it in its sentence, are pieces of their own; so is the question
        assert (place - 1, len(case.segments) - place - 3) == (before, after)
        assert {*case.answers, *case.rivals} <= {f" {word}" for word in lookup.RARE[:6]}


def test_pairs_are_written_with_the_arrow_given() -> None:
    texts = [lookup.key_value("train", random.Random(seed), 3, " =").text for seed in range(10)]
    assert all(text.count(" =") >= 4 and ":" not in text and " ->" not in text for text in texts)


def test_sentences_are_joined_by_the_mark_and_begin_small_unless_it_ends_them() -> None:
    for mark, first in ((".", " The"), (";", " the"), (",", " the")):
        parts = grammar.joined(mark, 3, random.Random(0))
        assert [part.text for part in parts[1::2]] == [mark] * 3
        assert {part.role for part in parts[1::2]} == {"delimiter"} and {part.role for part in parts[::2]} == {""}
        assert parts[0].text.startswith("The ") and all(part.text.startswith(f"{first} ") for part in parts[2::2])

"""Prints prompts token by token: pairs, null pairs, the corrupted prompt, answers."""

from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from headatlas.cli.terminal import print_items, prose
from headatlas.protocol.script import PromptSample, Script
from headatlas.stimuli.prompts import Pairs, Prompt, Vocabulary

_SHOWN = 8  # pairs or answers of a prompt; `--json` has all
_CUT = "|"  # between tokens


def words_of(vocabulary: Vocabulary, tokens: Sequence[int]) -> list[str]:
    """Every token as text that can be read: without line breaks, and bytes by their names."""
    words = []
    for token in tokens:
        word = str(vocabulary.tokenizer.decode([token]))
        if "\ufffd" in word or not word:
            word = str(vocabulary.tokenizer.convert_ids_to_tokens([token])[0])
        words.append(word.replace("\n", "\\n").replace("\t", "\\t"))
    return words


def print_stimuli(vocabulary: Vocabulary, sample: PromptSample, script: Script) -> None:
    """Print each prompt with everything that is measured on it."""
    console = prose()
    score = "the attention along the pairs" if script.detect is None else "what `detect` of the script computes"
    for number, (prompt, family) in enumerate(zip(sample.prompts, sample.families, strict=True)):
        if number:
            console.print()
        _print_prompt(console, vocabulary, prompt, f"{script.id}, family {family!r}, {len(prompt.tokens)} tokens")
    console.print(
        Text(
            f"\n{_CUT} between tokens; (n): position from 0; bold: a token that a pair leads from or to, and in the "
            f"corrupted prompt a token that differs\nscore: {score}",
            style="dim",
        )
    )


def _print_prompt(console: Console, vocabulary: Vocabulary, prompt: Prompt, title: str) -> None:
    words = words_of(vocabulary, prompt.tokens)
    console.print(Text(title, style="bold cyan"))
    ends = {position for pair in prompt.pairs for position in pair}
    console.print(_text(words, ends))
    corrupted = words_of(vocabulary, prompt.corrupted)
    differ = {place for place, (a, b) in enumerate(zip(prompt.tokens, prompt.corrupted, strict=True)) if a != b}
    parts = [_labelled("corrupted", _text(corrupted, differ))]
    for name, tokens in prompt.alternatives.items():
        changed = {place for place, (a, b) in enumerate(zip(prompt.tokens, tokens, strict=True)) if a != b}
        parts.append(_labelled(name, _text(words_of(vocabulary, tokens), changed)))
    if prompt.pairs:
        parts.append(_labelled("pairs", _pairs(words, prompt.pairs)))
    if prompt.null_pairs:
        parts.append(_labelled("null pairs", _pairs(corrupted, prompt.null_pairs)))
    parts += [_labelled("answers", _answers(vocabulary, words, prompt))] if prompt.readouts else []
    for role, positions in prompt.spans.items():
        parts.append(_labelled(role, Text(_listed([f"{words[each].strip()} ({each})" for each in positions]))))
    if prompt.probe:
        group = f", group {prompt.probe.group}" if prompt.probe.group else ""
        parts.append(_labelled("label", Text(f"{prompt.probe.value}{group}")))
    print_items(console, parts)


def _labelled(label: str, text: Text) -> Text:
    return Text.assemble((f"{label}: ", "dim"), text)


def _text(words: Sequence[str], marked: set[int]) -> Text:
    said = Text()
    for place, word in enumerate(words):
        if place:
            said += Text(_CUT, style="dim")
        said += Text(word, style="bold" if place in marked else "")
    return said


def _pairs(words: Sequence[str], pairs: Pairs) -> Text:
    return Text(_listed([f"{words[q].strip()} ({q}) → {words[k].strip()} ({k})" for q, k in pairs]))


def _answers(vocabulary: Vocabulary, words: Sequence[str], prompt: Prompt) -> Text:
    said = []
    for readout in prompt.readouts:
        answer, *rivals = words_of(vocabulary, [readout.answer, *readout.rivals])
        against = f", not {_listed([rival.strip() for rival in rivals], 'or')}" if rivals else ""
        said.append(f"after {words[readout.position].strip()} ({readout.position}): {answer.strip()}{against}")
    return Text(_listed(said, sign="; "))


def _listed(items: Sequence[str], last: str = "", sign: str = ", ") -> str:
    shown = list(items[:_SHOWN])
    if more := len(items) - len(shown):
        shown.append(f"{more} more")
    if last and len(shown) > 1:
        return f"{sign.join(shown[:-1])} {last} {shown[-1]}"
    return sign.join(shown)

"""Requests to translate a word, from which the word or the language asked for can be exchanged.

The languages are French, German and Spanish, or Lumi for a tokenizer that has its words, as the specimen's does. A
translation is read at its first token, which must have two letters at least.
"""

import random
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import NamedTuple

from headatlas.stimuli import languages, second_language
from headatlas.stimuli.cases import Case, Segment, fill_roles, first_usable, in_place, in_same_places, segments
from headatlas.stimuli.lexicon import NAMES, THINGS
from headatlas.stimuli.prompts import Prompt, UntestableError, Vocabulary

LUMI, ENGLISH = "Lumi", "English"
SHORTEST = 2  # letters of a first token
RIVALS = 3  # other words whose translations compete with the right one

# English word, then French, German and Spanish; no translation begins with the same letter.
_TABLE = """
dog chien Hund perro; tree arbre Baum árbol; cloud nuage Wolke nube; window fenêtre Fenster ventana; key clé Schlüssel
llave; horse cheval Pferd caballo; bird oiseau Vogel pájaro; money argent Geld dinero; child enfant Kind niño; woman
femme Frau mujer; year année Jahr año; knife couteau Messer cuchillo; leaf feuille Blatt hoja; head tête Kopf cabeza;
eye œil Auge ojo; war guerre Krieg guerra; health santé Gesundheit salud; truth vérité Wahrheit verdad; dream rêve
Traum sueño; death mort Tod muerte; work travail Arbeit trabajo; church église Kirche iglesia; sea mer Meer mar; spoon
cuillère Löffel cuchara; tooth dent Zahn diente; wheel roue Rad rueda; shirt chemise Hemd camisa; girl fille Mädchen
niña; husband mari Ehemann marido; wood bois Holz madera; iron fer Eisen hierro; sky ciel Himmel cielo; spring
printemps Frühling primavera; fear peur Angst miedo; pig cochon Schwein cerdo; cow vache Kuh vaca; duck canard Ente
pato; lawyer avocat Anwalt abogado; teacher professeur Lehrer maestro; cheese fromage Käse queso; meat viande Fleisch
carne; pencil crayon Bleistift lápiz; smoke fumée Rauch humo; bone os Knochen hueso; skin peau Haut piel; leg jambe
Bein pierna; queen reine Königin reina; game jeu Spiel juego; roof toit Dach techo; mistake erreur Fehler error
"""
WORDS: Mapping[str, Mapping[str, str]] = MappingProxyType(  # English -> language -> translation
    {
        english: MappingProxyType(dict(zip(languages.FOREIGN, rest, strict=True)))
        for english, *rest in (row.split() for row in _TABLE.split(";"))
    }
)


class Request(NamedTuple):
    """What is to be translated, and into which language."""

    word: str
    language: str

    @property
    def answer(self) -> str:
        """The translation, with a leading space."""
        if self.language == ENGLISH:
            return f" {self.word}"
        return f" {second_language.WORDS[self.word] if self.language == LUMI else WORDS[self.word][self.language]}"


def another_word(words: Vocabulary, rng: random.Random, frame: str) -> Prompt:
    """A request whose corrupted prompt asks for another word; rivals are translations of other words.

    Args:
        words: vocabulary of the model.
        rng: draws.
        frame: of the request, with {word} and {language}.

    Returns:
        A prompt read at its end. Pairs lead from there to the word. The alternative 'other opening' is the same
        request after another sentence. Spans: 'word' and 'language', tokens of the request.

    Raises:
        UntestableError: if the tokenizer cannot express it.
    """

    def draw() -> Prompt:
        language, (right, *others) = _language(words, rng), rng.sample(_known(words), 1 + RIVALS)
        asked = [Request(word, language) for word in (right, *others)]
        return _prompt(words, rng, frame, asked[0], asked[1], asked[1:], "word")

    return first_usable(draw)


def another_language(words: Vocabulary, rng: random.Random, frame: str) -> Prompt:
    """A request whose corrupted prompt asks for another language; the rival is the translation into that one.

    In place of Lumi, of which there is no second one, the corrupted prompt asks for English, and the rival is the word
    itself. Arguments, result and errors are those of `another_word`, but pairs lead to the name of the language.
    """

    def draw() -> Prompt:
        language, word = _language(words, rng), rng.choice(_known(words))
        other = ENGLISH if language == LUMI else rng.choice([each for each in languages.FOREIGN if each != language])
        rival = Request(word, other)
        return _prompt(words, rng, frame, Request(word, language), rival, [rival], "language")

    return first_usable(draw)


def _known(words: Vocabulary) -> list[str]:
    """The English words, those that are single tokens."""
    return list(words.singles(second_language.NOUNS if second_language.known(words) else WORDS, at_least=1 + RIVALS))


def _language(words: Vocabulary, rng: random.Random) -> str:
    return LUMI if second_language.known(words) else rng.choice(languages.FOREIGN)


def _prompt(
    words: Vocabulary,
    rng: random.Random,
    frame: str,
    right: Request,
    corrupted: Request,
    rivals: list[Request],
    looked_at: str,
) -> Prompt:
    """One draw, which the tokenizer may not be able to express."""
    neutral = [thing for thing in words.singles(THINGS) if thing not in WORDS and thing not in second_language.WORDS]
    names, things = rng.sample(words.singles(NAMES, at_least=2), 2), rng.sample(neutral, 2)
    for request in (right, *rivals):
        if len(words.pieces(words.continuation(request.answer)[:1]).strip()) < SHORTEST:
            raise UntestableError(f"the first token of {request.answer!r} has too few letters")
    openings = [f" {name} has the {thing}." for name, thing in zip(names, things, strict=True)]

    def write(request: Request, opening: str) -> tuple[Segment, ...]:
        parts = {"word": (f" {request.word}", "word"), "language": (f" {request.language}", "language")}
        return (*segments(opening), *fill_roles(frame, parts))

    case = Case(
        write(right, openings[0]),
        (right.answer,),
        tuple(each.answer for each in rivals),
        write(corrupted, openings[0]),
    )
    made, places = in_place(words, case)
    _, reopened = in_same_places(words, case.segments, write(right, openings[1]))
    end = len(made.tokens) - 1
    return replace(
        made,
        pairs=tuple((end, key) for key in places.covers(looked_at)),
        alternatives={"other opening": reopened.ids},
    )

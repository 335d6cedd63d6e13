"""Short texts in English, French, German and Spanish that continue with the same word, in their own language.

For models that read these languages; Lumi (`second_language`) is for models trained on it, such as the specimen.
"""

import random
from collections.abc import Mapping
from types import MappingProxyType

from headatlas.stimuli.cases import Case, segments

FOREIGN: tuple[str, ...] = ("French", "German", "Spanish")
SENTENCES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "English": (
            "The sun is shining today.",
            "The children are playing in the garden.",
            "My brother reads a book.",
            "We are drinking water.",
            "The dog sleeps in the house.",
            "She works in the city.",
            "He eats bread and cheese.",
            "The old woman lives here.",
        ),
        "French": (
            "Le soleil brille aujourd'hui.",
            "Les enfants jouent dans le jardin.",
            "Mon frère lit un livre.",
            "Nous buvons de l'eau.",
            "Le chien dort dans la maison.",
            "Elle travaille dans la ville.",
            "Il mange du pain et du fromage.",
            "La vieille femme habite ici.",
        ),
        "German": (
            "Die Sonne scheint heute.",
            "Die Kinder spielen im Garten.",
            "Mein Bruder liest ein Buch.",
            "Wir trinken Wasser.",
            "Der Hund schläft im Haus.",
            "Sie arbeitet in der Stadt.",
            "Er isst Brot und Käse.",
            "Die alte Frau wohnt hier.",
        ),
        "Spanish": (
            "El sol brilla hoy.",
            "Los niños juegan en el jardín.",
            "Mi hermano lee un libro.",
            "Bebemos agua.",
            "El perro duerme en la casa.",
            "Ella trabaja en la ciudad.",
            "Él come pan y queso.",
            "La anciana vive aquí.",
        ),
    }
)
# How each language says that one thing comes after another: days, months, numbers.
_AFTER: Mapping[str, tuple[str, str, str]] = MappingProxyType(
    {
        "English": ("After {} comes", "After {} comes", "After {} comes"),
        "French": ("Après {} vient", "Après {} vient", "Après {} vient"),
        "German": ("Nach {} kommt", "Nach {} kommt", "Nach {} kommt"),
        "Spanish": ("Después del {} viene el", "Después de {} viene", "Después del {} viene el"),
    }
)
_ROWS: Mapping[str, tuple[str, str, str]] = MappingProxyType(
    {
        "English": (
            "Monday Tuesday Wednesday Thursday Friday Saturday Sunday",
            "January February March April May June July August September October November December",
            "one two three four five six seven eight nine ten",
        ),
        "French": (
            "lundi mardi mercredi jeudi vendredi samedi dimanche",
            "janvier février mars avril mai juin juillet août septembre octobre novembre décembre",
            "un deux trois quatre cinq six sept huit neuf dix",
        ),
        "German": (
            "Montag Dienstag Mittwoch Donnerstag Freitag Samstag Sonntag",
            "Januar Februar März April Mai Juni Juli August September Oktober November Dezember",
            "eins zwei drei vier fünf sechs sieben acht neun zehn",
        ),
        "Spanish": (
            "lunes martes miércoles jueves viernes sábado domingo",
            "enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre diciembre",
            "uno dos tres cuatro cinco seis siete ocho nueve diez",
        ),
    }
)


def after(rng: random.Random, foreign: bool, sentences: int = 1) -> Case:
    """What comes after a day, month or number, asked in English or a foreign language, after sentences in it.

    The rival is the translation: into English if the text is foreign, else into one of FOREIGN. There is no corrupted
    prompt, because the text in the other language would differ in length.
    """
    other = rng.choice(FOREIGN)
    mine, translated = (other, "English") if foreign else ("English", other)
    row = rng.randrange(3)
    words, images = (_ROWS[language][row].split() for language in (mine, translated))
    place = rng.randrange(len(words) - 1)
    said = " ".join(SENTENCES[mine][number] for number in rng.sample(range(len(SENTENCES[mine])), sentences))
    asked = _AFTER[mine][row].format(words[place])
    return Case(segments(f"{said} {asked}"), (f" {words[place + 1]}",), (f" {images[place + 1]}",))

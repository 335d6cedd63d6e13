"""Word lists of the prompt families: common English words that most tokenizers keep whole."""

NAMES: tuple[str, ...] = tuple(
    """
    Aaron Adam Adrian Alan Albert Alex Alfred Alice Allen Amanda Amber Amy Andrea Andrew Angela Anna Anne
    Anthony Antonio Arnold Arthur Ashley Austin Barbara Barry Ben Benjamin Bernard Beth Betty Beverly
    Bill Blake Bob Bobby Bonnie Brad Bradley Brandon Brenda Brent Brett Brian Bruce Bryan Calvin Cameron Carl
    Carla Carlos Carmen Carol Caroline Carolyn Carrie Casey Catherine Cecil Chad Charles Charlie Charlotte
    Chelsea Chester Chris Christian Christina Christine Cindy Claire Clara Clarence Claude Clayton Clifford
    Clinton Cody Colin Connie Connor Corey Craig Crystal Curtis Dale Dan Dana Daniel Danny Darren Dave David
    Dawn Dean Deborah Dennis Derek Diana Diane Don Donald Donna Doris Dorothy Doug Douglas Duane Dustin Dylan
    Earl Eddie Edgar Edith Edward Edwin Elaine Eleanor Elizabeth Ellen Emily Emma Eric Erica Erik Erin Ernest
    Ethan Eugene Eva Evan Evelyn Felix Florence Floyd Frances Francis Frank Franklin Fred Frederick Gabriel
    Gary Gene George Gerald Gilbert Gina Glen Glenn Gloria Gordon Grace Graham Grant Greg Gregory Gwen Hannah
    Harold Harry Harvey Heather Hector Heidi Helen Henry Herbert Herman Holly Howard Hugh Ian Irene Isaac Ivan
    Jack Jackie Jacob Jake James Jamie Jan Jane Janet Jason Jay Jean Jeff Jeffrey Jennifer Jenny Jeremy Jerome
    Jerry Jesse Jessica Jill Jim Jimmy Joan Joe Joel John Johnny Jonathan Jordan Jose Joseph Josh Joshua Joyce
    Juan Judith Judy Julia Julian Julie Justin Karen Karl Kate Katherine Kathleen Kathy Katie Keith Kelly Ken
    Kenneth Kent Kerry Kevin Kim Kurt Kyle Larry Laura Lauren Laurie Lawrence Leah Lee Leo Leon Leonard Leslie
    Lewis Lillian Linda Lisa Liz Lloyd Logan Lois Lori Louis Louise Lucas Lucy Luis Luke Lynn Mabel Madison
    Marc Marcus Margaret Maria Marie Marilyn Mario Marion Mark Marshall Martha Martin Marvin Mary Mason Matt
    Matthew Maurice Max Megan Melanie Melissa Michael Michelle Miguel Mike Milton Miriam Mitchell Molly Monica
    Morris Nancy Natalie Nathan Neil Nicholas Nick Nicole Nina Noah Nora Norma Norman Oliver Oscar Owen Pamela
    Patricia Patrick Paul Paula Pauline Pedro Peter Phil Philip Phillip Rachel Ralph Ramon Randy Ray Raymond
    Rebecca Regina Rich Richard Rick Ricky Rita Rob Robert Roberto Robin Rodney Roger Roland Ron Ronald Rose Ross
    Roy Ruby Russell Ruth Ryan Sally Sam Samantha Samuel Sandra Sara Sarah Scott Sean Shane Shannon Sharon
    Shawn Sheila Shirley Simon Sophie Spencer Stanley Stella Stephanie Stephen Steve Steven Stewart Stuart Sue
    Susan Sylvia Tara Ted Teresa Terry Theodore Theresa Thomas Tim Timothy Tina Todd Tom Tommy Tony Tracy
    Travis Trevor Troy Tyler Valerie Vanessa Vera Vernon Veronica Victor Victoria Vincent Virginia Walter
    Warren Wayne Wendy Wesley William Willie Yvonne Zach
    """.split()
)

PLACES: tuple[str, ...] = tuple(
    """
    store garden restaurant school hospital office house station park market library beach museum church
    hotel bank farm kitchen theater zoo
    """.split()
)

GIFTS: tuple[str, ...] = tuple(
    """
    ring kiss bone basketball computer necklace drink snack book letter ball hat cup box card map key coat
    flower lamp
    """.split()
)

# Things one can list; each is a plain noun that also occurs in stories.
THINGS: tuple[str, ...] = tuple(
    """
    apple bread cake cheese egg fish milk rice salt soup sugar tea water wine meat corn butter fruit lemon
    orange chair table bed door window clock mirror bottle plate knife spoon pen paper stone wood glass gold
    silver iron sand snow rain wind fire leaf tree grass rose bird cat dog horse cow pig sheep duck lion bear
    wolf fox mouse snake frog car bus train boat plane bike truck ship road bridge river lake hill field
    forest island cloud moon star sun shirt shoe sock belt bag rope nail brick wheel engine phone radio
    camera drum guitar piano song story picture toy doll kite candle soap towel brush comb pillow blanket
    """.split()
)

COLORS: tuple[str, ...] = tuple("red blue green yellow white black brown pink purple gray".split())

QUALITIES: tuple[str, ...] = tuple(
    "big small old new long short warm cold soft hard clean heavy light fast slow quiet loud bright dark pretty".split()
)

FEELINGS: tuple[str, ...] = tuple("happy sad tired hungry angry proud scared excited bored calm".split())

# Verbs in the past tense, each with typical objects.
VERB_OBJECTS: dict[str, tuple[str, ...]] = {
    "ate": ("apple", "cake", "egg", "orange", "fish", "soup"),
    "drank": ("tea", "milk", "water", "wine"),
    "read": ("book", "letter", "story", "paper"),
    "drove": ("car", "bus", "truck", "train"),
    "rode": ("horse", "bike", "bus", "train"),
    "played": ("guitar", "piano", "drum", "song"),
    "wore": ("hat", "coat", "shirt", "belt", "ring"),
    "opened": ("door", "window", "box", "bottle", "bag"),
    "fed": ("cat", "dog", "cow", "duck", "pig", "bird"),
    "cut": ("bread", "paper", "rope", "wood", "grass"),
    "threw": ("ball", "stone", "stick", "kite"),
    "washed": ("plate", "spoon", "cup", "shirt", "knife"),
    "climbed": ("tree", "hill", "bridge"),
    "wrote": ("letter", "song", "story", "card"),
    "lit": ("candle", "lamp", "fire"),
    "fixed": ("clock", "radio", "engine", "wheel", "phone"),
    "painted": ("picture", "chair", "table", "boat"),
    "crossed": ("river", "road", "field", "lake"),
}

"""The English the parser knows. Everything it does not know counts as a noun."""

from __future__ import annotations


def vocabulary(words: str) -> frozenset[str]:
    return frozenset(words.split())


DETERMINERS = vocabulary(
    """a an the my your his her its our their this these those some another each every both several many few
    one two three four five six seven eight nine ten eleven twelve dozen no any"""
)
# Names of more than one: "a group of cats" is cats, just as "five cats" is.
QUANTITIES = vocabulary(
    """pair group couple bunch lot lots set number row pile stack flock herd pack swarm crowd collection
    variety kind type sort piece array"""
)
JOINERS = vocabulary("and or with plus versus vs beside besides alongside next near n")
PREPOSITIONS = vocabulary(
    """of in on at to from by for into onto inside outside over under underneath below beneath above behind
    between among amid around across through along against atop off up down out upon within without
    during before after as like than about towards toward while near past via"""
)
# Prepositions that put two things in relation, so that words without an article count too: "cat on table".
LINKS = JOINERS | vocabulary("on onto under underneath below beneath above behind over atop between inside")
RELATIVES = vocabulary("that which who whom whose where")
COPULAS = vocabulary("is are was were be being been looks look seems becomes became appears remains")
FUNCTION_WORDS = vocabulary(
    """i you he she it we they me him us them himself herself itself themselves there here what when how why
    not but nor so yet if because then also only just too both either neither all has have had having do
    does did done will would can could should may might must s t other others something someone
    everything everyone nothing"""
)
VERBS = vocabulary(
    """sits sit sat stands stand stood lies lie lay laying lying wears wore worn holds held rides rode
    ridden eats eat ate drinks drank drives drove runs run ran walks walked jumps jump jumped flies flew
    plays sleeps slept chases chased watches watched looks looked carries carried swims swam climbs
    climbed fights fought faces hugs kisses kissed follows followed leans leaned hangs hung hides hid
    made seen surrounded covered filled dressed shows show shown depicts depict features feature reads
    says contains includes has meets met hold wear eats chases rests smiles throws catches kicks pulls
    pushes reaches rises shines grows floats perched seated painted drawn inspired influenced featuring
    showing depicting"""
)
ADVERBS = vocabulary(
    """very really quite extremely highly super ultra so too rather slightly somewhat more most less least
    almost together away far"""
)
# Words in -ly, -ing, -ed ... that are what their ending does not say.
NOUNS = vocabulary(
    """fly butterfly dragonfly firefly family lily belly jelly bully ally holly dolly reply italy assembly
    king ring wing string spring building painting drawing ceiling earring thing sibling dumpling
    pudding morning evening lightning swing sling sting viking railing darling duckling yearling sapling
    seedling awning clothing bed sled shed seed weed reed steed speed breed biped quadruped fish dish
    radish finish table vegetable cable syllable olive hive dive archive detective native fugitive
    captive bible crucible canvas octopus"""
)
COLOURS = vocabulary(
    """red green blue yellow orange purple pink brown black white gray grey cyan magenta teal turquoise
    violet indigo beige gold golden silver crimson scarlet maroon navy ivory tan lavender coral amber
    bronze copper khaki multicolored multicoloured colorful colourful rainbow transparent translucent"""
)
ADJECTIVES = COLOURS | vocabulary(
    """big small large little tiny huge giant gigantic enormous tall short long thin thick fat wide narrow
    massive mini miniature old young new ancient modern antique vintage retro futuristic medieval
    traditional round flat square-shaped oval curved straight sharp pointy curly wavy smooth rough soft
    hard fluffy furry fuzzy hairy shaggy bald shiny glossy matte sparkly glittery dusty rusty muddy
    dirty clean wet dry snowy frozen icy hot cold warm cool fresh ripe rotten raw juicy spicy sweet
    wooden metal metallic plastic leather glass stone brick ceramic porcelain paper cardboard woolen
    woollen wool silk cotton rubber marble concrete steel iron velvet knitted crochet happy sad angry
    cute adorable lovely pretty beautiful handsome ugly scary creepy spooky funny silly sleepy tired
    friendly elderly lonely fierce wild tame brave lazy crazy magic magical mythical fantasy evil royal
    bright dark light pale deep vivid pastel neon vibrant dull faded striped spotted dotted checkered
    plaid stuffed painted broken cracked tattooed empty full open closed single double main stunning
    gorgeous amazing awesome epic incredible perfect detailed intricate elegant simple complex
    minimalist abstract surreal realistic photorealistic hyperrealistic cinematic dramatic moody
    professional sharp-focus anime cartoon oil watercolor watercolour digital aerial studio same
    different various real fake quiet loud strong weak heavy rich poor male female human quick fast slow
    asian african european american japanese chinese indian french italian english german russian
    spanish mexican close macro high low top-down 3d 2d"""
)
ADJECTIVE_ENDINGS = (
    "ful",
    "ous",
    "ish",
    "less",
    "ive",
    "able",
    "ible",
    "ed",
    "like",
    "colored",
    "coloured",
    "esque",
)
# Things as well as qualities: with an article and no noun after them they are the thing ("an orange").
QUALITIES_AND_THINGS = vocabulary(
    """orange gold silver glass rose violet lavender coral metal stone brick leather paper human cartoon anime
    light rainbow marble iron giant wool silk navy"""
)
# Compounds whose first word would count as a quality of the second.
COMPOUNDS = frozenset(
    (first, second)
    for first, seconds in {
        "hot": "dog dogs air tub rod",
        "red": "panda pandas",
        "blue": "whale whales jay jays",
        "great": "dane danes",
        "golden": "retriever retrievers",
        "white": "house",
        "black": "hole",
        "high": "heels chair",
        "stuffed": "animal animals",
        "stained": "glass",
        "sweet": "potato potatoes",
        "paper": "plane planes airplane airplanes",
        "light": "bulb bulbs",
        "iron": "man",
        "gold": "fish",
        "giant": "panda pandas",
        "sewing": "machine",
        "washing": "machine",
        "rocking": "chair horse",
        "swimming": "pool",
        "frying": "pan",
        "shopping": "cart bag",
        "flying": "saucer saucers",
        "racing": "car cars",
    }.items()
    for second in seconds.split()
)
# The picture itself, not something in it.
MEDIA = vocabulary(
    """photo photos photograph picture image illustration rendering render shot view portrait selfie
    snapshot closeup close-up artwork scene depiction screenshot wallpaper photography"""
)
# The picture when nothing was named before and "of" follows ("a painting of a cat"); otherwise a thing.
MEDIA_OR_THINGS = vocabulary(
    """painting drawing sketch sculpture statue poster print engraving figurine watercolor watercolour comic
    cartoon logo icon sticker doodle mosaic model still film frame"""
)
# Never something that is to be seen at a place of its own.
QUALITY_TAGS = vocabulary(
    """masterpiece quality lighting background foreground style resolution detail details bokeh focus depth
    field hdr uhd 4k 8k 16k artstation trending engine octane unreal composition aesthetic aesthetics
    art design texture textures left right top bottom middle center centre front side sides corner edge
    distance air manner way night day morning evening noon dusk dawn midnight time winter summer autumn
    spring season angle lens camera color colors colour colours tone tones mood atmosphere pose action
    motion best score source rating concept"""
)
# A setting when a preposition leads to it ("in a forest"), a subject otherwise ("a forest and a lake").
PLACES = vocabulary(
    """forest forests wood woods jungle field fields meadow park garden yard backyard street streets road
    city town village beach desert sky skies snow rain grass ground floor water sea ocean space sunset
    sunrise sunlight sunshine moonlight room kitchen bedroom bathroom office studio house home school
    restaurant bar cafe gym stadium museum library market farm zoo mountains valley countryside
    landscape world wild nature shade dark fog mist wind storm weather"""
)
# Parts of a subject already named, when "with" leads to them ("a girl with blue eyes").
PARTS = vocabulary(
    """eye eyes hair face skin fur smile expression ear ears nose mouth beard mustache moustache tail legs
    arms hands feet fingers teeth feathers body"""
)
IRREGULAR_PLURALS = {
    "men": "man",
    "women": "woman",
    "children": "child",
    "people": "person",
    "mice": "mouse",
    "geese": "goose",
    "feet": "foot",
    "teeth": "tooth",
    "oxen": "ox",
    "dice": "die",
    "cacti": "cactus",
}


def number_forms(word: str) -> frozenset[str]:
    """The word and what may be its singular or plural."""
    forms = {word, word + "s", word + "es"}
    forms |= {singular for plural, singular in IRREGULAR_PLURALS.items() if plural == word}
    forms |= {plural for plural, singular in IRREGULAR_PLURALS.items() if singular == word}
    if word.endswith("s") and not word.endswith("ss") and len(word) > 3:
        forms.add(word[:-1])
        if word.endswith("es"):
            forms.add(word[:-2])
        if word.endswith("ies"):
            forms.add(word[:-3] + "y")
        if word.endswith("ves"):
            forms |= {word[:-3] + "f", word[:-3] + "fe"}
    if word.endswith("y"):
        forms.add(word[:-1] + "ies")
    if word.endswith("f"):
        forms.add(word[:-1] + "ves")
    if word.endswith("fe"):
        forms.add(word[:-2] + "ves")
    return frozenset(forms)

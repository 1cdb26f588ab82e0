"""The vocabulary of the demo data, by semantic field. Words joined by `/` are synonyms; `bare:past` are the two forms
of a verb.

Order matters: training draws from the first two thirds of every field, dev and test from the last two thirds, so half
of what a model is tested on was never trained on and only a model that knows the words already can place them.
"""

from collections.abc import Mapping


def _words(block: str) -> list[str]:
    return block.split()


# Verbs whose past tense is also their participle, so that one form serves the active and the passive.
VERBS = _words("""
buy:bought/purchase:purchased find:found/discover:discovered repair:repaired/fix:fixed
carry:carried/transport:transported want:wanted/desire:desired lose:lost/misplace:misplaced wash:washed/clean:cleaned
destroy:destroyed/ruin:ruined praise:praised/commend:commended describe:described/depict:depicted
keep:kept/retain:retained examine:examined/inspect:inspected notice:noticed/spot:spotted
collect:collected/gather:gathered reject:rejected/refuse:refused bury:buried/conceal:concealed
request:requested/demand:demanded rent:rented/hire:hired sketch:sketched/outline:outlined adore:adored/love:loved
touch:touched/handle:handled guard:guarded/protect:protected photograph:photographed/picture:pictured
deliver:delivered/supply:supplied obtain:obtained/acquire:acquired damage:damaged/harm:harmed
assess:assessed/evaluate:evaluated abandon:abandoned/desert:deserted
""")

ADJECTIVES = _words("""
big/large small/little old/ancient expensive/costly cheap/inexpensive dirty/filthy clean/spotless strange/odd
famous/renowned shiny/gleaming rare/uncommon pretty/attractive heavy/weighty dull/drab huge/enormous tiny/minuscule
ordinary/common valuable/precious bright/vivid broken/faulty peculiar/unusual modern/contemporary soft/fluffy
empty/hollow
""")

MANNERS = _words("""
quietly quickly proudly secretly happily calmly eagerly nervously politely suddenly carefully lazily bravely gladly
silently rapidly boldly discreetly cheerfully serenely keenly anxiously courteously abruptly
""")

TIMES = (
    "yesterday",
    "last week",
    "on Monday",
    "in the morning",
    "before lunch",
    "two days ago",
    "in April",
    "after the meeting",
    "at noon",
    "last winter",
    "on Friday",
    "in the evening",
    "at midnight",
    "during the holidays",
    "last month",
    "at dawn",
    "a year ago",
    "on Sunday",
    "in September",
    "last summer",
)

# Two genres with people, places and things of their own: `town` for every task, `coast` for the mismatched dev set of
# MNLI.
PEOPLE: Mapping[str, list[str]] = {
    "town": _words("""
doctor/physician lawyer/attorney teacher/instructor writer/author thief/burglar child/kid boss/manager baker
policeman/officer painter nurse student/pupil actor/performer tailor butcher builder/constructor musician librarian
singer/vocalist cook/chef journalist/reporter shopkeeper/merchant neighbour banker dentist mechanic waiter barber
"""),
    "coast": _words("""
sailor/seaman fisherman captain/skipper pirate/buccaneer swimmer diver tourist/visitor lifeguard surfer
explorer/adventurer navigator/pilot hermit/recluse soldier/warrior admiral smuggler/trafficker whaler boatman/ferryman
castaway guide porter
"""),
}

PLACES: Mapping[str, tuple[str, ...]] = {
    "town": (
        "at the market",
        "in the park",
        "near the station",
        "at the office",
        "behind the school",
        "in the library",
        "outside the museum",
        "at the bank",
        "in the kitchen",
        "beside the church",
        "at the theatre",
        "in the garage",
        "near the bakery",
        "at the hospital",
        "under the bridge",
        "in the courtyard",
        "outside the cinema",
        "at the supermarket",
    ),
    "coast": (
        "on the beach",
        "at the harbour",
        "near the lighthouse",
        "on the island",
        "below deck",
        "in the cave",
        "by the cliff",
        "on the pier",
        "in the lagoon",
        "at the dock",
        "beyond the reef",
        "on the sandbank",
    ),
}

# hypernym -> hyponyms
THINGS: Mapping[str, Mapping[str, list[str]]] = {
    "town": {
        "animal": _words("dog cat horse rabbit otter goat monkey tiger pony hamster badger lion fox donkey"),
        "instrument": _words("violin piano guitar drum flute trumpet cello harp clarinet trombone banjo saxophone"),
        "fruit": _words("apple pear banana orange peach lemon plum mango cherry melon grape apricot"),
        "tool": _words("hammer saw screwdriver drill wrench shovel axe chisel rake mallet ladder crowbar"),
        "garment": _words("shirt jacket coat dress skirt sweater scarf hat blouse cardigan vest cloak"),
        "vehicle": _words("car truck bicycle bus van tractor motorcycle taxi scooter tram ambulance limousine"),
        "book": _words(
            "novel dictionary diary atlas biography cookbook textbook encyclopedia thriller anthology memoir manual"
        ),
    },
    "coast": {
        "bird": _words("gull pelican eagle parrot duck swan heron penguin albatross cormorant puffin stork"),
        "fish": _words("salmon tuna cod shark trout herring mackerel sardine eel haddock halibut anchovy"),
        "boat": _words("canoe yacht ferry raft kayak dinghy tanker schooner trawler catamaran rowboat tugboat"),
        "weapon": _words("sword pistol dagger cannon spear musket rifle harpoon bow cutlass crossbow revolver"),
        "jewel": _words("diamond ruby emerald pearl sapphire opal topaz amethyst garnet jade turquoise amber"),
    },
}

ASPECTS = _words("""
plot acting dialogue music pacing story script ending cast humour photography direction soundtrack performance opening
costume lighting editing romance premise suspense narration choreography finale
""")

WORKS = _words("""
film movie play novel drama comedy thriller sequel documentary series musical picture episode remake production
adaptation satire cartoon
""")

POSITIVE = _words("""
wonderful brilliant charming delightful superb moving clever funny excellent great beautiful enjoyable fresh gripping
warm witty impressive memorable fascinating elegant amusing splendid captivating touching masterful engaging lively
terrific inventive marvellous enchanting hilarious graceful magnificent compelling heartfelt stunning fabulous
refreshing exquisite dazzling thrilling admirable outstanding
""")

NEGATIVE = _words("""
terrible boring awful clumsy dull stupid weak horrible tedious bad ugly annoying stale lifeless cold silly
disappointing forgettable tiresome crude irritating dreadful bland shallow incoherent lazy pointless dismal predictable
atrocious pathetic painful awkward appalling pretentious insipid unwatchable mediocre grating abysmal sloppy
insufferable wretched laughable
""")

"""The topics of conversations: events, plans, opinions and friends, with their sentences, questions and values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.replace("_", " ") if "_" in text else text for text in text.split())


TOWN, FILM, NOVEL = "town", "film", "novel"
"""Kinds of invented names in ``worlds.synthetic.names``."""
PETS: Final = _words(
    "parrot tortoise hedgehog canary greyhound poodle donkey pony goat rabbit hamster gecko ferret peacock goose "
    "beagle terrier kitten lizard squirrel llama piglet dachshund cockatoo"
)
OBJECTS: Final = _words(
    "lantern kettle barometer typewriter globe trunk telescope mirror carpet chessboard clock camera radio candlestick "
    "umbrella teapot rucksack wallet scarf gramophone toolbox vase hammock bicycle tent sewing_machine rocking_chair "
    "music_box pocket_knife picture_frame thermos sledge basket binoculars_case walking_stick jewel_box "
    "coffee_grinder fishing_rod doll_house spinning_wheel lampshade bread_bin fruit_bowl suitcase blanket "
    "compass ladder wheelbarrow"
)
DISHES: Final = _words(
    "goulash paella lasagne ratatouille moussaka risotto borscht dumplings fish_pie lentil_stew mushroom_soup "
    "stuffed_peppers roast_lamb pumpkin_curry onion_tart potato_gratin spinach_pancakes bean_chili chicken_pie "
    "beetroot_salad tomato_soup leek_quiche barley_soup cabbage_rolls"
)
SUBJECTS: Final = _words(
    "pottery bookbinding astronomy Portuguese first_aid beekeeping calligraphy carpentry Finnish photography weaving "
    "welding Greek bread_baking fencing life_drawing Turkish glass_blowing massage bookkeeping Danish "
    "upholstery navigation engraving"
)
PLANTS: Final = _words(
    "cherry_tree fig_tree walnut_tree magnolia hazel quince gooseberry_bush pear_tree lilac rhubarb grapevine "
    "plum_tree holly hydrangea wisteria maple medlar mulberry_tree juniper birch rosemary_bush "
    "blackberry_bush laurel hornbeam"
)
COLOURS: Final = _words(
    "yellow turquoise olive_green pale_pink sky_blue white orange grey lavender dark_red mint_green cream navy_blue "
    "beige purple ochre brick_red lime_green silver_grey salmon_pink"
)
JOBS: Final = _words(
    "nurse tram_driver gardener locksmith translator midwife baker surveyor lighthouse_keeper librarian beekeeper "
    "optician welder paramedic tailor dentist plumber geologist puppeteer roofer cartoonist florist tax_adviser "
    "teacher"
)
INSTRUMENTS: Final = _words(
    "cello harp trombone oboe bassoon mandolin accordion clarinet viola banjo French_horn tuba lute zither bagpipes "
    "xylophone double_bass piccolo flute harmonica"
)
SPORTS: Final = _words(
    "judo rowing badminton archery curling handball water_polo squash fencing_with_sabres table_tennis diving golf "
    "climbing karate volleyball hurdling sailing trampolining tango bowling"
)
ADJECTIVES: Final = _words(
    "overlong moving silly brilliant gloomy clever clumsy touching shallow gripping confusing charming dull daring "
    "tasteless witty pretentious harmless haunting predictable tender noisy original sentimental"
)
PLACES: Final = _words(
    "chess_club swimming_pool street_market night_school choir hospital bus_stop pharmacy rowing_club book_fair "
    "museum_café allotment blood_donation wine_tasting town_hall ski_lift laundrette petrol_station zoo ferry"
)


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happens to a person once, on one day."""

    said: str
    """The sentence; ``{when}`` is the day, ``{a}`` the value with its article, ``{value}`` without."""
    what: str
    """The question about the value."""
    when: str
    """The question about the day."""
    values: tuple[str, ...] | str
    """The possible values, or a kind of invented names."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A plan or an opinion of a person, which may change."""

    said: tuple[str, ...]
    """Sentences for the first value."""
    changed: tuple[str, ...]
    """Sentences for a later value."""
    asked: str
    """The question about the latest value."""
    values: tuple[str, ...] | str
    """The possible values, or a kind of invented names."""
    about: str = ""
    """For an opinion on a work: the kind of the work that ``{title}`` names."""


EVENTS: Final = (
    Event("{when} I adopted {a}.", "Which animal did {name} adopt?", "On which day did {name} adopt an animal?", PETS),
    Event(
        "{when} I bought {a} at the flea market.",
        "What did {name} buy at the flea market?",
        "On which day did {name} buy something at the flea market?",
        OBJECTS,
    ),
    Event(
        "{when} I made a day trip to {value}.",
        "To which town did {name} make a day trip?",
        "On which day did {name} make a day trip to another town?",
        TOWN,
    ),
    Event(
        "{when} I cooked {value} for eight guests.",
        "What did {name} cook for eight guests?",
        "On which day did {name} cook for eight guests?",
        DISHES,
    ),
    Event(
        "{when} I began an evening course in {value}.",
        "In what did {name} begin an evening course?",
        "On which day did {name} begin an evening course?",
        SUBJECTS,
    ),
    Event(
        "{when} I planted {a} behind the house.",
        "What did {name} plant behind the house?",
        "On which day did {name} plant something behind the house?",
        PLANTS,
    ),
    Event(
        "{when} I won {a} in the raffle.",
        "What did {name} win in the raffle?",
        "On which day did {name} win something in the raffle?",
        OBJECTS,
    ),
    Event(
        "{when} I left {a} on the train.",
        "What did {name} leave on the train?",
        "On which day did {name} leave something on the train?",
        OBJECTS,
    ),
    Event(
        "{when} I sold {a} to a neighbour.",
        "What did {name} sell to a neighbour?",
        "On which day did {name} sell something to a neighbour?",
        OBJECTS,
    ),
    Event(
        "{when} I found {a} in the attic.",
        "What did {name} find in the attic?",
        "On which day did {name} find something in the attic?",
        OBJECTS,
    ),
    Event(
        "{when} I played the {value} in front of an audience.",
        "Which instrument did {name} play in front of an audience?",
        "On which day did {name} play an instrument in front of an audience?",
        INSTRUMENTS,
    ),
    Event(
        "{when} I had a trial lesson in {value}.",
        "In which sport did {name} have a trial lesson?",
        "On which day did {name} have a trial lesson in a sport?",
        SPORTS,
    ),
)
PLANS: Final = (
    Plan(
        ("I plan to spend the summer in {value}.", "My plan for the summer is {value}."),
        ("My summer plan has changed: I will go to {value}.", "I will spend the summer in {value} after all."),
        "In which town does {name} plan to spend the summer, by the latest plan?",
        TOWN,
    ),
    Plan(
        ("I am going to paint my kitchen {value}.", "My kitchen will be painted {value}."),
        ("I changed my mind about my kitchen: I will paint it {value}.", "My kitchen will be {value} after all."),
        "In which colour does {name} want to paint the kitchen, by the latest plan?",
        COLOURS,
    ),
    Plan(
        ("My mother will get {a} from me for her birthday.", "For her birthday I will give my mother {a}."),
        ("I thought again about my mother's birthday: she will get {a}.",),
        "What does {name} want to give to the mother for her birthday, by the latest plan?",
        OBJECTS,
    ),
    Plan(
        ("I want to retrain as {a}.", "I have decided to retrain as {a}."),
        ("I will not retrain for that job after all, but as {a}.", "I would now rather retrain as {a}."),
        "For which job does {name} want to retrain, by the latest plan?",
        JOBS,
    ),
    Plan(
        ("Next winter I want to learn to play the {value}.",),
        ("I will learn the {value} next winter, not the instrument that I named before.",),
        "Which instrument does {name} want to learn next winter, by the latest plan?",
        INSTRUMENTS,
    ),
    Plan(
        ("I have found {title} {value}, to be honest.", "I have seen {title}, which is {value}."),
        ("I have seen {title} once more: now I find it {value}.",),
        "What does {name} think of the film {title} by now?",
        ADJECTIVES,
        about=FILM,
    ),
    Plan(
        ("I have read {title}: {value}, if you ask me.", "I find the novel {title} {value}."),
        ("I have read {title} once more: now I would call it {value}.",),
        "What does {name} think of the novel {title} by now?",
        ADJECTIVES,
        about=NOVEL,
    ),
)
MET: Final = ("I got to know {friend} at the {place}.", "At the {place} I met somebody new, {friend}.")
FRIENDS: Final[tuple[tuple[str, str, tuple[str, ...] | str], ...]] = (
    (
        "{friend} has moved to {value}.",
        "In which town does the person live whom {name} got to know at the {place}?",
        TOWN,
    ),
    (
        "{friend} works as {a}, by the way.",
        "What is the job of the person whom {name} got to know at the {place}?",
        JOBS,
    ),
    (
        "{friend} plays the {value}, and rather well.",
        "Which instrument does the person play whom {name} got to know at the {place}?",
        INSTRUMENTS,
    ),
)
"""Sentences about a friend, the questions, which do not name the friend, and the values."""

REPLIES: Final = (
    *("How nice.", "I would not have thought that.", "Good for you!", "Tell me more when we meet.", "Really?"),
    *("That sounds like you.", "I see.", "Well, well.", "Lucky you.", "I am all ears.", "You do surprise me."),
)
SMALL_TALK: Final = (
    ("How did you sleep?", "Badly, the wind woke me at {hour}."),
    ("Is it raining where you are?", "It has been raining for {number} hours."),
    ("Did you watch the match?", "Only the last {number} minutes of it."),
    ("My bus was late again.", "Mine too, by {number} minutes."),
    ("The bread at the corner shop is getting smaller.", "And dearer: {number} cents more than last year."),
    ("I have a cold.", "Drink tea, it helps me every time."),
    ("What time is it at your place?", "Just after {hour}."),
    ("Are the neighbours still so loud?", "They were quiet for {number} days."),
    ("I cannot find my glasses.", "They are on your nose, as always."),
    ("How is the new sofa?", "Comfortable, but it squeaks."),
    ("The days are getting shorter.", "Yes, at {hour} it is dark already."),
    ("My telephone is nearly empty.", "Then I will be brief."),
    ("We should meet for coffee.", "Gladly, some day when it is warmer."),
    ("The lift is out of order again.", "So you climb {number} steps every day?"),
    ("Did you hear the thunder?", "It shook the windows for {number} minutes."),
    ("I have too much to do.", "So has everybody these days."),
    ("The post brought nothing but bills.", "I got {number} of them this month."),
    ("My knee hurts when the weather changes.", "You should see a doctor about it."),
)

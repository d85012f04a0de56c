"""Invented names for every kind of entity, such that no two splits can ever share a title."""

from __future__ import annotations

from collections.abc import Callable
from math import floor
from typing import ClassVar, Final

from atommem_gym.worlds.dice import Dice
from atommem_gym.worlds.synthetic.templates import PRODUCTS


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


SPLITS: Final = ("train", "validation", "test")
"""The splits of every generated world; no two share an invented name."""

FEMALE: Final = _words(
    "Adelis Amira Anouka Averil Benna Brisa Calla Cerys Corisande Dalia Delphie Elowen Emmeka Enid Farah Fenella "
    "Gwenda Halla Idony Ilse Imara Jorun Katla Lenka Liora Lisbet Maelis Mirel Nadja Nerys Odila Olwen Orla Petra "
    "Quilla Ragna Romola Sabeth Senna Sidra Solvei Tamsin Thessaly Una Velma Wilma Yesmin Zora"
)
MALE: Final = _words(
    "Abram Aldo Anselm Arvid Bastian Benedek Caspar Corin Davor Edric Emeric Evander Fabian Florin Garrick Gideon "
    "Hakon Hollis Ivo Jarek Jorah Kaspian Lambert Leif Linus Lorcan Magnus Marek Matthis Niall Oskar Otis Pavel "
    "Quentin Ranulf Rafi Rory Severin Silvan Stellan Tadeo Tavis Tobin Ulric Valdis Wendel Yorick Zoltan"
)
_STEMS: Final = _words("B Br C Ch D Dr F Fl G Gr H J K Kr L M N P Pr Qu R S Sk St T Th Tr V W Z")
_MIDDLES: Final = _words(
    "ad al an ar as ath av eb ed el em en er esk ev ib il im in ir iv ob od ol om on or osk ov ul um un ur"
)
_ENDINGS: Final[dict[str, tuple[str, ...]]] = {
    "person": _words("ett ick ane ard isco ant ello ay enko ini is berg sen strom well wright owski man quist"),
    "town": _words("bury bridge combe don ford gate hagen ham haven holm mere mouth ness port stead stow ton vik wick"),
    "region": _words("avia aria esia land mark moor onia ora shire ulia wold yria"),
    "river": _words("a ava e el en ow is oy une ey er ith"),
    "company": _words("adex ano ara eon exa ica ico idian onix ora ova ytex"),
    "institute": _words("gar hurst leigh more mont nor rose vale wyn ingdale lock croft"),
    "museum": _words("brook castle court cross grove hall hill house lodge march park well"),
}
_TRADES: Final = tuple(PRODUCTS)
_SCHOOLS: Final = ("University", "College", "Polytechnic", "Technical University", "Agricultural College")
_COLLECTIONS: Final = _words(
    "Glass Navigation Textiles Printing Clocks Cartography Ceramics Photography Toys Railways Astronomy Medicine"
)
_SECOND_WORDS: Final = {
    "company": _TRADES,
    "institute": _SCHOOLS,
    "museum": tuple(f"Museum of {collection}" for collection in _COLLECTIONS),
}
_ADJECTIVES: Final = _words(
    "Amber Bitter Borrowed Broken Burning Copper Crooked Distant Drowned Empty Fallen Forgotten Frozen Gilded "
    "Hidden Hollow Iron Ivory Last Long Lost Narrow Painted Pale Patient Quiet Restless Salted Second Secret "
    "Shattered Silent Silver Sleeping Stolen Tender Unlit Velvet Wandering White Wild Winter Wooden Yellow"
)
_NOUNS: Final = _words(
    "Anchor Archive Balcony Bell Bridge Candle Carousel Cathedral Compass Corridor Courtyard Ferry Fever Fountain "
    "Garden Harbour Harvest Horizon Island Journey Key Ladder Lantern Ledger Letter Lighthouse Meadow Mirror "
    "Mountain Orchard Parade Pilgrim Pavilion Promise Quarry River Road Season Shadow Shore Staircase Station "
    "Storm Tide Tower Valley Verdict Violin Visitor Voyage Waltz Window Witness"
)
_MAKERS: Final = _words(
    "Beekeeper Cartographer Clockmaker Cooper Falconer Ferryman Fisherman Gardener Glassblower Governess "
    "Innkeeper Librarian Locksmith Mason Midwife Miller Organist Piper Printer Saddler Schoolmaster Shepherd "
    "Surgeon Tailor Translator Watchman Weaver"
)
_CREATURES: Final = _words(
    "Badger Caravan Comet Crane Curlew Falcon Fox Gazelle Heron Jackdaw Kestrel Lynx Magpie Marten Meteor Moth "
    "Otter Owl Parliament Plover Satellite Sparrow Stag Starling Swift Thunder Tiger Whale"
)


class Names:
    """Makes the titles of one item's world, each at most once; ``like`` asks for one that shares a part with another.

    Parts are numbered, and a title's numbers add up to the split's position modulo three: every syllable occurs in
    every split, and no title in two.
    """

    def __init__(self, dice: Dice, split: str) -> None:
        self._dice = dice
        self._split = SPLITS.index(split)
        self._used: set[str] = set()

    def title(self, kind: str, like: str | None = None) -> str:
        """A new title for an entity of any kind except a person; with ``like`` it shares a part with that title."""
        attempts, make = 0, self._MAKERS_OF[kind]
        while True:
            attempts += 1
            # A beginning has few endings; when they are used up, the name resembles none.
            name = make(self, kind, like if attempts <= 4 else None)
            if name not in self._used:
                self._used.add(name)
                return name

    def person(self, female: bool, surname: str | None = None, given: str | None = None) -> tuple[str, str]:
        """A new given name and surname; each may be prescribed, to share it with another person."""
        attempts = 0
        while True:
            attempts += 1
            family = surname if surname is not None and attempts <= 20 else self._stem("person")
            first = given if given is not None and attempts <= 20 else self._dice.pick(FEMALE if female else MALE)
            key = f"{first} {family}"
            if key not in self._used:
                self._used.add(key)
                return first, family

    def _stem(self, kind: str, like: str | None = None) -> str:
        """A word of three parts; with ``like``, one that begins as ``like`` does and ends differently."""
        random, endings = self._dice.random, _ENDINGS[kind]
        a, b = floor(random() * len(_STEMS)), floor(random() * len(_MIDDLES))
        if like is not None:
            a, b = _parts(like, a, b)
        third = floor(random() * (len(endings) // 3)) * 3
        return _STEMS[a] + _MIDDLES[b] + endings[third + (self._split - a - b) % 3]

    def _river(self, kind: str, like: str | None) -> str:
        return "River " + self._stem(kind, like and like.removeprefix("River "))

    def _firm(self, kind: str, like: str | None) -> str:
        """Half of the look-alikes share the first word's beginning, half the rest of the name."""
        words = _SECOND_WORDS[kind]
        if like is None:
            return f"{self._stem(kind)} {self._dice.pick(words)}"
        first, rest = like.split(" ", 1)
        if self._dice.chance(0.5):
            return f"{self._stem(kind, first)} {self._dice.pick(words)}"
        return f"{self._stem(kind)} {rest}"

    def _pair(self, first: tuple[str, ...], second: tuple[str, ...], like: str | None) -> tuple[str, str]:
        """Two words whose numbers add up to the split; with ``like``, one of the two is taken from it if it occurs."""
        below = self._dice.below
        a, b = below(len(first)), below(len(second) // 3) * 3
        b += (self._split - a - b) % 3
        if like is not None:
            words = like.replace("'s", "").split()
            shared_a = next((w for w in words if w in first), None)
            shared_b = next((w for w in words if w in second), None)
            if shared_a is not None and (shared_b is None or self._dice.chance(0.5)):
                a = first.index(shared_a)
                b = below(len(second) // 3) * 3
                b += (self._split - a - b) % 3
            elif shared_b is not None:
                b = second.index(shared_b)
                a = below(len(first) // 3) * 3
                a += (self._split - a - b) % 3
        return first[a], second[b]

    def _film(self, kind: str, like: str | None) -> str:
        adjective, noun = self._pair(_ADJECTIVES, _NOUNS, like)
        return f"The {adjective} {noun}"

    def _novel(self, kind: str, like: str | None) -> str:
        maker, noun = self._pair(_MAKERS, _NOUNS, like)
        return f"The {maker}'s {noun}"

    def _band(self, kind: str, like: str | None) -> str:
        adjective, creature = self._pair(_ADJECTIVES, _CREATURES, like)
        return f"{adjective} {creature}"

    _MAKERS_OF: ClassVar[dict[str, Callable[[Names, str, str | None], str]]] = {
        "town": _stem,
        "region": _stem,
        "river": _river,
        "company": _firm,
        "institute": _firm,
        "museum": _firm,
        "film": _film,
        "novel": _novel,
        "band": _band,
    }


def _parts(name: str, a: int, b: int) -> tuple[int, int]:
    """The numbers of the first two parts of ``name``, or ``a`` and ``b`` if it has none such."""
    for i in range(len(_STEMS) - 1, -1, -1):
        if name.startswith(_STEMS[i]):
            rest = name[len(_STEMS[i]) :]
            for j in range(len(_MIDDLES) - 1, -1, -1):
                if rest.startswith(_MIDDLES[j]):
                    return i, j
    return a, b

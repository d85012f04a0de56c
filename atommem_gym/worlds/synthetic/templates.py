"""The sentences of the synthetic encyclopaedia, by kind and by the fact that they state.

``{s}`` is the subject at the beginning of a sentence (name, "She", "The company"), ``{p}`` its lower-case possessive,
``{name}`` its full name; any other field is a fact of the entity or a word chosen for it.
"""

from __future__ import annotations

from typing import Final

LEADS: Final[dict[str, tuple[tuple[tuple[str, ...], str], ...]]] = {
    "person": (
        (("born",), "{name} (born {born}) {was} {a_role}."),
        (("born",), "{name}, born in {born}, {was} {a_role}."),
        (("born",), "{name} {was} {a_role} who was born in {born}."),
        ((), "{name} {was} {a_role}, known chiefly for {flavour}."),
        ((), "{name} {was} {a_role} with a lifelong interest in {flavour}."),
    ),
    "town": (
        ((), "{name} is a town known for its {flavour}."),
        (("chartered",), "{name} is an old town that received its charter in {chartered}."),
        (("chartered",), "{name} is a town chartered in {chartered} and best known today for its {flavour}."),
        ((), "{name} is a town of narrow streets around its {flavour}."),
    ),
    "region": (
        ((), "{name} is a region of {flavour}."),
        ((), "{name} is a historical region whose landscape consists mostly of {flavour}."),
        ((), "{name}, a thinly settled region, is noted for its {flavour}."),
    ),
    "river": (
        ((), "{Name} is a river that is popular with {flavour}."),
        (("length",), "{Name} is a river {length} kilometres long."),
        (("length",), "{Name} is a slow river of {length} kilometres, frequented by {flavour}."),
    ),
    "company": (
        (("founded",), "{name} is a maker of {flavour} that was founded in {founded}."),
        (("founded", "founded_by"), "{name} is a company founded in {founded} by {founded_by}."),
        (("founded_by",), "{name} is a manufacturer of {flavour} established by the industrialist {founded_by}."),
        ((), "{name} is a privately held company that makes {flavour}."),
    ),
    "institute": (
        (("opened",), "{name} is a school of higher education that opened in {opened}."),
        ((), "{name} is a place of higher learning with a strong department of {flavour}."),
        (("opened",), "{name}, which opened its doors in {opened}, is known for its teaching of {flavour}."),
    ),
    "film": (
        (("released", "directed_by"), "{name} is a {released} {flavour} film directed by {directed_by}."),
        (("released",), "{name} is {a_flavour} film released in {released}."),
        (("directed_by",), "{name} is {a_flavour} film by the director {directed_by}."),
        (("released",), "{name} is a film of {released}, usually described as {a_flavour} picture."),
    ),
    "novel": (
        (("published", "written_by"), "{name} is a {published} novel by {written_by}."),
        (("published",), "{name} is {a_flavour} novel first published in {published}."),
        (("written_by",), "{name} is {a_flavour} novel by {written_by}."),
        ((), "{name} is {a_flavour} novel that has never been out of print."),
    ),
    "band": (
        (("formed",), "{name} is {a_flavour} band formed in {formed}."),
        ((), "{name} is {a_flavour} band with a small but loyal following."),
        (("formed",), "{name}, together since {formed}, is {a_flavour} band."),
    ),
    "museum": (
        (("inaugurated",), "{Name} was inaugurated in {inaugurated}."),
        (("designed_by",), "{Name} is housed in a building by the architect {designed_by}."),
        (("inaugurated", "designed_by"), "{Name}, inaugurated in {inaugurated}, was designed by {designed_by}."),
        ((), "{Name} is a public museum with {flavour}."),
    ),
}

FACTS: Final[dict[str, tuple[str, ...]]] = {
    "born": (
        "{s} was born in {born}.",
        "{s} came into the world in {born}, the youngest of several children.",
        "{s} was born in the spring of {born}.",
    ),
    "born_in": (
        "{s} was born in {born_in}.",
        "{s} came from {born_in}, where {p} parents had been born before.",
        "{s} was a native of {born_in}.",
        "{s} was born and baptised in {born_in}.",
        "{s} first saw the light of day in {born_in}.",
    ),
    "studied_at": (
        "{s} studied at {studied_at}.",
        "{s} took a degree at {studied_at}.",
        "{s} received {p} education at {studied_at}.",
        "{s} was a student of {studied_at} for four years.",
    ),
    "moved_to": (
        "{s} later moved to {moved_to}.",
        "{s} spent much of {p} adult life in {moved_to}.",
        "{s} settled in {moved_to} at the age of forty.",
        "{s} kept a house in {moved_to} in later years.",
    ),
    "spouse": (
        "{s} married {spouse}.",
        "{s} was married to {spouse}.",
        "{s} wed {spouse} after a long engagement.",
    ),
    "father": (
        "{s} was the {child} of {father}.",
        "{s} learned to read from {p} father, {father}.",
        "{s} took after {p} father, {father}.",
    ),
    "mother": (
        "{s} was the {child} of {mother}.",
        "{s} owed much to {p} mother, {mother}.",
        "{s} often wrote to {p} mother, {mother}.",
    ),
    "located_in": (
        "{s} lies in the region of {located_in}.",
        "{s} belongs to {located_in}.",
        "{s} is situated in the north of {located_in}.",
        "{s} is one of the older settlements of {located_in}.",
    ),
    "on_river": (
        "{s} stands on {on_river}.",
        "{s} grew up around a ford across {on_river}.",
        "{s} is built on both banks of {on_river}.",
    ),
    "population": (
        "{s} has a population of {population}.",
        "{s} had {population} inhabitants at the last census.",
        "{s} is home to {population} people.",
    ),
    "chartered": (
        "{s} received its town charter in {chartered}.",
        "{s} has held market rights since it was chartered in {chartered}.",
    ),
    "capital": (
        "{s} has its capital at {capital}.",
        "{s} is governed from its capital, {capital}.",
        "{s} chose {capital} as its capital after a long dispute.",
    ),
    "rises_in": (
        "{s} rises in {rises_in}.",
        "{s} has its source in the hills of {rises_in}.",
        "{s} springs from a bog in {rises_in}.",
    ),
    "length": (
        "{s} is {length} kilometres long.",
        "{s} covers {length} kilometres from source to mouth.",
    ),
    "head_office": (
        "{s} has its head office in {head_office}.",
        "{s} is run from a head office in {head_office}.",
        "{s} keeps its headquarters in {head_office}.",
        "{s} is headquartered in {head_office}.",
    ),
    "factory_in": (
        "{s} runs a factory in {factory_in}.",
        "{s} opened a second plant in {factory_in}.",
        "{s} moved its production to {factory_in}.",
    ),
    "founded_by": (
        "{s} was founded by {founded_by}.",
        "{s} was set up by {founded_by} with borrowed money.",
        "{s} owes its existence to its founder, {founded_by}.",
    ),
    "founded": (
        "{s} was founded in {founded}.",
        "{s} was entered in the trade register in {founded}, the year of its foundation.",
        "{s} dates from {founded}.",
    ),
    "seated_in": (
        "{s} is located in {seated_in}.",
        "{s} has its campus in {seated_in}.",
        "{s} occupies a former monastery in {seated_in}.",
    ),
    "students": (
        "{s} has {students} students.",
        "{s} enrols {students} students in a typical year.",
    ),
    "opened": (
        "{s} opened in {opened}.",
        "{s} admitted its first students in {opened}, the year in which it opened.",
    ),
    "directed_by": (
        "{s} was directed by {directed_by}.",
        "{s} was made under the direction of {directed_by}.",
        "{s} had {directed_by} as its director.",
    ),
    "released": (
        "{s} was released in {released}.",
        "{s} reached the cinemas in {released}.",
    ),
    "based_on": (
        "{s} is based on the novel {based_on}.",
        "{s} was adapted from the novel {based_on}.",
        "{s} follows the plot of the novel {based_on} rather closely.",
    ),
    "shot_in": (
        "{s} was shot in {shot_in}.",
        "{s} was filmed almost entirely in {shot_in}.",
        "{s} was shot on location in {shot_in} within five weeks.",
    ),
    "premiered_in": (
        "{s} had its first showing in {premiered_in}.",
        "{s} premiered at a small festival in {premiered_in}.",
    ),
    "running_time": ("{s} runs for {running_time} minutes.", "{s} has a running time of {running_time} minutes."),
    "written_by": (
        "{s} was written by {written_by}.",
        "{s} came from the pen of {written_by}.",
        "{s} is the work of {written_by}.",
    ),
    "published": (
        "{s} was published in {published}.",
        "{s} appeared in print in {published}.",
        "{s} first came out in {published}.",
    ),
    "set_in": (
        "{s} is set in {set_in}.",
        "{s} has {set_in} as its setting.",
        "{s} takes place in {set_in} over a single winter.",
    ),
    "pages": ("{s} runs to {pages} pages in its first edition.", "{s} fills {pages} pages."),
    "formed_in": (
        "{s} was formed in {formed_in}.",
        "{s} started out in {formed_in}.",
        "{s} got together in {formed_in}.",
    ),
    "formed": (
        "{s} was formed in {formed}.",
        "{s} gave its first concert in {formed}, the year in which it was formed.",
    ),
    "members": (
        "{s} consists of {members}.",
        "{s} has had the same line-up throughout: {members}.",
        "{s} is made up of {members}.",
    ),
    "stands_in": (
        "{s} stands in {stands_in}.",
        "{s} is situated in {stands_in}.",
        "{s} can be found in the centre of {stands_in}.",
    ),
    "designed_by": (
        "{s} was designed by {designed_by}.",
        "{s} was built to plans by {designed_by}.",
        "{s} is a design of {designed_by}.",
    ),
    "inaugurated": (
        "{s} was inaugurated in {inaugurated}.",
        "{s} received its first visitors in {inaugurated}, when it was inaugurated.",
    ),
}

DETAILS: Final[dict[str, tuple[str, ...]]] = {
    "person": (
        "{s} disliked speaking in public.",
        "{s} spoke {n} languages.",
        "{s} is said to have walked {n} miles every morning.",
        "{s} filled {n} notebooks, none of which has been published.",
        "{s} was fond of chess and of strong coffee.",
        "{s} declined {n} invitations to lecture abroad.",
        "Friends remembered {p} dry sense of humour.",
        "{s} never learned to drive a car.",
        "{s} suffered from poor eyesight.",
        "A portrait from {p} youth is in private hands.",
        "{s} signed letters with a drawing of a bird.",
        "Much of {p} correspondence was lost in a fire.",
        "A street and a small park bear {p} name.",
        "{s} gave up {p} profession twice and returned to it both times.",
    ),
    "town": (
        "{s} has a weekly market with some {n} dozen stalls.",
        "{s} lost part of its walls in a fire.",
        "A local legend tells of {n} sisters who saved the bells.",
        "Its railway station closed for {n} years and was then reopened.",
        "The old town hall now houses a library.",
        "{s} holds a lantern procession every autumn.",
        "Most visitors arrive on day trips.",
        "{s} is twinned with {n} places abroad.",
        "A stone bridge with {n} arches leads to the market square.",
        "{s} has a theatre with {n} hundred seats.",
        "The local football club plays in green and white.",
    ),
    "region": (
        "{s} has {n} nature reserves.",
        "Its dialect is still spoken by older inhabitants.",
        "{s} is among the sunniest regions of the country.",
        "Sheep outnumber people {n} to one.",
        "The roads are often closed in winter.",
        "{s} exports cheese, wool and slate.",
        "Its coat of arms shows {n} birds on a blue ground.",
    ),
    "river": (
        "{s} is crossed by {n} bridges of historical interest.",
        "{s} floods its meadows almost every spring.",
        "A ferry crosses it at {n} places.",
        "A towpath follows it for most of the way.",
        "Trout returned to its upper course after the mills had closed.",
        "{s} is navigable for small boats only.",
        "It once drove {n} dozen watermills.",
        "Otters can be seen along its lower course.",
    ),
    "company": (
        "{s} has been profitable in all but {n} years.",
        "Its catalogue once listed {n} hundred articles.",
        "{s} survived a bitter strike that lasted {n} weeks.",
        "{s} sponsors a rowing club.",
        "{s} employs some {n} hundred people.",
        "{s} holds {n} dozen patents.",
        "The shares have never been traded in public.",
        "{s} exports to {n} countries.",
        "Its blue logo is still drawn by hand.",
    ),
    "institute": (
        "{s} owns a botanical garden.",
        "{s} runs an observatory on a nearby hill.",
        "Its oldest lecture hall seats {n} hundred.",
        "Its library holds {n} medieval manuscripts.",
        "{s} has {n} faculties.",
        "The rowing team wears green.",
        "A bell is rung at the start of every term.",
        "{s} charged no fees in its first {n} years.",
    ),
    "film": (
        "{s} was made on a tiny budget.",
        "{s} was banned for {n} years in some cities.",
        "The leading role was recast {n} times.",
        "Critics were divided, and audiences stayed away.",
        "{s} won {n} prizes at festivals.",
        "Only {n} prints are known to survive.",
        "The score was recorded in a single night.",
        "One scene needed {n} hundred extras.",
        "{s} has since become a favourite of film clubs.",
    ),
    "novel": (
        "{s} has been translated into {n} languages.",
        "{s} was rejected by {n} publishers.",
        "The story is told by {n} different narrators.",
        "Reviewers praised its dialogue and disliked its ending.",
        "{s} sold poorly at first.",
        "{s} was set as a school text for {n} years.",
        "The last chapter was rewritten {n} times.",
        "An unfinished sequel was found among the author's papers.",
    ),
    "band": (
        "{s} has released {n} albums.",
        "{s} tours in an old fire engine.",
        "{s} has played at {n} festivals abroad.",
        "{s} takes its name from a children's book.",
        "The debut album was recorded in {n} days.",
        "Its songs are mostly about the weather.",
        "{s} broke up twice, each time for less than a year.",
        "A live recording sold out within {n} weeks.",
    ),
    "museum": (
        "{s} is closed on Mondays.",
        "{s} employs {n} restorers.",
        "A café occupies the former gatehouse.",
        "{s} shows about {n} hundred objects at a time.",
        "Its roof was renewed after a storm.",
        "Admission is free for children.",
        "{s} has a reading room with {n} desks.",
        "The founding collection came from a retired sea captain.",
    ),
}

FLAVOURS: Final[dict[str, tuple[str, ...]]] = {
    "person": (
        "letter writing",
        "mountain walks",
        "old maps",
        "amateur astronomy",
        "beekeeping",
        "folk songs",
        "sailing",
    ),
    "town": ("covered market", "salt works", "clock tower", "annual book fair", "brick granaries", "thermal baths"),
    "region": ("moors and low hills", "lakes and birch woods", "vineyards", "limestone plateaus", "salt marshes"),
    "river": ("anglers", "canoeists", "bird watchers", "painters", "long-distance walkers"),
    "institute": ("forestry", "surveying", "law", "mathematics", "veterinary medicine", "music", "hydraulics"),
    "film": ("drama", "comedy", "crime", "adventure", "mystery", "musical", "war", "romance", "science fiction"),
    "novel": ("historical", "comic", "coming-of-age", "detective", "satirical", "family"),
    "band": ("folk", "jazz", "post-punk", "chamber pop", "surf rock", "blues"),
    "museum": ("rooms on three floors", "a workshop for schools", "an unusual spiral hall", "a glass-roofed courtyard"),
}

COMMON_NOUN: Final[dict[str, str]] = {
    "town": "The town",
    "region": "The region",
    "river": "The river",
    "company": "The company",
    "institute": "The school",
    "film": "The film",
    "novel": "The book",
    "band": "The band",
    "museum": "The museum",
}

PRODUCTS: Final[dict[str, str]] = {
    "Optics": "lenses",
    "Instruments": "measuring devices",
    "Textiles": "upholstery fabrics",
    "Ceramics": "floor tiles",
    "Foods": "preserves",
    "Engineering": "farm machinery",
    "Motors": "motorcycles",
    "Paper": "writing paper",
    "Glassworks": "bottles",
    "Chemicals": "dyes",
    "Clocks": "alarm clocks",
    "Pianos": "upright pianos",
    "Timber": "plywood",
    "Bicycles": "bicycles",
    "Pens": "fountain pens",
    "Lamps": "desk lamps",
}
"""What a company makes, by the last word of its name."""

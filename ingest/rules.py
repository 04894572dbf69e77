"""The rules that a row is held to: each has a name that stays, what it asks for, and what to do where it is broken."""

from enum import StrEnum


class Rule(StrEnum):
    """A rule, and its name in reports and in quarantine."""

    asks: str
    """What every row has to be, as a sentence."""
    advice: str
    """The next step when rows are not."""

    def __new__(cls, name: str, asks: str, advice: str) -> "Rule":
        rule = str.__new__(cls, name)
        rule._value_ = name
        rule.asks = asks
        rule.advice = advice
        return rule

    ENCODING = (
        "encoding",
        "every byte is of the encoding that the mapping says",
        "say encoding: latin-1, cp1252 … in the mapping, or convert the file with iconv -t utf-8",
    )
    MALFORMED = (
        "malformed",
        "the line is a row of the file's format, with as many fields as the header",
        "look at this line of the file: a quote left open, a delimiter inside a field, or a line cut short",
    )
    EMPTY = (
        "empty",
        "a field that says who, what or when is not empty",
        "fill it in at the source; where a text stands for nothing, name it under missing: in the mapping",
    )
    KEY_FORM = (
        "key-form",
        "an id or a name has the characters and the length that keys have",
        "see whether the mapping names the right column and delimiter; else rename it at the source",
    )
    UNKNOWN_TYPE = (
        "unknown-type",
        "an event's type is one that the mapping maps",
        "add it under type: values: in the mapping",
    )
    UNKNOWN_RELATION = (
        "unknown-relation",
        "a triple's relation is one that the mapping maps",
        "add it under relations: in the mapping, or leave it out on purpose: such rows do no harm",
    )
    NOT_AN_INSTANT = (
        "not-an-instant",
        "a time is of the format that the mapping says",
        "say format: seconds, milliseconds, iso or a pattern such as '%d/%m/%Y %H:%M' in the mapping",
    )
    NO_SUCH_TIME = (
        "no-such-time",
        "a local time exists in its zone: where clocks are put forward an hour does not",
        "see whether zone: in the mapping is the export's; times in UTC have no such gap",
    )
    TOO_EARLY = (
        "too-early",
        "a time is not before the earliest that the mapping says",
        "it may be a default such as 1970-01-01 that means unknown; if it is right, give an earlier earliest:",
    )
    IN_THE_FUTURE = (
        "in-the-future",
        "an event has happened when it is read, give or take a day",
        "see whether format: and zone: in the mapping are the export's, and the clock of the source",
    )
    NOT_A_NUMBER = (
        "not-a-number",
        "a number is a finite number, and an order a whole number of 64 bits",
        "see whether the mapping names the right column; write 4.5, not 4,5; name what means nothing under missing:",
    )
    OFF_SCALE = (
        "off-scale",
        "a value is within the scale that the mapping says",
        "see whether scale: in the mapping is the platform's; a value beyond it was meant on another scale",
    )
    UNKNOWN_ITEM = (
        "unknown-item",
        "an item that a row points at is in the catalogue, of this run or an earlier one",
        "add the item to the catalogue and read it; isthmus quarantine retry then takes the row",
    )
    UNLINKED = (
        "unlinked",
        "a triple touches an item of the platform",
        "add the id to the mapping's links, or leave it out on purpose: such rows do no harm",
    )
    ITSELF = (
        "itself",
        "nothing follows, requires or goes with itself",
        "see whether the mapping names two different columns; else leave it out on purpose: such rows do no harm",
    )
    NO_IDENTITY = (
        "no-identity",
        "a mail address or telephone number is one, or a hash of one in hexadecimal",
        "see whether the mapping names the right column; what stands for none is named under missing: in the mapping",
    )
    ERASED = (
        "erased",
        "nobody comes back who was erased",
        "nothing: the person asked to be forgotten; remove them from the export at its source",
    )
    CONTRADICTS_PERSON = (
        "contradicts-person",
        "an account belongs to one person",
        "find out which row is right and remove the other from the identity table; the first was taken",
    )
    CONTRADICTS_LINK = (
        "contradicts-link",
        "an id of the knowledge base is one item",
        "find out which row is right and remove the other from the links; the first was taken",
    )
    CONTRADICTS_ITEM = (
        "contradicts-item",
        "two rows of one run say the same of an item, or different things of different fields",
        "find out which row is right and remove the other from the catalogue; the first was taken",
    )
    CONTRADICTS_EVENT = (
        "contradicts-event",
        "an event that is told again is told with the same account, item, time and value",
        "find out which is right; the first stays. Where both happened, give each an id or a sequence of its own",
    )

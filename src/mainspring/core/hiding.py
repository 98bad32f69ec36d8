"""Values that look personal, taken out of sentences that people and logs get: e-mail addresses, IBANs, card and phone
numbers. What a column holds is judged elsewhere; here a value tells by itself."""

from __future__ import annotations

import re
from itertools import cycle

_EMAIL = re.compile(
    r"(//[^\s/?#'\"]{1,300}@|(?<![\w.+/@-])git@)"
    r"|(?<![\w.+/@-])[\w.+-]{1,64}@[\w-]+\.[\w.-]{0,250}[A-Za-z]{2,24}(?![\w-])"
)
"""The first group is no person's: who asks, in an address, and the account by which git is served."""
_IBAN = re.compile(r"(?<![A-Za-z0-9])[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?(?![A-Za-z0-9])")
_CARD = re.compile(
    r"(?<!\d)(?<![\dA-Fa-f][A-Fa-f])(?<!\d\.)"
    r"(?:\d{4}([ -]?)\d{4}\1\d{4}\1\d{4}|\d{4}([ -]?)\d{6}\2\d{4,5})(?![\dA-Fa-f]|\.(?!0\b)\d)"
)
"""In groups as they stand on cards, or in one; neither a part of a digest nor of a fraction."""
_PHONE = re.compile(r"(?<![\w+])(?<!:\d\d )\+[1-9][\d ()./-]{6,18}\d(?!\d)")
"""What follows a time of day is its offset."""
_CARDS = re.compile(
    r"4\d{15}|5[1-5]\d{14}|2(?:22[1-9]|2[3-9]\d|[3-6]\d\d|7[01]\d|720)\d{12}|3[47]\d{13}|6(?:011|4[4-9]\d|5\d\d)\d{12}"
    r"|35(?:2[89]|[3-8]\d)\d{12}|3(?:0[0-5]|[68]\d)\d{11}|62\d{14}"
)
"""Visa, Mastercard, American Express, Discover, JCB, Diners Club and UnionPay."""
_IBANS = re.compile(r"[A-Z]{2}\d{2}[A-Z0-9]{11,30}")


def hidden(text: str) -> str:
    """*text* with the kind in the place of each value that looks personal; the user of an address stays.

    >>> hidden("'anna@example.org' of row 3, +49 170 1234567, is no number; see s3://me@host.org/a.csv")
    "'<e-mail address>' of row 3, <phone number>, is no number; see s3://me@host.org/a.csv"
    >>> hidden("mailto:anna@example.org, postgresql://me:word@host.org/a, at 10:00 +0000 2026-11-24")
    'mailto:<e-mail address>, postgresql://me:word@host.org/a, at 10:00 +0000 2026-11-24'
    >>> hidden("card 4111 1111 1111 1111, not 4111 1111 1111 1112, of DE89370400440532013000")
    'card <card number>, not 4111 1111 1111 1112, of <IBAN>'
    >>> hidden("git@github.com:house/works.git at 10:00:00 +1000 2026-11-24, mail to anna@mail.example.co.uk")
    'git@github.com:house/works.git at 10:00:00 +1000 2026-11-24, mail to <e-mail address>'
    """
    if "@" in text:
        text = _EMAIL.sub(lambda found: found[1] or "<e-mail address>", text)
    text = _IBAN.sub(lambda found: "<IBAN>" if is_iban(found[0]) else found[0], text)
    text = _CARD.sub(lambda found: "<card number>" if is_card(found[0]) else found[0], text)
    return _PHONE.sub("<phone number>", text) if "+" in text else text


def is_iban(text: str) -> bool:
    """Whether *text* is an IBAN, by its checksum."""
    plain = text.replace(" ", "").upper()
    if not _IBANS.fullmatch(plain):
        return False
    return int("".join(str(int(sign, 36)) for sign in plain[4:] + plain[:4])) % 97 == 1


def is_card(text: str) -> bool:
    """Whether *text* is the number of a payment card, by its check digit."""
    plain = text.replace(" ", "").replace("-", "")
    return _CARDS.fullmatch(plain) is not None and luhn(plain)


def luhn(digits: str) -> bool:
    """Whether the check digit at the end of *digits* is theirs.

    >>> luhn("4111111111111111"), luhn("4111111111111112")
    (True, False)
    """
    doubled = [int(digit) * weight for digit, weight in zip(reversed(digits), cycle((1, 2)), strict=False)]
    return sum(number - 9 if number > 9 else number for number in doubled) % 10 == 0

"""What is printed or stored for people: short, and without secrets such as a password in a URI."""

from __future__ import annotations

import re

_HIDDEN = "***"
_LONGEST = 4000
# scheme://user:password@host; the password ends at the last @ of the word, for people forget to escape theirs: rather
# too much is hidden than too little. A user without a password is no secret.
_URI_PASSWORD = re.compile(r"(?P<before>[A-Za-z][A-Za-z0-9+.-]*://[^\s:/@?#]*:)(?P<secret>[^\s'\"]*)(?=@)")
_QUERY_SECRET = re.compile(
    r"(?P<before>[?&;](?:password|secret|token|tlsCertificateKeyFilePassword|sslpassword|key)=)[^&\s;'\"]+",
    re.IGNORECASE,
)
_MECHANISM = re.compile(r"(?P<before>AWS_SESSION_TOKEN:)[^&,\s'\"]+")


def redact(text: object) -> str:
    """The text (or anything, as text) with the passwords of URIs in it replaced by `***`."""
    shown = str(text)
    for pattern in (_URI_PASSWORD, _QUERY_SECRET, _MECHANISM):
        shown = pattern.sub(rf"\g<before>{_HIDDEN}", shown)
    return shown


def shortened(text: str) -> str:
    """Its beginning and its end: an error can be as long as the data, and has to fit into a row."""
    if len(text) <= _LONGEST:
        return text
    half = _LONGEST // 2
    return f"{text[:half]}\n… {len(text) - 2 * half} characters left out …\n{text[-half:]}"

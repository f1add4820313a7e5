"""The models themselves, and whether anybody follows their rows."""

from __future__ import annotations

from collections.abc import Iterator

from refitd.checks.check import Check, bad, doubtful, good
from refitd.session import Session
from refitd.standing import following, survey
from registry.errors import RefitdError
from registry.owner import short


def model_checks(session: Session) -> Iterator[Check]:
    """The daemon, the artifacts, and each model that somebody should look at."""
    row = following(session.store)
    if row is None:
        yield doubtful("daemon", "nobody follows this datastore now", "refitd run")
    else:
        yield good("daemon", f"{short(row.owner)} follows {row.id}")
    yield _artifacts(session)
    standings = survey(session.store, session.trust)
    wrong = [one for one in standings if one.wrong]
    for one in wrong:
        said = (one.error or "").strip().splitlines()
        yield bad(f"model {one.model}", f"{one.state}: {said[0] if said else ''}", f"refitd why {one.model}")
    if not wrong:
        yield good("models", f"{len(standings)}, none failing or invalid")


def _artifacts(session: Session) -> Check:
    where = session.settings.artifacts or "the datastore"
    try:
        sizes = session.store.artifacts.all()
    except (RefitdError, OSError, ValueError, ImportError) as error:
        return bad("artifacts", f"{where}: {error}", "make the place of REFITD_ARTIFACTS readable, or correct it")
    return good("artifacts", f"{len(sizes)} in {where}, {sum(sizes.values()) / 1e6:.1f} MB")

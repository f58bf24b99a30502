"""What callers already have: entity tags of run ids, written and read as HTTP wants them."""

import re

_TAG = re.compile(r'(?:W/)?"([^"]*)"')


class AnyTag:
    """Contains everything: the caller has some version of what it asks for, and any will do."""

    def __contains__(self, tag: object) -> bool:
        return True


def entity_tag(run_id: str) -> str:
    """Return the strong entity tag of what a run has written."""
    return f'"{run_id}"'


def known_runs(if_none_match: str) -> frozenset[str] | AnyTag:
    """Return the runs that an If-None-Match header lists, weak tags and strong ones alike."""
    return AnyTag() if if_none_match.strip() == "*" else frozenset(_TAG.findall(if_none_match))

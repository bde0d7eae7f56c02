"""Whether the keys of two sources can be equal."""

from __future__ import annotations


def keys_may_meet(one: str, other: str) -> bool:
    """
    Return whether two source ids could give two records the same key.

    ``uk`` and id ``15`` hash as ``uk1`` and id ``5`` do: nothing separates the parts.
    ``uk`` and ``uk-2`` do not meet by an id of Ometria, which never begins with a dash. An email
    address may, so that rows are matched by their source as well as by their key.
    """
    shorter, longer = sorted((one, other), key=len)
    return longer.startswith(shorter) and longer[len(shorter) : len(shorter) + 1].isalnum()

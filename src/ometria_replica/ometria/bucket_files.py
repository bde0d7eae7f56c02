"""The files of a feed that is a bucket: lists them, and reads the version that was listed."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ometria_replica.ometria.bucket import Answer
from ometria_replica.ometria.file_names import to_text
from ometria_replica.ometria.odd_keys import DOTS, OddKeys, RequestError, has_dots
from ometria_replica.ometria.refusals import CHANGED, GONE, MovedOn, NotGiven
from ometria_replica.records import FeedObject

if TYPE_CHECKING:
    from collections.abc import Iterator

    from obstore import GetOptions, GetResult, ObjectMeta

    from ometria_replica.ometria.bucket import Bucket

LISTED_AT_ONCE = 1000  # S3's own page.
PART = 64 << 20  # Bytes per request, so that a request can have a time limit.
PIECE = 16 << 10  # Bytes after which a download checks whether it was cancelled.


@dataclass
class BucketFiles:
    """The files below the prefix of *bucket*."""

    bucket: Bucket

    @property
    def place(self) -> str:
        """Name the bucket in messages."""
        return self.bucket.place

    @property
    def warning(self) -> str | None:
        """What is unsafe about the way to the bucket; None if nothing is."""
        return self.bucket.warning

    @property
    def _odd_keys(self) -> OddKeys:
        if self.bucket.odd_keys is None:
            raise LookupError("not a bucket")
        return self.bucket.odd_keys

    def list(self, start_after: str | None = None) -> Iterator[FeedObject]:
        """Yield the files after the name *start_after*, in the order of their bytes."""
        from obstore.exceptions import BaseError  # noqa: PLC0415 -- 30 ms.

        try:
            yield from self._listed(start_after)
        except (BaseError, RequestError, OSError) as error:
            raise self.bucket.refusal(error, "listing its files") from None

    def _listed(self, start_after: str | None) -> Iterator[FeedObject]:
        from obstore.exceptions import InvalidPathError  # noqa: PLC0415 -- As above.

        odd, last = self._odd_keys, start_after
        if not odd.has(last or "any"):
            with suppress(InvalidPathError):  # The driver drops the whole page for it.
                for chunk in self.bucket.store.list(offset=last, chunk_size=LISTED_AT_ONCE):
                    for found in map(_object, chunk):
                        yield found
                        last = found.name
                return
        yield from odd.list(last)

    def pieces(self, origin: FeedObject) -> Iterator[bytes]:
        """
        Yield the object in pieces.

        Raises MovedOn unless it is the version that was listed, NotGiven if the store does not
        give this one, and the error of a store that gives none.
        """
        if has_dots(origin.name):
            raise NotGiven(DOTS)
        is_begun = False
        try:
            for piece in self._version(origin):
                is_begun = True
                yield piece
        except MovedOn as moved:
            if is_begun:
                raise
            try:  # The driver drops a slash at the end of a key.
                yield from self._version(replace(origin, name=f"{origin.name}/"))
            except (MovedOn, NotGiven):
                raise moved from None

    def _version(self, origin: FeedObject) -> Iterator[bytes]:
        from obstore.exceptions import BaseError  # noqa: PLC0415 -- As above.

        size = 0
        try:
            for piece in self._pieces(origin):
                size += len(piece)
                yield piece
        except FileNotFoundError:
            raise MovedOn(GONE) from None
        except (BaseError, RequestError) as error:
            raise self._failure(error, origin) from None
        if size != origin.size:
            raise MovedOn(CHANGED)

    def _pieces(self, origin: FeedObject) -> Iterator[bytes]:
        if self._odd_keys.has(origin.name) or origin.name.endswith("/"):
            yield from self._odd_keys.pieces(origin)
            return
        for start in range(0, origin.size, PART):
            part = (start, min(start + PART, origin.size))
            found = self._get(origin) if origin.size <= PART else self._get(origin, part)
            yield from found.stream(min_chunk_size=PIECE)

    def _get(self, origin: FeedObject, part: tuple[int, int] | None = None) -> GetResult:
        options: GetOptions = {"if_match": origin.etag or None}
        if part is not None:
            options["range"] = part
        found = self.bucket.store.get(origin.name, options=options)
        # Not every store supports If-Match; without ETags, the size is compared.
        if ((found.meta["e_tag"] or ""), found.meta["size"]) != (origin.etag, origin.size):
            raise MovedOn(CHANGED)
        return found

    def _failure(self, error: Exception, origin: FeedObject) -> Exception:
        answer = Answer.of(error)
        if answer.status == "412":
            return MovedOn(CHANGED)
        if answer.status == "404" and not answer.concerns_all:
            return MovedOn(GONE)
        refusal = self.bucket.refusal(error, f"reading {origin.name}")
        if answer.concerns_all:
            return refusal
        return NotGiven(answer.reason, refusal if answer.may_concern_all else None)


def _object(meta: ObjectMeta) -> FeedObject:
    name = to_text(meta["path"].encode())
    return FeedObject(name, meta["e_tag"] or "", meta["size"], meta["last_modified"])

"""The reads of what the shop pushed: orders, products, contacts, custom events, push errors."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, Any

from ometria_simulator import push_errors
from ometria_simulator.paging import HttpError
from ometria_simulator.shapes import Shape

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ometria_simulator.account import Account
    from ometria_simulator.paging import Paging, Query
    from ometria_simulator.quirks import Endpoint, Quirks
    from ometria_simulator.records import Json, Record
    from ometria_simulator.shop_records import Contact, Order

NOT_FOUND = "Not Found"


class ShopReads:
    """Responds to the reads of the shop of one account; the caller holds its lock."""

    def __init__(self, account: Account, quirks: Quirks, paging: Paging) -> None:
        """Respond for *account*, with the behaviour of *quirks*."""
        self._account = account
        self._shop = account.shop
        self._quirks = quirks
        self._paging = paging
        self._version: object = None
        self._found: dict[tuple[str, ...], list[Any]] = {}

    def orders(self, query: Query) -> list[Json]:
        """Return a page of orders."""
        page = self._page("orders", query, lambda: self._shop.orders)
        return [self._order(order) for order in page]

    def order(self, order_id: str) -> Record:
        """Return one order. Raises HttpError 404."""
        try:
            return self._order(self._shop.order(order_id))
        except KeyError:
            raise HttpError(404, NOT_FOUND) from None

    def products(self, query: Query) -> list[Json]:
        """Return a page of products: the active ones, the others, or both."""
        active = query.get("active")
        if active not in {None, "true", "false"}:
            raise HttpError(400, f"Invalid active: {active}")

        def found() -> list[Any]:
            return [
                product
                for product in self._shop.products
                if active is None or product.is_active == (active == "true")
            ]

        return [product.record() for product in self._page("products", query, found, active or "")]

    def product(self, product_id: str) -> Record:
        """Return one product. Raises HttpError 404."""
        try:
            return self._account.state.shop.products[product_id].record()
        except KeyError:
            raise HttpError(404, NOT_FOUND) from None

    def collections(self, query: Query) -> list[Json]:
        """Return a page of collections, with the numbers of their contacts."""
        counts = self._paging.ordered("collections", list(self._shop.collections.items()))
        page = self._paging.page("collections", counts, query)
        return [{"collection": name, "count": count} for name, count in page]

    def contacts(self, collection: str, query: Query) -> list[Json]:
        """Return a page of the contacts of a collection. Raises HttpError 404."""
        shape = self._shape("contacts")
        return [
            contact.record(shape)
            for contact in self._page(
                "contacts", query, lambda: self._contacts(collection), collection
            )
        ]

    def contact(self, collection: str, contact_id: str) -> Record:
        """Return one contact of a collection. Raises HttpError 404."""
        for contact in self._contacts(collection):
            if contact.id == contact_id:
                return contact.record(self._shape("contacts"))
        raise HttpError(404, NOT_FOUND)

    def custom_events(self, query: Query) -> list[Json]:
        """Return a page of custom events."""
        self._paging.by_update(query, "custom-events")
        # The internal order is that of their times, and so is that of their updates.
        events = self._kept(
            ("custom-events",),
            lambda: self._paging.ordered("custom-events", self._shop.custom_events),
        )
        page = self._paging.page("custom-events", events, query)
        return [event.record(self._shape("custom-events")) for event in page]

    def push_errors(self, query: Query) -> list[Json]:
        """Return the 100 newest push errors, newest first."""
        errors = self._paging.ordered("push-errors", push_errors.newest(self._account.state))
        page = self._paging.page("push-errors", errors, query)
        return [error.record(self._shape("push-errors")) for error in page]

    def _order(self, order: Order) -> Record:
        return self._shop.order_record(order, self._shape("orders"))

    def _contacts(self, collection: str) -> list[Contact]:
        if collection not in self._account.state.shop.collections:
            raise HttpError(404, NOT_FOUND)
        return self._shop.contacts(collection)

    def _shape(self, endpoint: Endpoint) -> Shape:
        quirks = self._quirks
        return Shape(
            quirks.timestamp_forms.get(endpoint, "iso"),
            quirks.money_form,
            quirks.line_items_name,
            quirks.order_customer_id,
        )

    def _page(
        self,
        endpoint: Endpoint,
        query: Query,
        find: Callable[[], list[Any]],
        *kinds: str,
    ) -> Sequence[Any]:
        """Return a page of objects with update times."""
        since = self._paging.updated_since(query, endpoint)
        by_update = self._paging.by_update(query, endpoint)

        def selected() -> list[Any]:
            items = find()
            if since is not None:
                items = [item for item in items if item.updated_at >= since]
            if by_update:
                items.sort(key=attrgetter("updated_at", "update_sequence"))
            return self._paging.ordered(endpoint, items)

        items = self._kept((endpoint, *kinds, str(since), str(by_update)), selected)
        return self._paging.page(endpoint, items, query)

    def _kept(self, key: tuple[str, ...], find: Callable[[], list[Any]]) -> list[Any]:
        """Return the objects of *key*, which are found again only if the account has changed."""
        state = self._account.state
        version = (state.version, state.shop.version, state.now)
        if self._version != version:
            self._version, self._found = version, {}
        if key not in self._found:
            self._found[key] = find()
        return self._found[key]

"""What the shop pushed to Ometria, which tests can change while a reader reads it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from ometria_simulator import (
    catalogue,
    contacts,
    order_records,
    orders,
    push_errors,
    shop_passes,
)
from ometria_simulator.shapes import SHAPE, Shape, pence_of
from ometria_simulator.shop_records import Contact, CustomEvent, Order, Product, PushError

if TYPE_CHECKING:
    from datetime import datetime
    from threading import RLock

    from ometria_simulator.records import Absent, Json, Record
    from ometria_simulator.state import State


class Shop:
    """
    The orders, products, contacts, custom events and push errors of an account.

    It shares the state and the lock of its account, and like it returns copies.
    """

    def __init__(self, state: State, lock: RLock) -> None:
        """Belong to the account with this state."""
        self._state = state
        self._lock = lock

    # Orders

    @property
    def _placed(self) -> State:
        """The state with all orders of the history."""
        orders.place_history(self._state)
        return self._state

    @property
    def orders(self) -> list[Order]:
        """All orders, invalid ones too, in internal order."""
        with self._lock:
            return list(self._placed.shop.orders.values())

    def orders_of(self, profile_id: str) -> list[Order]:
        """Return the orders that the ``stats`` of a profile count."""
        with self._lock:
            return orders.orders_of(self._placed, profile_id)

    def order(self, order_id: str) -> Order:
        """Return an order; KeyError if it does not exist or was deleted."""
        with self._lock:
            return self._placed.shop.orders[order_id]

    def order_record(self, order: Order, shape: Shape = SHAPE) -> Record:
        """Return the object that ``GET /orders`` shows, with its line items."""
        return order_records.record(self._state.shop, order, shape)

    def add_order(
        self,
        id: str | None = None,  # noqa: A002 -- Ometria's own word
        *,
        profile_id: str | None = None,
        at: datetime | None = None,
        grand_total: float | str = 20,
        quantity: int = 1,
        is_valid: bool = True,
        status: str = "complete",
        **fields: Json | Absent,
    ) -> Order:
        """
        Add an order at the end of the internal order; the profile's ``stats`` count it.

        *fields* replace those that follow from the total, such as ``lineitems``; ABSENT leaves
        one out. Raises ValueError if the id exists, KeyError if the profile does not.
        """
        with self._lock:
            state, now = self._placed, self._state.now
            customer = state.profile(profile_id).fields.get("customer_id") if profile_id else None
            if id is None:
                state.shop.last_order_number += 1
            order = Order(
                id or str(state.shop.last_order_number),
                profile_id,
                customer if isinstance(customer, str) else None,
                at or now,
                pence_of(grand_total),
                quantity,
                is_valid,
                status,
                now,
                state.shop.next_update(),
                fields=fields,
            )
            orders.add(state, order)
            orders.count(state, [order], 1, now)
            return order

    def update_order(self, id: str, /, **fields: Json | Absent) -> Order:  # noqa: A002 -- Ometria's own word
        """
        Replace fields of an order's record, and mark the order as updated now.

        ``stats`` follow ``is_valid``, and a ``grand_total`` that is a number. ABSENT removes a
        field. Raises KeyError.
        """
        with self._lock:
            order = self._placed.shop.orders[id]
            own: dict[str, object] = {"fields": {**order.fields, **fields}}
            for name in ("status", "is_valid"):
                if name in fields:
                    own[name] = fields[name]
            total = fields.get("grand_total")
            if isinstance(total, (int, float)):
                own["pence"] = pence_of(total)
            return orders.change(self._state, order, self._state.now, **own)

    def cancel_order(self, id: str) -> Order:  # noqa: A002 -- Ometria's own word
        """Make an order invalid, so that ``stats`` count it as an attempt only."""
        with self._lock:
            order = self._placed.shop.orders[id]
            return orders.change(
                self._placed, order, self._state.now, status=orders.CANCELED, is_valid=False
            )

    def refund_order(self, id: str, *, whole: bool = True) -> Order:  # noqa: A002 -- Ometria's own word
        """Refund an order or, unless *whole*, its first line."""
        with self._lock:
            shop_passes.refund(self._placed, id, self._state.now, whole=whole)
            return self._placed.shop.orders[id]

    def delete_order(self, id: str) -> None:  # noqa: A002 -- Ometria's own word
        """Delete an order without a tombstone; ``stats`` no longer count it."""
        with self._lock:
            orders.remove(self._placed, id, self._state.now)

    # Products

    @property
    def products(self) -> list[Product]:
        """All products, inactive ones too, in internal order."""
        with self._lock:
            return list(self._state.shop.products.values())

    def add_product(
        self,
        id: str | None = None,  # noqa: A002 -- Ometria's own word
        **fields: Json,
    ) -> Product:
        """Add a product with exactly these fields, at the end of the internal order."""
        with self._lock:
            return catalogue.add(self._state, fields, at=self._state.now, product_id=id)

    def update_product(self, id: str, /, **fields: Json | Absent) -> Product:  # noqa: A002 -- Ometria's own word
        """Change fields, or remove those that are ABSENT, and mark the product as updated."""
        with self._lock:
            return catalogue.change(self._state, id, fields, at=self._state.now)

    def delete_product(self, id: str) -> None:  # noqa: A002 -- Ometria's own word
        """Delete a product; the lines of orders still name it."""
        with self._lock:
            catalogue.remove(self._state, id)

    # Contacts

    @property
    def collections(self) -> dict[str, int]:
        """The number of contacts in each collection, in internal order."""
        with self._lock:
            return contacts.counts(self._state)

    def contacts(self, collection: str) -> list[Contact]:
        """Return the contacts of a collection, in internal order; none if it does not exist."""
        with self._lock:
            return contacts.in_collection(self._state, collection)

    def add_contact(
        self,
        collection: str,
        id: str,  # noqa: A002 -- Ometria's own word
        *,
        profile_id: str | None = None,
        created_at: datetime | None = None,
        **fields: Json,
    ) -> Contact:
        """Add a contact with these fields, and its collection if it is new."""
        with self._lock:
            state, shop = self._state, self._state.shop
            if any(contact.id == id for contact in contacts.in_collection(state, collection)):
                message = f"contact {id!r} exists already in {collection!r}"
                raise ValueError(message)
            shop.version += 1
            shop.collections[collection] = None
            created = created_at or state.now
            contact = Contact(
                collection, id, profile_id, created, state.now, state.next_update(), fields
            )
            shop.contacts[collection, id] = contact
            return contact

    def update_contact(self, collection: str, id: str, /, **fields: Json) -> Contact:  # noqa: A002 -- Ometria's own word
        """
        Change fields of an added contact, and mark it as updated now.

        The contact of a profile changes with its profile: KeyError, as if it did not exist.
        """
        with self._lock:
            state, old = self._state, self._state.shop.contacts[collection, id]
            state.shop.version += 1
            new = replace(
                old,
                fields={**old.fields, **fields},
                updated_at=state.now,
                update_sequence=state.next_update(),
            )
            state.shop.contacts[collection, id] = new
            return new

    def delete_contact(self, collection: str, id: str) -> None:  # noqa: A002 -- Ometria's own word
        """Delete a contact without a tombstone, whoever made it."""
        with self._lock:
            self._state.shop.version += 1
            if not self._state.shop.contacts.pop((collection, id), None):
                self._state.shop.gone_contacts.add((collection, id))

    def delete_collection(self, collection: str) -> None:
        """Delete a collection with its contacts: both paths return 404. Raises KeyError."""
        with self._lock:
            shop = self._state.shop
            del shop.collections[collection]
            self._state.shop.version += 1
            shop.contacts = {k: v for k, v in shop.contacts.items() if k[0] != collection}

    def add_collection(self, collection: str) -> None:
        """Add a collection without contacts, or bring a deleted one back."""
        with self._lock:
            self._state.shop.version += 1
            self._state.shop.collections[collection] = None

    # Custom events and push errors

    @property
    def custom_events(self) -> list[CustomEvent]:
        """All custom events so far, in the order of their times."""
        with self._lock:
            return contacts.custom_events(self._state)

    def add_custom_event(
        self,
        id: str,  # noqa: A002 -- Ometria's own word
        event_type: str = "made by a test",
        *,
        profile_id: str | None = None,
        at: datetime | None = None,
        identity_account_id: str | None = None,
        identity_email: str | None = None,
        **fields: Json,
    ) -> CustomEvent:
        """Record a custom event with its custom keys; one with the same id is replaced."""
        with self._lock:
            self._state.shop.version += 1
            event = CustomEvent(
                id,
                profile_id,
                event_type,
                at or self._state.now,
                identity_account_id,
                identity_email,
                fields,
            )
            self._state.shop.custom_events[id] = event
            return event

    def delete_custom_event(self, id: str) -> None:  # noqa: A002 -- Ometria's own word
        """Delete a custom event without a tombstone."""
        with self._lock:
            self._state.shop.version += 1
            if not self._state.shop.custom_events.pop(id, None):
                self._state.shop.gone_custom_events.add(id)

    @property
    def push_errors(self) -> list[PushError]:
        """All push errors so far, newest first; the API shows the first 100 of them."""
        with self._lock:
            return push_errors.newest(self._state, None)

    def add_push_error(
        self,
        record_id: str,
        error_message: str = "This value should not be blank.",
        *,
        request_id: str = "00000000-0000-4000-8000-000000000000",
        record_type: Literal["order", "contact", "product", "custom_event"] = "order",
        error_path: str | None = None,
        at: datetime | None = None,
        customer_id: str | None = None,
        record: dict[str, Json] | None = None,
    ) -> PushError:
        """Record one refused record."""
        with self._lock:
            error = PushError(
                request_id,
                record_type,
                record_id,
                at or self._state.now,
                error_message,
                error_path,
                record or {"@type": record_type, "id": record_id},
                customer_id,
            )
            self._state.shop.push_errors.append(error)
            return error

    def counts(self) -> dict[str, int]:
        """Return the number of objects of each kind."""
        with self._lock:
            return {
                "orders": len(self._placed.shop.orders),
                "products": len(self._state.shop.products),
                "collections": len(self._state.shop.collections),
                "contacts": sum(contacts.counts(self._state).values()),
                "custom_events": len(contacts.custom_events(self._state)),
                "push_errors": len(push_errors.newest(self._state)),
            }

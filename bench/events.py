"""
Generated email events, equal on every machine: event *i* depends on *i* and a seed only.

Each event is text in the fourteen columns of the export. Three in ten are clicks with a long
link, and one row in a thousand repeats an earlier one exactly. The rate is 50 million a year,
so ten times the events are a history of ten times the length.
"""

from __future__ import annotations

SEED = 20_260_101
FIRST_ID = 7_000_000_000
REPEATED = 1_000
"""One row in this many repeats an earlier one."""

FIELDS = (
    "event_id",
    "uuid",
    "to_address",
    "event_type",
    "dt_occurred",
    "bounce_class",
    "reason",
    "device_type",
    "geo_country",
    "geo_region",
    "geo_timezone",
    "target_url",
    "campaign_title",
    "campaign_type",
)


def select(
    first: int, last: int, *, oldest: int = 0, revised_below: int = 0, repeats: bool = True
) -> str:
    """
    Return the SELECT of the raw rows *first* to *last* - 1, in order.

    No row repeats an event before *oldest*; without *repeats*, no row repeats any.
    One in ten events below *revised_below* has another title, as after a rename of its
    campaign, which detects a contender that keeps the older row.
    """
    return f"""
WITH numbered AS (
  SELECT i,
    CASE WHEN i % {REPEATED} = {REPEATED - 1}
      THEN greatest({oldest}, i - 1 - ((i * 7919) % 60000) // {REPEATED} * {REPEATED}) ELSE i
    END AS event
  FROM range({first}, {last}) t(i){"" if repeats else f" WHERE i % {REPEATED} < {REPEATED - 1}"}
),
drawn AS (
  SELECT i, event, (event * 2654435761 + {SEED}) % 4294967291 AS a FROM numbered
),
more AS (
  SELECT i, event, a, (a * 48271) % 2147483647 AS b, md5(concat('{SEED}', event)) AS hex FROM drawn
)
SELECT
  ({FIRST_ID} + event)::VARCHAR AS event_id,
  concat_ws('-', hex[1:8], hex[9:12], hex[13:16], hex[17:20], hex[21:32]) AS uuid,
  concat('shopper', (event * 7919) % 1000003, '@', ['mail', 'post', 'letters'][b % 3 + 1],
    '.example') AS to_address,
  CASE WHEN a % 10 < 3 THEN 'click' WHEN a % 10 < 6 THEN 'open' WHEN a % 100 < 97 THEN 'send'
    WHEN a % 100 < 99 THEN 'bounce' ELSE 'complaint' END AS event_type,
  strftime(TIMESTAMP '2020-01-01' + to_microseconds(event * 630000), '%Y-%m-%dT%H:%M:%S.%fZ')
    AS dt_occurred,
  CASE WHEN event_type = 'bounce' THEN (10 * (b % 9 + 1))::VARCHAR END AS bounce_class,
  CASE WHEN event_type = 'bounce' THEN concat('550 5.1.1 <', to_address, '>: user unknown, "',
    b % 97, '"') END AS reason,
  CASE WHEN event_type IN ('open', 'click') THEN ['desktop', 'mobile', 'tablet'][b % 3 + 1] END
    AS device_type,
  CASE WHEN event_type IN ('open', 'click') THEN ['GB', 'FR', 'DE', 'IT', 'US'][b % 5 + 1] END
    AS geo_country,
  CASE WHEN event_type IN ('open', 'click') THEN concat('Region ', b % 61) END AS geo_region,
  CASE WHEN event_type IN ('open', 'click')
    THEN ['Europe/London', 'Europe/Paris', 'Europe/Berlin', 'Europe/Rome', 'America/New_York']
      [b % 5 + 1] END AS geo_timezone,
  CASE WHEN event_type = 'click' THEN concat('https://shop.example/collections/', b % 211,
    '/products/', a % 9973, '?om_campaign=om_', hex[1:6], '_', event // 50000, '_', b % 40,
    '&om_send=', uuid, '&utm_source=ometria&utm_medium=email&utm_content=', hex[7:18]) END
    AS target_url,
  concat('Campaign ', event // 50000, ', the "', ['early', 'late', 'last'][b % 3 + 1], '" one',
    CASE WHEN event < {revised_below} AND event % 10 = 7 THEN ' (renamed)' ELSE '' END)
    AS campaign_title,
  ['mass', 'trigger', 'transactional'][a % 3 + 1] AS campaign_type
FROM more
ORDER BY i"""

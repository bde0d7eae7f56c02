"""The texts of fictional profiles, mails and lists."""

from __future__ import annotations

PEOPLE: tuple[tuple[str, str, str], ...] = (
    ("Amelia", "Hart", "f"),
    ("Oliver", "Whitfield", "m"),
    ("Isla", "Brennan", "f"),
    ("Noah", "Pemberton", "m"),
    ("Zoë", "Çelik", "f"),
    ("François", "Lefèvre", "m"),
    ("Søren", "Ødegård", "m"),
    ("Łucja", "Wiśniewska", "f"),
    ("Jürgen", "Großmann", "m"),
    ("Ñuria", "Muñoz García", "f"),
    ("Ирина", "Соколова", "f"),
    ("Дмитрий", "Волков", "m"),
    ("Ελένη", "Παπαδοπούλου", "f"),
    ("美咲", "佐藤", "f"),
    ("伟", "王", "m"),
    ("지우", "김", "o"),
    ("ليلى", "حداد", "f"),
    ("יעל", "כהן", "f"),
    ("प्रिया", "शर्मा", "f"),
    ("สมชาย", "ใจดี", "m"),
    ("Siobhán", "O'Connor", "f"),
    ("Jean-Luc", "d'Arcy", "m"),
)
PREFIXES = ("Ms", "Mr", "Mx", "Dr", "Prof.")
MAIL_DOMAINS = ("example.com", "example.net", "example.org", "mail.example.com", "shop.example")

HOSTILE_TEXTS = (
    'She said "hello", twice',
    "two\nlines",
    "two\r\nWindows lines",
    "a,b;c|d\te",
    "back\\slash \\N \\",
    "NULL",
    "\\N",
    "=SUM(A1:A9)",
    "👩🏽‍🚀 and 🧵",
    "\u202eright to left\u202c",
    "  spaces around  ",
    "zero\u200bwidth",
    "e\u0301 is not é",
    "'; DROP TABLE profiles; --",
    "<b>bold</b> &amp;",
    "\u2028separator",
    "{}",
    "x" * 3_000,
)
NUL_TEXT = "nul\x00inside"

PLACES: tuple[tuple[str, str, str, str, str], ...] = (
    # country, region, city, time zone, zip
    ("GB", "England", "Leeds", "Europe/London", "LS1 4AP"),
    ("GB", "Scotland", "Dundee", "Europe/London", "DD1 1DB"),
    ("FR", "Île-de-France", "Paris", "Europe/Paris", "75011"),
    ("DE", "Bayern", "Nürnberg", "Europe/Berlin", "90402"),
    ("ES", "Galicia", "A Coruña", "Europe/Madrid", "15001"),
    ("US", "Massachusetts", "Boston", "America/New_York", "02108"),
    ("JP", "Tōkyō-to", "東京", "Asia/Tokyo", "100-0001"),
    ("AE", "Dubayy", "دبي", "Asia/Dubai", "00000"),
    ("AU", "New South Wales", "Sydney", "Australia/Sydney", "2000"),
)
STREETS = ("High Street", "Rue des Lilas", "Gartenweg", "Calle Mayor", "Mill Lane, Flat 2")
TAGS = ("vip", "newsletter", "wholesale", "returns-often", "gift, wrap", "loyalty:gold")

SEGMENTS = (
    "VIP customers",
    "Lapsed over a year",
    "Browsed but never bought",
    "Newsletter – all",  # noqa: RUF001 -- a dash as marketers type it
    "Birthday this month 🎂",
    "High AOV (> £150)",
    'Bought "Linen" range',
    "At risk",
    "App users",
    "Abandoned basket, 7 days",
    "Soldes d'hiver",
    "Outlet shoppers",
)

BROADCASTS = (
    "New in: autumn knitwear",
    "Mid-season sale, up to 50% off",
    'The "everyday" edit',
    "Last chance; ends midnight",
    "Soldes : -30 % ✂",
    "Back in stock 🎉",
    "Letter from the studio | March",
)
AUTOMATIONS = (
    "Welcome 1",
    "Welcome 2",
    "Abandoned basket",
    "Abandoned browse",
    "Post-purchase care",
    "Win back, 6 months",
    "Birthday",
)
TRANSACTIONAL = ("Order confirmation", "Your order is on its way", "Password reset")

PRODUCTS = (
    "Linen shirt",
    "Café mug",
    'Tote, "market"',
    "Wool socks; pair",
    "Écharpe",
    "靴下",
    "Mug",
)
STORES = ("GB", "FR – Paris", "outlet", "JP")  # noqa: RUF001 -- a dash as shops type it

DEVICES = ("desktop", "mobile", "tablet", "unknown")
PATHS = ("/", "/sale", "/new-in", "/products/linen-shirt", "/products/caf%C3%A9-mug", "/account")

# Codes like those of SparkPost, which is inferred; Ometria documents no codes.
BOUNCES = (
    ("10", "550 5.1.1 user unknown"),
    ("21", "DNS failure, no MX for domain"),
    ("22", "452 4.2.2 mailbox full"),
    ("25", '554 5.7.1 "policy", message refused; see\nhttps://postmaster.example.org'),
    ("1", None),
)
DELAYS = (
    ("20", "421 4.7.0 try again later"),
    ("24", "timeout while connecting"),
)
UNSUBSCRIBE_REASONS = ("too_many_emails", "not_relevant", "never_signed_up", None, None, None)
REASON_TEXTS = ("Too many!", "I moved, thanks", 'You said "weekly", not daily', None, None, None)

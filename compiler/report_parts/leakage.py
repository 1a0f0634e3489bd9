"""The leakage audit in words and rows, the same in the terminal and on the page.

It reads the content of audit.json; audit.leakage writes it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from compiler.quantities import count, missing, percent

Audit = Mapping[str, Any]
Row = tuple[str, ...]

NO_GUARANTEE = "no (epsilon, delta) guarantee"
NETWORKS = ("ann", "converted", "encrypted", "random")
TITLES = {
    "ann": "ANN",
    "converted": "converted",
    "encrypted": "encrypted",
    "random": "random weights",
    "real": "real test images",
    "noise": "noise",
}
SUBJECT_COLUMNS = (
    "network",
    "accuracy",
    "plain ReLU",
    "clipped",
    "rescaled",
    "fine-tuned",
    "weights moved",
    "cosine",
)
ATTACK_COLUMNS = ("recognised, images of", "needs", "ANN", "converted", "encrypted", "random")
DISTANCE_COLUMNS = ("images of", "FID", "KID", "pixels", "features", "its class", "near-copies")
MEMBERSHIP_COLUMNS = ("members of", "best score", "AUC", "found, 1 % wrong", "0.1 % wrong")
RESEMBLANCE_COLUMNS = ("images", "nearest is a training image", "by chance", "p")


def withheld_layers(audit: Audit) -> int:
    """How many first layers the attacker did not have."""
    layers: int = audit.get("withheld_layers", 0)
    return layers


def target(audit: Audit) -> str:
    """What was attacked: the file, the file without its first layers, or a float network."""
    if "privatesnn" in audit:
        return "the trained network"
    if withheld := withheld_layers(audit):
        return "model.net without its first " + ("layer" if withheld == 1 else f"{withheld} layers")
    return "model.net"


def title(audit: Audit, name: str) -> str:
    """Name of a network in tables."""
    return f"{TITLES[name]}, {target(audit)}" if name == "encrypted" else TITLES[name]


def quote(audit: Audit) -> str:
    """The one sentence to quote: worst attack, rate with interval, floor, ceiling, no guarantee."""
    ends = audit["intervals"]["worst"]
    return (
        f"Of the images that the worst attack ({audit['worst_attack']}) makes from "
        f"{target(audit)}, "
        f"{number_of_judges(audit)} judges recognise {percent(audit['worst'])} "
        f"({span(ends)}); of the same attack on random weights {percent(audit['floor'])} (floor), "
        f"of real images {percent(audit['ceiling'])} (ceiling): a measurement of the attacks that "
        f"were tried, {NO_GUARANTEE}."
    )


def number_of_judges(audit: Audit) -> int:
    """How many judges there were."""
    return len(audit["judges"])


def span(ends: Mapping[str, float]) -> str:
    """An interval of shares in per cent."""
    return f"{100 * ends['low']:.1f} to {100 * ends['high']:.1f} %"


def points(ends: Mapping[str, float], sign: str = "+") -> str:
    """A difference of shares with its interval, in points."""
    value, low, high = (100 * ends[key] for key in ("value", "low", "high"))
    return f"{value:{sign}.1f} points ({low:{sign}.1f} to {high:{sign}.1f})"


def verdicts(audit: Audit) -> list[str]:
    """What the figures mean, good or bad, one sentence each."""
    return [
        line
        for line in (
            _floor(audit),
            _training(audit),
            _weaker(audit),
            _blackbox(audit),
            *_membership(audit),
        )
        if line
    ]


def _floor(audit: Audit) -> str:
    gain, sanity = audit["gain_over_floor"], audit["sanity"]
    if not sanity["attacks_work"]:
        return (
            "This audit can say nothing: what the attacks read from the trained network itself, "
            f"{points(sanity['ann_over_random'])} against random weights, may be chance."
        )
    if gain["low"] > 0:
        highest = audit["highest_floor"]
        return (
            f"Something leaks: the worst attack gains {points(gain)} over random weights, from "
            f"which no attack makes more than {percent(highest['value'])} ({highest['attack']})."
        )
    found = "No leak was found"
    if withheld_layers(audit):
        found = "This one guess of the withheld layers found no leak; another may"
    return f"{found}: the worst attack's gain over random weights, {points(gain)}, may be chance."


def _training(audit: Audit) -> str:
    """Whether the spike-based training hid anything from the attacks."""
    sanity, hidden = audit["sanity"], audit["hidden"]
    if not sanity["attacks_work"]:
        return ""
    opening = (
        f"The converted network, before training, is read to {percent(sanity['converted'])}, the "
        f"ANN itself to {percent(sanity['ann'])}"
    )
    cause = "training in the spiking domain"
    if withheld_layers(audit):
        cause = f"withholding layers and {cause} together"
    if hidden["low"] <= 0:
        return f"{opening}: {cause} hid nothing that these attacks read, or too little to tell."
    return (
        f"{opening}. After {cause} it is {points(hidden, sign='')} less, in this run of the "
        "attacks: another seed of an attack may move its rate as far."
    )


def _weaker(audit: Audit) -> str:
    """Attacks whose low rates on spiking networks mean nothing."""
    weaker = audit["sanity"].get("weaker", {})
    if not weaker:
        return ""
    return (
        f"{', '.join(weaker)}: much less is read from the converted network than from the ANN, "
        "though it holds the ANN's weights. A low rate of such an attack is the attack's weakness."
    )


def _blackbox(audit: Audit) -> str:
    gain = audit.get("gain_over_blackbox")
    if gain is None and withheld_layers(audit):
        return ""
    if gain is None:
        return "Attacks by queries and by weights cannot be compared: one kind was left out."
    opening = (
        f"An attacker who only queries the network ({_asked(audit)}) reaches "
        f"{percent(audit['blackbox'])}, one who reads its weights ({audit['whitebox_attack']}) "
        f"{percent(audit['whitebox'])}, a difference of {points(gain)}"
    )
    if gain["low"] > 0:
        return f"{opening}: the weights tell more than the answers do."
    return f"{opening}: hiding the weights better would not help against these attacks."


def _asked(audit: Audit) -> str:
    attack = audit["blackbox_attack"]
    queries = audit["subjects"]["encrypted"]["attacks"][attack]["queries"]
    return f"{attack}, {queries:,} answers"


def _membership(audit: Audit) -> Iterator[str]:
    found = audit["membership"].get("encrypted")
    if found:
        yield (
            f"Training images are told from test images with an AUC of {found['auc']['value']:.3f} "
            f"({found['auc']['low']:.3f} to {found['auc']['high']:.3f}){_better(found)}."
        )


def _better(found: Mapping[str, Any]) -> str:
    if found["auc"]["low"] > 0.5:
        return ", better than chance (0.5)"
    if found["auc"]["high"] < 0.5:
        return ", below chance (0.5): the two parts differ in more than who was trained on"
    return ", which may be chance"


def subjects(audit: Audit) -> list[Row]:
    """Accuracy of each network and of its weights in ordinary networks; how far they moved."""
    rows: list[Row] = []
    for name in NETWORKS:
        entry = audit["subjects"].get(name)
        if entry is not None:
            again = entry["reconverted"]
            moved, cosine = (entry[key].values() for key in ("weight_change", "weight_cosine"))
            rows.append(
                (
                    title(audit, name),
                    percent(entry["accuracy"]),
                    *(_best(again, ending) for ending in READINGS),
                    percent(max(moved)) if moved else "-",
                    f"{min(cosine):.3f}" if cosine else "-",
                )
            )
    return rows


READINGS = (("relu",), ("clipped_relu",), ("relu_rescaled", "clipped_relu_rescaled"),
            ("relu_finetuned", "clipped_relu_finetuned"))  # fmt: skip
"""Ways back into an ordinary network, column by column; of two, the better one is shown."""


def _best(again: Mapping[str, float | None], names: tuple[str, ...]) -> str:
    found = [value for name in names if (value := again.get(name)) is not None]
    return percent(max(found)) if found else "-"


def attacks(audit: Audit) -> list[Row]:
    """Recognition rate of every attack on every network; noise and real images are the ends."""
    blank = [""] * (len(NETWORKS) - 1)
    rows = [("noise", "-", _rate(audit, "noise", "images"), *blank)]
    for attack, about in audit["attacks"].items():
        rates = (_rate(audit, name, attack) for name in NETWORKS)
        rows.append((attack, about["access"], *rates))
    return [*rows, ("real images", "-", _rate(audit, "real", "images"), *blank)]


def _rate(audit: Audit, subject: str, attack: str) -> str:
    found = audit["subjects"].get(subject, {}).get("attacks", {}).get(attack)
    if not found:
        return missing()
    rate = found["recognition"]
    half = 50 * (rate["high"] - rate["low"])
    return f"{100 * rate['value']:.1f} ± {half:.1f} %"


def distances(audit: Audit) -> list[Row]:
    """FID, KID and distance to training images of the encrypted network's images, and the ends."""
    rows = [_distance(audit, TITLES["real"], "real", "images")]
    rows += [_distance(audit, attack, "encrypted", attack) for attack in audit["attacks"]]
    worst = audit["worst_attack"]
    rows.append(_distance(audit, f"{worst}, random weights", "random", worst))
    return [*rows, _distance(audit, TITLES["noise"], "noise", "images")]


def _distance(audit: Audit, title: str, subject: str, attack: str) -> Row:
    entry = audit["subjects"][subject]["attacks"][attack]
    near = [audit["nearest_image"][space][subject][attack] for space in ("pixels", "features")]
    return (
        title,
        f"{entry['fid']:.3g}",
        f"{entry['kid']:.3g}",
        *(f"{found['median'] / found['real_median']:.2f} x" for found in near),
        percent(near[0]["same_class"]["value"]),
        percent(max(found["copies"]["value"] for found in near)),
    )


def membership(audit: Audit) -> list[Row]:
    """Membership inference on each network by the score that works best."""
    rows: list[Row] = []
    for name in NETWORKS:
        found = audit["membership"].get(name)
        if found:
            rates = [found["tpr_at"].get(rate) for rate in ("0.01", "0.001")]
            shown = ["too few" if rate is None else _share(rate) for rate in rates]
            auc = found["auc"]
            ends = f"{auc['value']:.3f} ({auc['low']:.3f}-{auc['high']:.3f})"
            rows.append((title(audit, name), found["best"].replace("_", " "), ends, *shown))
    return rows


def _share(ends: Mapping[str, float]) -> str:
    value, low, high = (100 * ends[key] for key in ("value", "low", "high"))
    return f"{value:.1f} % ({low:.1f}-{high:.1f})"


def resemblance(audit: Audit) -> list[Row]:
    """Whether made images lie nearer to training than to test images."""
    return [
        (name, percent(found["value"]), span(found["chance"]), f"{found['p']:.3f}")
        for name, found in audit["membership"].get("resemblance", {}).items()
    ]


def notes(audit: Audit) -> list[str]:
    """What to know before trusting the figures."""
    lines = [
        "Plain ReLU to fine-tuned: accuracy of the weights put back into an ordinary network, as "
        "they are, clipped, rescaled on images made from it, and trained for some steps on noise. "
        "Weights moved: the layer that training changed most, but for a factor of the whole layer, "
        "and the least cosine to what it was.",
        "Recognised: share of an attack's images that a judge takes for the class under attack, "
        f"mean over {number_of_judges(audit)} judges ({', '.join(audit['judges'])}) that were "
        "trained on the real data and never saw these networks; ± half of the 95 % bootstrap "
        "interval over the images of this one run. Another seed of an attack may move a rate by "
        "more: all images of `clone` come from the same two copies.",
        "Judges always name some class: an image that they recognise need not look like one. The "
        "distances below and the contact sheets tell how near it comes.",
        f"FID and KID against training images in the features of judge {audit['features_of']}, "
        f"over {count(audit['fid_images'])} images a set: FID is too high for so few, alike in "
        "every row; KID is not. Pixels, features: median distance to the nearest training image, "
        "in times that of test images. Its class: share whose nearest training image, in pixels, "
        "is of the class under attack. Near-copies: share that comes nearer to a training image "
        "than 99 % of the test images do, in pixels or in features. An image of little contrast "
        "lies near to many in pixels: where features and class say otherwise, it is no copy.",
        "Members: training images that are found among test images by what the network answers, "
        "and the share found where 1 % or 0.1 % of the test images are taken for members.",
    ]
    if audit["left_out"]:
        lines.append(f"Attacks left out: {', '.join(audit['left_out'])}.")
    if audit["quick"]:
        lines.append("A quick audit: small budgets, so that the attacks may do better than this.")
    reasons = {
        reason
        for name in NETWORKS
        for reason in (audit["membership"].get(name) or {}).get("tpr_notes", {}).values()
    }
    return [*lines, *sorted(reasons), *audit["notes"]]


def heading(audit: Audit) -> str:
    """What was audited, in one line."""
    data = audit["data"]
    kind = "quick audit" if audit["quick"] else "full audit"
    return (
        f"{kind}, {count(len(audit['attacks']))} attacks, {data['spec']}: "
        f"{count(data['training']['images'])} training and {count(data['test']['images'])} test "
        f"images, seed {audit['seed']}"
    )


def tables(audit: Audit) -> list[tuple[str, tuple[str, ...], list[Row], int]]:
    """Title, columns, rows and number of text columns of every table, in order."""
    return [
        ("The networks", SUBJECT_COLUMNS, subjects(audit), 1),
        ("Images made from them", ATTACK_COLUMNS, attacks(audit), 2),
        (
            f"How near those of {target(audit)} come to real images",
            DISTANCE_COLUMNS,
            distances(audit),
            1,
        ),
        ("Membership inference", MEMBERSHIP_COLUMNS, membership(audit), 2),
        (
            "Do made images resemble training images?",
            RESEMBLANCE_COLUMNS,
            resemblance(audit),
            1,
        ),
    ]

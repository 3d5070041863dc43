"""Tables of what a small model beside the databases is worth."""

from __future__ import annotations

from typing import Any

from tables import between, table


def drafters(record: dict[str, Any]) -> str:
    """Costs of forwards, agreement by depth, accepted lengths with fixed nodes, speed with `auto`."""
    parts, made = record["parts"], {"cost": _cost, "agreement": _agreement, "accepted": _accepted, "speed": _speed}
    return "\n\n".join(f"{made[part](parts[part]['found'])}" for part in made if part in parts) + "\n\n" + _where(parts)


def _where(parts: dict[str, Any]) -> str:
    commits = sorted({part["machine"]["commit"][:8] for part in parts.values()})
    some = next(iter(parts.values()))
    s = some["settings"]
    about = "; ".join(
        f"{name}: {part['settings']['tokens']} tokens, {part['settings']['threads']} threads"
        for name, part in parts.items()
    )
    return (
        f"{some['machine']['cpu']}, {s['engine']}, float32, {s['limit']} questions of each task, first turns; most "
        f"tokens of an answer, and threads ({about}); commit {', '.join(commits)}."
    )


def _cost(found: dict[str, Any]) -> str:
    sizes = list(next(iter(found.values())))
    rows = [
        [name, *(f"{costs[size]['median']:.2f} ({between(costs[size])})" for size in sizes)]
        for name, costs in found.items()
    ]
    return "Milliseconds of a forward by its rows:\n\n" + table(["model", *sizes], rows)


def _agreement(found: dict[str, Any]) -> str:
    tops = list(next(iter(found["agreement"].values())))
    rows = [
        [depth, *(f"{shares[top]:.3f}" for top in tops)] for depth, shares in found["agreement"].items()
    ]  # fmt: skip
    text = (
        "How often the target's own token is among the drafter's likeliest, by depth of its own drafts: "
        f"{found['chains']:,} chains in greedy answers; one is worth {found['accepted_length']:.2f} tokens a forward."
    )
    if "covered" not in found:  # a head, which was not measured with other output rows
        return text + "\n\n" + table(["depth", *tops], rows)
    covered = found["covered"]
    used = [[name, *(f"{shares[top]:.3f}" for top in tops)] for name, shares in found["rows"].items()]
    return (
        f"{text} Its {covered['rows']:,} output rows have {100 * covered['share']:.1f} % of the answers' tokens, with "
        f"the ids of the prompts {100 * covered['with_prompt']:.1f} %.\n\n"
        + table(["depth", *tops], rows)
        + "\n\nThe same at every token of these answers, with other output rows than it was trained with:\n\n"
        + table(["output rows", *tops], used)
    )


def _accepted(found: list[dict[str, Any]]) -> str:
    tasks = list(found[0]["accepted_length"])
    base = {
        (row["nodes"], row["temperature"]): row["accepted_length"]["all"]
        for row in found if row["method"] == "hierarchy"
    }  # fmt: skip
    rows = []
    for row in found:
        own = base.get((row["nodes"], row["temperature"]))
        over = (
            f"{100 * (row['accepted_length']['all'] / own - 1):+.1f} %" if own and row["method"] != "hierarchy" else ""
        )
        rows.append(
            [f"`{row['method']}`" if "," not in row["method"] else row["method"], str(row["nodes"]),
             f"{row['temperature']:g}", *(f"{row['accepted_length'][task]:.2f}" for task in tasks), over]
        )  # fmt: skip
    head = ["method", "nodes", "temperature", *(task.replace("_", " ") for task in tasks), "over `hierarchy`"]
    return "Tokens per forward of the target with a fixed number of nodes:\n\n" + table(head, rows)


def _speed(found: list[dict[str, Any]]) -> str:
    tasks = list(found[0]["tasks"])
    rows = [
        [f"`{row['method']}`", f"`{row['over']}`", f"{row['temperature']:g}",
         f"{row['all']['median']:.2f} ({between(row['all'])})", *(f"{row['tasks'][task]:.2f}" for task in tasks)]
        for row in found
    ]  # fmt: skip
    head = ["method", "over", "temperature", "median", *(task.replace("_", " ") for task in tasks)]
    return "Tokens a second with `auto`, reading the prompt left out:\n\n" + table(head, rows)

"""What the user of an array is told: how it stands, what its jobs printed, what came out."""

from __future__ import annotations

from nbcore.runs.arrays import Array, collect, last_lines, logs, outcome, states

__all__ = ["collected", "printed", "standing"]


def standing(array: Array, *, every: bool = False) -> str:
    """How many members stand how; and those that failed or stopped, or all of them."""
    found = states(array)
    counts = [f"{found.count(state)} {state}" for state in dict.fromkeys(found)]
    lines = [f"{len(found)} members: {', '.join(counts)}"]
    for number, state in enumerate(found):
        if every or state not in ("done", "running", "waiting"):
            error = outcome(array.member(number)).get("error") or ""
            lines.append(f"{number:>6}  {state:<12} {array.members[number]}  {error}".rstrip())
    return "\n".join(lines)


def printed(array: Array, number: int | None, lines: int) -> str:
    """Last lines of what the job of a member printed; without a number, of those not in order."""
    bad = [k for k, state in enumerate(states(array)) if state not in ("done", "waiting")]
    chosen = bad[:8] if number is None else [number]
    if not chosen:
        return "every member that ended is done; name one to see what its job printed"
    parts = []
    for k in chosen:
        for path in logs(array, k):
            parts.append(f"--- member {k}: {path}")
            parts += last_lines(path, lines)
    return "\n".join(parts) or "no job has printed anything yet"


def collected(array: Array) -> str:
    """Gather the members, and say what was found."""
    table = collect(array)
    done = len(table.query("state == 'done'"))
    lines = [f"{done} of {len(table)} done: {array.run.path / 'table.csv'}"]
    for row in table.query("state != 'done'").to_dict("records"):
        error = row.get("error")
        lines.append(
            f"{row['member']:>6}  {row['state']}  {error if isinstance(error, str) else ''}"
        )
    return "\n".join(line.rstrip() for line in lines)

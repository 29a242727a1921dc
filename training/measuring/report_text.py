"""A report as text for people."""

from collections.abc import Mapping, Sequence
from typing import Any

from training.measuring.matched import DIRECTIONS
from training.measuring.rendered import CLEAR, COMPOSED
from training.measuring.report import MIN_CLASS_SIZE, Report


def render(report: Report) -> str:
    """Return the report as text; a number's 95 % interval stands behind it in brackets."""
    faces = report.faces
    expression = report.expression
    within = report.intervals
    derived = faces.get("with_derived_targets")
    lines = [f"{faces['dataset']} {faces['split']}: {faces['found']} of {faces['count']} faces found"]
    if expression:
        lines += ["", f"expression, {expression['count']} faces with a majority (a face not found counts as wrong)"]
        lines += _lines(expression, within.get("expression", {}))
        lines += ["  F1 by class"]
        lines += _lines(expression["f1"], within.get("expression", {}).get("f1", {}))
    if report.valence_arousal:
        annotated = faces.get("with_annotated_valence_arousal")
        against = f"derived targets, {derived}" if annotated is None else f"annotated targets, {annotated}"
        lines += ["", f"valence-arousal against {against} faces"]
        lines += _lines(report.valence_arousal, within.get("valence_arousal", {}))
    if report.action_units:
        known = faces.get("with_known_action_units")
        against = f"the teacher, {derived}" if known is None else f"known intensities, {known}"
        lines += ["", f"action units against {against} faces", *_table(report.action_units)]
        if "action_units" in within:
            lines += ["  95 % intervals", *_table(within["action_units"])]
        lines += ["", *_mean_lines(report)]
    if report.rendered:
        lines += ["", *_rendered_lines(report.rendered)]
    if report.eyes_closed:
        eyes = report.eyes_closed
        lines += ["", f"closed eyes, {eyes['closed']} faces, against {eyes['open']} with open ones"]
        lines += _lines(eyes, eyes["intervals"])
    if report.groups:
        lines += ["", *_group_lines(report.groups)]
    return "\n".join(lines)


def _lines(values: Mapping[str, Any], within: Mapping[str, Any]) -> list[str]:
    numbers = {name: value for name, value in values.items() if isinstance(value, float)}
    return [f"  {name:<26}{value:.4f}{_bracket(within.get(name))}" for name, value in numbers.items()]


def _bracket(interval: Sequence[float] | None) -> str:
    return f"  [{interval[0]:.4f}, {interval[1]:.4f}]" if interval else ""


def _table(units: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """A row a unit, a column a measure."""
    columns = list(dict.fromkeys(name for values in units.values() for name in values))
    cells = {unit: [_cell(values.get(name)) for name in columns] for unit, values in units.items()}
    width = 2 + max([10, *map(len, columns), *(len(cell) for row in cells.values() for cell in row)])
    head = "  unit  " + "".join(f"{name:>{width}}" for name in columns)
    return [head, *(f"  {unit:<6}" + "".join(f"{cell:>{width}}" for cell in row) for unit, row in cells.items())]


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, list):
        return f"[{value[0]:.3f}, {value[1]:.3f}]"
    return str(value) if isinstance(value, int) else f"{value:.3f}"


def _mean_lines(report: Report) -> list[str]:
    """The means over units, and which units they leave out."""
    means, within = report.action_units_mean, report.intervals.get("action_units_mean", {})
    few = {name: unit["positives"] for name, unit in report.action_units.items() if name not in means["units"]}
    lines = [f"means over units with at least {MIN_CLASS_SIZE} positives"]
    lines += (
        [f"  not counted: {', '.join(f'{name} ({count} positives)' for name, count in few.items())}"] if few else []
    )
    names = {"pearson": "Pearson r", "auroc": "AUROC", "ece": "ECE", "f1": "F1 at threshold"}
    for key, name in names.items():
        if key in means:
            over = means["f1_units"] if key == "f1" else means["units"]
            lines += [f"  {name:<26}{means[key]:.4f}{_bracket(within.get(key))}  ({len(over)}: {', '.join(over)})"]
    return lines


def _group_lines(groups: Mapping[str, Any]) -> list[str]:
    lines = [f"by {groups['column']}; a number that rests on fewer than {groups['minimum']} faces is not given"]
    lines += [f"  macro F1 over {', '.join(groups['classes'])}; AUROC over {', '.join(groups['units'])}"]
    for name, values in groups["values"].items():
        lines += [f"  {name or '(empty)'}: {values['count']} faces"]
        lines += [f"  {line}" for line in _lines(values, values.get("intervals", {}))]
    return lines


def _rendered_lines(rendered: Mapping[str, Any]) -> list[str]:
    within = rendered["intervals"]
    lines = [f"rendered faces: {rendered['people']} people; the intervals of this set are over people"]
    if rendered["units"]:
        lines += [
            "units: AUROC of moved against unmoved faces, of the answer and of its change from the person at rest;",
            "  Pearson's r of this change with that of the intensity;",
        ]
        lines += [f"  recall from intensity {CLEAR} on; share of {rendered['resting']} faces at rest that are active"]
        lines += [*_table(rendered["units"])]
        lines += ["  95 % intervals", *_table(within["units"])] if "units" in within else []
        lines += ["  means over the twelve units", *_lines(rendered["units_mean"], within.get("units_mean", {}))]
    if rendered["expressions"]:
        values = rendered["expressions"]
        inside = within.get("expressions", {})
        lines += ["", f"composed expressions from strength {COMPOSED} on, {values['count']} faces"]
        lines += _lines(values, inside)
        lines += ["  called right, by class", *_lines(values["right_by_class"], inside.get("right_by_class", {}))]
    for attribute, matched in rendered["matched"].items():
        lines += ["", f"matched people who differ in {attribute}: {DIRECTIONS[attribute]}"]
        lines += [f"  mean difference over {matched['pairs']} pairs of pictures of {matched['people']} people"]
        lines += _lines(matched["differences"], matched["intervals"])
        if largest := matched.get("largest_unit"):
            lines += [f"  largest of a unit: {largest['difference']:.4f} ({largest['name']})"]
    return lines

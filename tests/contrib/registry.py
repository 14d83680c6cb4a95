"""What metrics Aegis has, from `aegis-stat --metrics`, and which of them an expression names."""
import re

import aegis

EVERYWHERE = {"instance", "job"}  # what Prometheus adds to each series
SUFFIXES = ("_bucket", "_sum", "_count")
OTHERS = {"up": EVERYWHERE, "ALERTS": {"alertname", "alertstate"}}  # Prometheus' own


def read():
    """{name as a series has it: its labels}; a histogram has three."""
    done = aegis.run(aegis.AEGIS_STAT, "--metrics")
    if done.returncode != 0:
        raise AssertionError(done.stderr)
    metrics = {}
    for name, fixed, kind, labels in re.findall(r"^\| `(aegis_\w+)(\{.*\})?` \| (\w+) \| ([^|]*) \|", done.stdout, re.M):
        own = metrics.setdefault(name, set())
        own |= {label.strip() for label in labels.split(",") if label.strip()} | set(re.findall(r"(\w+)=", fixed)) | EVERYWHERE
        if kind == "histogram":
            del metrics[name]
            metrics.update((name + suffix, own | ({"le"} if suffix == "_bucket" else set())) for suffix in SUFFIXES)
    return metrics


def names(expression):
    return set(re.findall(r"\b(?:aegis_\w+|up|ALERTS)\b(?!\s*\()", re.sub(r'"[^"]*"', '""', expression)))


def wrong(expression, metrics):
    """What is wrong with the names and labels of a PromQL expression; an empty list when nothing is."""
    metrics = {**metrics, **OTHERS}
    found = names(expression)
    problems = [f"there is no metric {name}" for name in sorted(found) if name not in metrics]
    if not found:
        problems.append("names no metric")
    if problems:
        return problems
    known = set.union(*(metrics[name] for name in found))
    for name, selector in re.findall(r"(\w+)\{([^}]*)\}", re.sub(r'"[^"]*"', '""', expression)):
        problems += [f"{name} has no label {label}" for label in re.findall(r"(\w+)\s*[=!]", selector) if label not in metrics.get(name, known)]
    for group in re.findall(r"\b(?:by|without|on|ignoring)\s*\(([^)]*)\)", expression):
        problems += [f"nothing here has a label {label}" for label in re.findall(r"\w+", group) if label not in known]
    return problems

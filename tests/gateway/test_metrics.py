"""What /metrics says: names, labels, bounds; and that documents, dashboard and rules speak of what is exported."""

from __future__ import annotations

import json
import re
import timeit
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from osiris_mesh.gateway.metrics import MAX_FUNCTIONS, OTHER, Metrics
from osiris_mesh.gateway.readings import Demand, Readings
from osiris_mesh.invoke.meter import BOUNDS, Meter
from tests.gateway.full import families, full, samples

ROOT = Path(__file__).parents[2]
MONITORING = ROOT / "examples" / "monitoring"


def values(text: bytes) -> dict[tuple[str, tuple[str, ...]], float]:
    return {
        (sample.name, tuple(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def test_values() -> None:
    seen = values(Metrics(full).render())
    name = "default/f1"
    assert seen["osiris_function_calls_total", (name,)] == 3
    assert seen["osiris_function_errors_total", (name,)] == 1
    assert seen["osiris_function_calls_in_flight", (name,)] == 1
    assert seen["osiris_function_call_duration_seconds_bucket", (name, "0.0005")] == 0
    assert seen["osiris_function_call_duration_seconds_bucket", (name, "0.001")] == 1
    assert seen["osiris_function_call_duration_seconds_bucket", (name, "60.0")] == 2
    assert seen["osiris_function_call_duration_seconds_bucket", (name, "+Inf")] == 3
    assert seen["osiris_function_call_duration_seconds_sum", (name,)] == pytest.approx(70.1007)
    assert seen["osiris_function_queued_calls", (name,)] == 3
    assert seen["osiris_mesh_members", ("dead",)] == 1
    assert seen["osiris_mesh_members", ("left",)] == 0
    assert seen["osiris_raft_index", ("applied",)] == 19
    assert seen["osiris_gossip_dropped_total", ("strangers",)] == 1
    assert ("osiris_gossip_dropped_total", ("queued",)) not in seen
    assert seen["osiris_webhook_deliveries_total", ("delivered", "ops")] == 7
    assert seen["osiris_registry_up", ("team",)] == 1
    assert seen["osiris_registry_up", ("gone",)] == 0
    assert seen["osiris_registry_names", ("team",)] == 40
    assert seen["osiris_registry_fetch_failures_total", ("team",)] == 2
    assert seen["osiris_registry_refused_total", ("team",)] == 3
    assert seen["osiris_resolve_total", ("unknown", "registry")] == 1
    assert seen["osiris_resolve_total", ("ok", "cache")] == 9
    assert seen["osiris_provider_calls_total", ("answered",)] == 8
    assert seen["osiris_node_info", ("n1", "12D3KooWMe", "1.2.3")] == 1
    assert not any(OTHER in labels for _, labels in seen)


def test_functions_somebody_may_not_know_of_stand_together() -> None:
    metrics = Metrics(lambda: full(4))
    whole, some, none = (metrics.render(sees) for sees in (None, lambda name: name == "default/f1", lambda _: False))
    for text, names in ((some, {"default/f1", OTHER}), (none, {OTHER})):
        seen = values(text)
        for name in ("osiris_function_calls_total", "osiris_function_queued_calls", "osiris_function_errors_total"):
            rows = {labels[0]: value for (metric, labels), value in seen.items() if metric == name}
            assert set(rows) == names
            assert sum(rows.values()) == sum(value for (metric, _), value in values(whole).items() if metric == name)
        for secret in {"default/f0", "default/f1", "default/f2"} - names:
            assert secret.encode() not in text
    # What one bearer may not see changes no row of another's.
    again, first = (
        {key: value for key, value in values(text).items() if key[0].startswith("osiris_function")}
        for text in (metrics.render(), whole)
    )
    assert again == first


def test_every_family_has_a_help_and_follows_the_conventions() -> None:
    found = families(Metrics(full).render())
    assert len(found) > 35
    for name, (kind, words) in found.items():
        assert re.fullmatch(r"osiris(_[a-z]+)+", name), name
        assert len(words) > 10, name
        assert name.endswith("_total") is (kind == "counter"), name
        assert not re.search(r"_(ms|us|milliseconds|kb|mb|percent)(_|$)", name), name


def test_functions_past_the_bound_stand_together() -> None:
    metrics = Metrics(lambda: full(MAX_FUNCTIONS + 50))
    seen = values(metrics.render())
    rows = {labels[0]: value for (name, labels), value in seen.items() if name == "osiris_function_calls_total"}
    assert len(rows) == MAX_FUNCTIONS + 1
    assert rows[OTHER] == 50 * 3
    assert seen["osiris_function_instances", (OTHER,)] == 50 * 2
    assert sum(rows.values()) == (MAX_FUNCTIONS + 50) * 3


def test_a_function_keeps_its_row_so_that_no_counter_goes_back() -> None:
    meter = Meter(limit=10_000)
    demand: dict[str, Demand] = {}
    metrics = Metrics(lambda: Readings("p", "n", "v", calls=meter.tallies, forgotten=meter.forgotten, demand=demand))
    before: dict[tuple[str, tuple[str, ...]], float] = {}
    for number in range(MAX_FUNCTIONS + 30):
        name = f"x/f{number:04}"
        meter.end(meter.begin(name), 0.1, ok=True)
        if number % 2:
            demand[f"x/d{number:04}"] = Demand(1)
        if number % 10 == 9:
            now = values(metrics.render())
            assert all(now[key] >= value for key, value in before.items() if key[0].endswith("_total"))
            before = now


def test_what_the_meter_forgot_still_counts() -> None:
    meter = Meter(limit=2)
    for name in ("x/a", "x/b", "x/c", "x/c"):
        meter.end(meter.begin(name), 0.1, ok=name != "x/a")
    seen = values(Metrics(lambda: Readings("p", "n", "v", calls=meter.tallies, forgotten=meter.forgotten)).render())
    assert seen["osiris_function_calls_total", (OTHER,)] == 1
    assert seen["osiris_function_errors_total", (OTHER,)] == 1
    assert seen["osiris_function_calls_total", ("x/c",)] == 2


async def test_a_scrape_is_the_same_text_made_elsewhere() -> None:
    metrics = Metrics(full)
    media, text = await metrics.scrape()
    assert media.startswith("text/plain; version=0.0.4")
    ours = [line for line in text.splitlines() if b"osiris_process_" not in line]
    assert ours == [line for line in metrics.render().splitlines() if b"osiris_process_" not in line]


def test_a_node_without_a_sample_yet() -> None:
    assert "osiris_node_cpu_ratio" not in samples(Metrics(lambda: replace(full(), load=None)).render())


def test_every_bucket_is_where_it_says() -> None:
    meter = Meter(limit=10)
    tally = meter.begin("f")
    for bound in BOUNDS:
        meter.end(tally, bound, ok=True)
        meter.end(tally, bound * 1.0001, ok=True)
    assert tally.buckets == [1, *[2] * (len(BOUNDS) - 1), 1]
    assert list(BOUNDS) == sorted(BOUNDS)


def test_counting_a_call_is_cheap() -> None:
    meter = Meter(limit=10)
    tally = meter.begin("f")
    # Half a microsecond is the promise for what the histogram adds; this is all of it, on a busy machine.
    best = min(timeit.repeat(lambda: meter.end(tally, 0.0007, ok=True), number=20_000, repeat=5)) / 20_000
    assert best < 1.0e-6


def test_the_document_lists_every_name_and_no_other() -> None:
    text = (ROOT / "docs" / "metrics.md").read_text("utf-8")
    rows = re.findall(r"^\| `(osiris_\w+)` \| (\w+) \| ([^|]*) \| (.*) \|$", text, re.MULTILINE)
    render = Metrics(full).render()
    exported, labels = families(render), samples(render)
    assert {name: (kind, words) for name, kind, _, words in rows} == exported
    for name, kind, listed, _ in rows:
        borne = set().union(*(labels.get(name + end, set()) for end in ("", "_bucket")))
        assert {label for label in listed.split(", ") if label} == borne - {"le"}, (name, kind)


EXPORTED_ELSEWHERE = {"up"}


def expressions() -> dict[str, str]:
    """Return every PromQL expression of the examples by where it stands."""
    found = {}
    rules = yaml.safe_load((MONITORING / "osiris-rules.yml").read_text("utf-8"))
    for group in rules["groups"]:
        for rule in group["rules"]:
            assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
            assert rule["labels"]["severity"] in {"warning", "critical"}
            assert rule["annotations"]["summary"]
            found[rule["alert"]] = rule["expr"]
    dashboard = json.loads((MONITORING / "osiris-dashboard.json").read_text("utf-8"))
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            found[f"{panel['title']} {target['refId']}"] = target["expr"]
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            found[variable["name"]] = variable["definition"]
    return found


@pytest.mark.parametrize(("where", "expression"), expressions().items(), ids=lambda text: str(text)[:30])
def test_dashboard_and_rules_speak_of_what_is_exported(where: str, expression: str) -> None:
    exported = samples(Metrics(full).render())
    names = set(re.findall(r"\bosiris_\w+|\bup\b", expression))
    assert names, where
    assert names <= exported.keys() | EXPORTED_ELSEWHERE, where
    known = set().union(*(exported.get(name, set()) for name in names)) | {"instance", "job"}
    for matcher in re.findall(r"\{([^{}]*)\}", expression):
        assert {part.split("=")[0].strip("!~") for part in matcher.split(",")} <= known, where
    for grouping in re.findall(r"\bby \(([^)]*)\)", expression):
        assert {label.strip() for label in grouping.split(",")} <= known, where
    for opening, closing in ("()", "[]", "{}"):
        assert expression.count(opening) == expression.count(closing), where


def test_the_dashboard_holds_together() -> None:
    dashboard = json.loads((MONITORING / "osiris-dashboard.json").read_text("utf-8"))
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels) > 20
    covered: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24
        assert not cells & covered, panel["title"]
        covered |= cells


def test_the_scrape_configuration_names_the_rules_and_the_path() -> None:
    config = yaml.safe_load((MONITORING / "prometheus.yml").read_text("utf-8"))
    assert config["scrape_configs"][0]["metrics_path"] == "/metrics"
    assert all((MONITORING / name).is_file() for name in config["rule_files"])

"""The benchmarks still run. No test here measures time."""

import json

import pytest


@pytest.mark.slow
def test_a_quick_benchmark_writes_its_figures(run_cli, tmp_path):
    figures = tmp_path / "figures.json"
    page = tmp_path / "page.md"
    code, out, err = run_cli(
        "benchmarks", "overhead", "--quick", "--json", figures, "--report", page
    )
    assert code == 0, err
    assert "flops-fl" in out
    (table,) = json.loads(figures.read_text())["tables"]
    assert len(table["rows"][0]["values"]) == 9
    assert "| flops-fl |" in page.read_text()
    assert page.with_name("benchmarks.png").stat().st_size > 5000

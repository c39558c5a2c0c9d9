"""The benchmark of the model runs from end to end; its numbers are not judged here."""

import json

from benchmarks.model_speed import main


def test_the_quick_benchmark_prints_and_writes_its_results(tmp_path, capsys):
    main(["--quick", "--output", str(tmp_path)])
    result = json.loads((tmp_path / "model_speed.json").read_text())
    assert set(result["base"]["ratios"]) == {"transformers, default AdamW", "transformers, fused AdamW"}
    assert list(result["skipping"]["seconds"]) == ["0", "1", "2", "3", "4"]
    assert result["skipping"]["kept"] == 3
    assert all(value["n"] == 3 for value in result["narrow"]["seconds"].values())
    assert "goal 1.2x" in capsys.readouterr().out

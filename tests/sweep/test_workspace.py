import json
import sys
from pathlib import Path

import pytest

from sweep.workspace import main


def panels(path: Path) -> dict[str, list[dict[str, object]]]:
    """The panels of each section."""
    spec = json.loads(path.read_text())["spec"]
    return {one["name"]: one["panels"] for one in spec["section"]["panelBankConfig"]["sections"]}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of its own code
def test_a_workspace_is_defined_without_a_login(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out = tmp_path / "workspace.json"
    main(["--entity", "me", "--project", "ghosttrack", "--out", str(out)])
    assert str(out) in capsys.readouterr().out
    found = panels(out)
    assert list(found) == ["Training", "Layers", "Detection", "Machine"]
    assert sum(map(len, found.values())) <= 40
    text = json.dumps(found)
    for name in ("train/fvu_mean", "train/fvu/.*", "detectors", "roc_table", "figures/auroc"):
        assert name in text


def test_without_its_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setitem(sys.modules, "wandb_workspaces", None)
    with pytest.raises(SystemExit, match=r"pip install 'ghosttrack\[review\]'"):
        main(["--entity", "me", "--project", "p", "--out", str(tmp_path / "w.json")])

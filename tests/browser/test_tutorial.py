from pathlib import Path

import pytest

from tests.browser.conftest import OUTPUTS

TUTORIAL = Path(__file__).parents[2] / "docs" / "tutorial.ipynb"


def test_the_tutorial_runs_as_written():
    nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed")
    nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed")
    if not OUTPUTS:
        pytest.skip("GHOSTTRACK_OUTPUTS names no folder of a finished detect.py")
    notebook = nbformat.read(TUTORIAL, as_version=4)
    client = nbclient.NotebookClient(
        notebook, timeout=300, resources={"metadata": {"path": str(TUTORIAL.parent)}}
    )
    client.execute()
    texts = [
        output["text"]
        for cell in notebook.cells
        for output in cell.get("outputs", ())
        if output["output_type"] == "stream"
    ]
    assert any("probably" in text for text in texts)

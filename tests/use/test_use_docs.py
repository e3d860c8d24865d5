"""What docs/use-the-model.md shows runs as it stands there."""

import re
import subprocess
import sys

from tests.conftest import LIMIT, ROOT

PAGE = (ROOT / "docs" / "use-the-model.md").read_text()


def test_the_lines_for_a_script_run_as_printed(tmp_path, digits):
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    (tmp_path / "parts").symlink_to(digits)
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.partition("\n## The model")[0], re.M | re.S)
    assert len(blocks) == 2
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(blocks)],
        cwd=tmp_path, capture_output=True, text=True, timeout=LIMIT, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert re.match(r"479 \(.*, 120\)\n64 \(.*, 120\)\n", done.stdout), done.stdout

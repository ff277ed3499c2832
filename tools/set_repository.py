"""Where does this copy of the course live? Badges, setup cells and links follow one setting; this changes it.

python tools/set_repository.py OWNER/REPO                  a fork
python tools/set_repository.py OWNER/REPO --branch v1.0.0  a release: badges and setup cells lead to its tag
"""

import argparse
import re
import sys

from build_notebooks import build
from places import ROOT, all_sources, setting

DOCUMENTS = ("README.md", "CONTRIBUTING.md", "docs/*.md", "docs/answers/*.md")


def moved(text, old, new):
    """A text with every address of the old repository and branch turned into the new one's."""
    for between in ("@", "/blob/", "/tree/", "/"):  # pip's address, GitHub's pages, Binder's
        text = text.replace(
            f"{old['repository']}{between}{old['branch']}", f"{new['repository']}{between}{new['branch']}"
        )
    return text.replace(old["repository"], new["repository"])


def main():
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("repository", metavar="OWNER/REPO")
    parser.add_argument("--branch", default="main")
    new = vars(parser.parse_args())
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", new["repository"]):
        parser.error(f"expected OWNER/REPO, as in the address on GitHub, got {new['repository']!r}")

    old = setting()
    for path in (path for pattern in DOCUMENTS for path in ROOT.glob(pattern)):
        path.write_text(moved(path.read_text(encoding="utf-8"), old, new), encoding="utf-8")
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for key in ("repository", "branch"):
        project = project.replace(f'\n{key} = "{old[key]}"\n', f'\n{key} = "{new[key]}"\n')
    (ROOT / "pyproject.toml").write_text(project, encoding="utf-8")
    succeeded = [build(source) for source in all_sources()]
    return not all(succeeded)


if __name__ == "__main__":
    sys.exit(main())

"""MkDocs hook: put the reference of MobileNets.jl, built by Documenter, under julia/ of the site."""

import logging
import shutil
from pathlib import Path

BUILT = Path("julia/docs/build")
MISSING = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<link rel="icon" href="../assets/images/favicon.png"><title>MobileNets.jl</title>
<h1>MobileNets.jl</h1>
<p>The reference of the Julia package is not part of this build of the site, because Julia was not
installed where it was built. Every docstring is available in Julia: <code>?MobileNets.predict</code>.
<p><a href="../mobilenets-jl/">Back to the overview</a>
</html>
"""

log = logging.getLogger("mkdocs.hooks.julia_pages")


def on_post_build(config):
    target = Path(config.site_dir, "julia")
    shutil.rmtree(target, ignore_errors=True)
    if (BUILT / "index.html").is_file():
        shutil.copytree(BUILT, target)
        return
    target.mkdir(parents=True)
    (target / "index.html").write_text(MISSING, encoding="utf-8")
    log.info("%s is missing: the site says that the Julia reference was not built", BUILT)

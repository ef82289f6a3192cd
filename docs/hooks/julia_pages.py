"""MkDocs hook: put the reference of MobileNets.jl, built by Documenter, under julia/ of the site.

Documenter's pages load fonts, icons and scripts from content delivery networks. The site must work
without a network, so these are taken out; what the script for the sidebar did, `MENU` does.
"""

import functools
import logging
import re
import shutil
from pathlib import Path

BUILT = Path("julia/docs/build")
MISSING = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<link rel="icon" href="../assets/images/favicon.png"><title>MobileNets.jl</title>
<h1>MobileNets.jl</h1>
<p>The reference of the Julia package is not part of this build of the site, because Julia was not
installed where it was built. Every docstring is available in Julia: <code>?MobileNets.load</code>.
<p><a href="../mobilenets-jl/">Back to the overview</a>
</html>
"""
MENU = """<script>
document.getElementById("documenter-sidebar-button")?.addEventListener("click", event => {
  event.preventDefault();
  document.querySelector(".docs-sidebar").classList.toggle("visible");
});
</script>
<style>
.docs-search-query, #documenter-settings-button { display: none !important; }
#documenter-sidebar-button::before { content: "\\2630"; }
.docs-main { overflow-wrap: anywhere; }
</style>
"""
TAG = re.compile(
    r"""<script[^>]*\ssrc="([^"]*)"[^>]*></script>|<link[^>]*\shref="([^"]*)"[^>]*/?>"""
)

log = logging.getLogger("mkdocs.hooks.julia_pages")


def on_post_build(config):
    target = Path(config.site_dir, "julia")
    shutil.rmtree(target, ignore_errors=True)
    if not (BUILT / "index.html").is_file():
        target.mkdir(parents=True)
        (target / "index.html").write_text(MISSING, encoding="utf-8")
        log.info("%s is missing: the site says that the Julia reference was not built", BUILT)
        return
    shutil.copytree(BUILT, target)
    for page in target.rglob("*.html"):
        html = TAG.sub(
            functools.partial(existing_tag, page.parent), page.read_text(encoding="utf-8")
        )
        page.write_text(html.replace("</body>", f"{MENU}</body>"), encoding="utf-8")


def existing_tag(folder, tag):
    """The tag, or nothing if the file that it loads is not in the site."""
    path = tag[1] or tag[2]
    return tag[0] if (folder / path).is_file() else ""

"""What all pages share: the look, the frame, tables and numbers."""

from __future__ import annotations

import html
import json
from collections.abc import Iterable, Sequence
from typing import Any

PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#b58900", "#7a5195", "#8c8c8c")
"""Colours of Okabe and Ito, told apart by colour-blind readers; the first is for what matters."""

_STYLE = """
:root{color-scheme:light dark;
--page:#f5f6f8;--card:#fff;--ink:#1c2430;--soft:#5b6675;--line:#dfe3e8;
--dot:#aab4c0;--accent:#0072b2;--accent-ink:#005a8e;--warm:#d55e00;--band:#0072b2;--good:#00795a}
@media(prefers-color-scheme:dark){:root{--page:#12161c;--card:#1b212a;--ink:#e6eaf0;--soft:#9aa6b5;
--line:#303945;--dot:#566273;--accent:#56b4e9;--accent-ink:#8ccbf2;--warm:#f0883e;--band:#9aa6b5;
--good:#3ecf9f}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);font:15px/1.55 system-ui,-apple-system,
"Segoe UI",Roboto,"Helvetica Neue",Arial,"DejaVu Sans",sans-serif;-webkit-text-size-adjust:100%}
main,header,footer{max-width:1180px;margin:0 auto;padding:0 24px}
header{padding-top:36px;padding-bottom:8px}
h1{font-size:28px;line-height:1.2;margin:0 0 6px;letter-spacing:-.01em;overflow-wrap:anywhere}
h2{font-size:18px;margin:0 0 4px}
p{margin:0 0 12px;max-width:75ch}
.soft,figcaption,.sub{color:var(--soft)}
.sub{margin:0;font-size:16px}
.card{background:var(--card);border:1px solid var(--line);border-radius:12px;padding:20px 22px;
margin:18px 0;min-width:0}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(190px,1fr));gap:14px;margin:18px 0}
.tiles .card{margin:0;padding:16px 18px}
.tiles strong{display:block;font-size:27px;line-height:1.2;font-weight:650;
font-variant-numeric:tabular-nums}
.tiles span{color:var(--soft);font-size:14px}
.two{display:grid;grid-template-columns:1fr 1fr;gap:18px}
.two>.card{margin:0}
svg{display:block;width:100%;height:auto;overflow:visible}
svg text{fill:var(--soft);font-size:12px}
.scroll{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-size:14px}
th,td{text-align:left;padding:7px 12px 7px 0;border-bottom:1px solid var(--line);vertical-align:top}
th{color:var(--soft);font-weight:600}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
td.n b{color:var(--good)}
td code{overflow-wrap:anywhere}
code{font:13px ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace}
.legend{display:flex;flex-wrap:wrap;gap:4px 18px;font-size:13px;margin:10px 0;color:var(--soft)}
.legend svg{display:inline-block;width:22px;height:12px;margin-right:6px;vertical-align:-1px}
.empty{color:var(--soft);border:1px dashed var(--line);border-radius:8px;padding:22px;margin:10px 0}
.note{border-left:4px solid var(--warm);padding:2px 0 2px 12px}
#tip{position:fixed;z-index:9;pointer-events:none;background:var(--ink);color:var(--card);
border-radius:6px;padding:4px 9px;font-size:13px;max-width:300px;
overflow-wrap:anywhere;display:none}
footer{padding-top:6px;padding-bottom:40px;font-size:13px;color:var(--soft)}
@media(max-width:820px){.two{grid-template-columns:1fr}main,header,footer{padding-left:14px;
padding-right:14px}.card{padding:16px}h1{font-size:23px}svg text{font-size:14px}}
@media print{body{background:#fff}.card{break-inside:avoid}}
"""

_HOVER = """
const names=JSON.parse(document.getElementById('names').textContent);
const tip=document.getElementById('tip');
const show=e=>{const t=e.target.closest&&e.target.closest('[data-t]');
if(!t){tip.style.display='none';return}
tip.textContent=names[+t.dataset.t];tip.style.display='block';
const x=Math.min(e.clientX+14,innerWidth-tip.offsetWidth-8);
const y=e.clientY+18+tip.offsetHeight>innerHeight?e.clientY-tip.offsetHeight-10:e.clientY+18;
tip.style.left=Math.max(x,4)+'px';tip.style.top=y+'px'};
document.addEventListener('pointermove',show);
document.addEventListener('pointerdown',show);
document.addEventListener('scroll',()=>{tip.style.display='none'},{passive:true});
document.documentElement.dataset.ready='yes';
"""


def page(
    title: str, subtitle: str, body: str, *, names: Sequence[str] = (), style: str = ""
) -> str:
    """Return a whole HTML document; title and subtitle are text, ``body`` is HTML.

    Parameters
    ----------
    names
        Texts shown beside the pointer over elements with ``data-t`` (an index into them).
    style
        CSS of this page alone.
    """
    # A "<" in JSON could end the script element.
    texts = json.dumps(list(names), ensure_ascii=False).replace("<", "\\u003c")
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<link rel="icon" href="data:,">'
        f"<title>{text(title)}</title><style>{_STYLE}{style}</style></head>\n<body>"
        f'<header><h1>{text(title)}</h1><p class="sub">{text(subtitle)}</p></header>\n'
        f"<main>{body}</main>\n"
        "<footer>Made by napari-activeft. This page holds everything it shows and loads nothing."
        '</footer><div id="tip" role="status"></div>'
        f'<script type="application/json" id="names">{texts}</script>'
        f"<script>{_HOVER}</script></body></html>\n"
    )


def text(content: object) -> str:
    """Return content with ``<``, ``>``, ``&`` and quotes made harmless."""
    return html.escape(str(content), quote=True)


def card(heading: str, body: str, lead: str = "") -> str:
    """Return a section with a heading, a sentence and HTML."""
    sentence = f'<p class="soft">{text(lead)}</p>' if lead else ""
    return f'<section class="card"><h2>{text(heading)}</h2>{sentence}{body}</section>\n'


def empty(sentence: str) -> str:
    """Return what stands where there is nothing to show."""
    return f'<div class="empty">{text(sentence)}</div>'


def table(head: Sequence[str], rows: Iterable[Sequence[str]], numbers: Sequence[int] = ()) -> str:
    """Return a table of HTML cells; the columns in ``numbers`` are set to the right."""

    def line(tag: str, cells: Sequence[str]) -> str:
        kinds = (' class="n"' if at in numbers else "" for at in range(len(cells)))
        return "".join(f"<{tag}{k}>{c}</{tag}>" for k, c in zip(kinds, cells, strict=True))

    body = "".join(f"<tr>{line('td', row)}</tr>" for row in rows)
    top = f"<thead><tr>{line('th', [text(each) for each in head])}</tr></thead>" if head else ""
    return f'<div class="scroll"><table>{top}<tbody>{body}</tbody></table></div>'


def number(value: float | None, digits: int = 3) -> str:
    """Return a number for readers; a dash where there is none."""
    if value is None or value != value:
        return "–"
    return f"{value:.{digits}f}"


def share(value: float | None) -> str:
    """Return a share as per cent; a dash where there is none."""
    return "–" if value is None or value != value else f"{100 * value:.0f} %"


def key_table(pairs: Iterable[tuple[str, Any]]) -> str:
    """Return a table of names and values."""
    return table((), [(text(name), f"<code>{text(value)}</code>") for name, value in pairs])

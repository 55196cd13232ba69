# SPDX-License-Identifier: MIT
"""A report as one HTML page, with its pictures and styles inside."""

from __future__ import annotations

import base64
import datetime
from html import escape
from io import BytesIO

from .._core import __version__
from .._files.access import mark
from .plot import draw
from .report_data import ReportData
from .text import COLOURS, loss_of, reading, summary, table

__all__ = ["PAGE", "fragment", "page"]

START = '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
PAGE = mark("a report made by bptt", START.encode(), b'<div class="bptt-flow">')

STYLE = """
.bptt-flow { font: 16px/1.5 system-ui, "Segoe UI", "DejaVu Sans", sans-serif; color: #1a1a1a;
  background: #fff; max-width: 68rem; margin: 0 auto; padding: 1.5rem; overflow-wrap: break-word; }
.bptt-flow h1 { font-size: 1.6rem; margin: 0 0 .3rem; } .bptt-flow h2 { font-size: 1.2rem;
  margin: 1.8rem 0 .5rem; } .bptt-flow p { margin: .3rem 0; }
.bptt-flow .verdict { border-left: .4rem solid; padding: .5rem .9rem; margin: .7rem 0;
  background: #f6f6f4; } .bptt-flow .verdict b { display: inline-block; margin-right: .6rem; }
.bptt-flow .wide { overflow-x: auto; }
.bptt-flow table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
.bptt-flow th, .bptt-flow td { padding: .3rem .9rem .3rem 0; border-bottom: 1px solid #ddd;
  text-align: right; } .bptt-flow th:first-child { text-align: left; font-weight: 400; }
.bptt-flow thead th { border-bottom: 2px solid #1a1a1a; }
.bptt-flow li { margin: .5rem 0; } .bptt-flow .why { color: #555; display: block; }
.bptt-flow img { width: 100%; height: auto; } .bptt-flow footer { color: #555;
  margin-top: 2rem; font-size: .9rem; }
"""

METHOD = """
<p>The model ran forward and backward over the batch in {dtype}, its own precision, so values that
underflow in training are zero here too. The verdicts rest on a probe: for each sequence, a gradient
of norm 1 enters a layer and direction at its last step. The <b>horizon</b> is the lag at which the
probe has fallen to 1 % of its norm at lag 1 (interpolated in the logarithm). <b>Vanishing</b> means
a horizon shorter than the sequence, and shorter than the task needs, if the need is known;
<b>exploding</b> means a norm over 100 times the norm at lag 1. With a dilation k, norms are
measured at multiples of k, and lag 1 is k. With a skip of s steps, the largest norm of s successive
lags counts, because a skip restores a gradient that has faded in between. The factor of one step
back is the exponential of the median slope of log norms between lags half the range apart (Theil,
1950), over norms that rounding does not disturb. For an LSTM all of this is measured on dL/dc, the
state that carries its memory. A step's <b>share</b> of dL/dW_hh is the projection of its
contribution on the whole gradient, &lt;dW_t, dW&gt; / ||dW||<sup>2</sup>: shares sum to 1, and may
be negative. A unit is <b>saturated</b> within 0.01 of an end of its gate's range. Initialisations
in the advice were tried on this batch, with the same data and seed.</p>
"""


def page(report: ReportData) -> str:
    """A whole HTML document. Raises ImportError without matplotlib."""
    title = escape(f"Gradient flow of {report.model}: {report.verdict}")
    return (
        f'{START}<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title></head>\n<body>{_body(report, _picture(report))}</body></html>\n"
    )


def fragment(report: ReportData) -> str:
    """The body of the page for a notebook; without matplotlib it has no pictures."""
    try:
        picture = _picture(report)
    except ImportError as error:
        picture = f"<p>No pictures: {escape(str(error))}</p>"
    return _body(report, picture)


def _picture(report: ReportData) -> str:
    content = BytesIO()
    draw(report).savefig(content, format="png", dpi=160)
    data = base64.b64encode(content.getvalue()).decode()
    worst = escape("; ".join(report.verdicts))
    return (
        f'<img src="data:image/png;base64,{data}" alt="Norm of the gradient by lag; cumulative '
        f'shares of dL/dW_hh by lag; saturated units by time step. {worst}">'
    )


def _body(report: ReportData, picture: str) -> str:
    names = "".join(f'<th scope="col">{escape(c.name)}</th>' for c in report.cells)
    numbers = "".join(_row(name, values) for name, values in table(report))
    day = datetime.datetime.now(datetime.timezone.utc).date()
    advice = "<p>None: no measurement calls for a change.</p>"
    if report.advice:
        items = (
            f'<li>{escape(a.text)}<span class="why">Why: {escape(a.reason)}</span></li>'
            for a in report.advice
        )
        advice = f"<ol>{''.join(items)}</ol>"
    return f"""<div class="bptt-flow"><style>{STYLE}</style>
<h1>Gradient flow</h1>
<p>{escape(summary(report))}</p>
{"".join(f"<p>{escape(line)}</p>" for line in reading(report))}
<p>{escape(loss_of(report))}</p>
{"".join(_verdict(c.name, v) for c, v in zip(report.cells, report.verdicts))}
<h2>Advice</h2>
{advice}
<h2>Pictures</h2>
{picture}
<h2>Numbers</h2>
<div class="wide"><table><thead><tr><th></th>{names}</tr></thead><tbody>{numbers}</tbody></table>
</div>
<h2>How this was computed</h2>
{METHOD.format(dtype=report.dtype)}
<footer>bptt {__version__}, {day}</footer>
</div>
"""


def _verdict(name: str, sentence: str) -> str:
    colour = COLOURS[sentence.split(":")[0]]
    kind, _, rest = sentence.partition(":")
    return (
        f'<p class="verdict" style="border-color: {colour}"><b>{escape(name)}</b>'
        f'<b style="color: {colour}">{escape(kind)}</b>{escape(rest.strip())}</p>'
    )


def _row(name: str, values: list[str]) -> str:
    cells = "".join(f"<td>{escape(v)}</td>" for v in values)
    return f'<tr><th scope="row">{escape(name)}</th>{cells}</tr>'

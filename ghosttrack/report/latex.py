"""LaTeX of tables, figures and a document that shows them; every text is escaped."""

import re
from collections.abc import Iterable

import pandas as pd

from ghosttrack.report.sheet import spelled

SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "–": "--",
    "'": r"\textquotesingle{}",
    "≥": r"$\geq$",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}
"""Characters that mean something, and how they are written."""
DOCUMENT = r"""\documentclass{{article}}
\usepackage[T1]{{fontenc}}
\usepackage[utf8]{{inputenc}}
\usepackage{{booktabs,graphicx,textcomp}}
\usepackage[margin=2cm]{{geometry}}
\begin{{document}}
{body}
\end{{document}}
"""
TABLE = r"""\begin{{table}}[htbp]
\centering
\caption{{{caption}}}
\label{{tab:{label}}}
\resizebox{{\ifdim\width>\linewidth\linewidth\else\width\fi}}{{!}}{{%
\begin{{tabular}}{{{kinds}}}
\toprule
{header} \\
\midrule
{rows}
\bottomrule
\end{{tabular}}}}
\end{{table}}
"""
FIGURE = r"""\begin{{figure}}[htbp]
\centering
\includegraphics[width={width}\linewidth]{{{name}}}
\caption{{{caption}}}
\label{{fig:{name}}}
\end{{figure}}
"""


def escaped(text: str) -> str:
    r"""Write a text so that LaTeX prints it.

    >>> print(escaped("p>0.5 & 50 %_{x}"))
    p\textgreater{}0.5 \& 50 \%\_\{x\}
    """
    line = " ".join(text.split())  # an empty line would end a cell's or a caption's paragraph
    return re.sub(r"[\\~^<>|–'≥&%$#_{}]", lambda match: SPECIAL[match[0]], line)


def table(sheet: pd.DataFrame, label: str, caption: str) -> str:
    """Write a table with rules of `booktabs`; one wider than the line is made to fit."""
    said = spelled(sheet)
    header, *rows = (" & ".join(map(escaped, line)) for line in (said.columns, *said.rows))
    return TABLE.format(
        caption=caption,
        label=label,
        kinds="".join("l" if is_text else "r" for is_text in said.is_text),
        header=header,
        rows=" \\\\\n".join(rows) + r" \\",
    )


def figure(name: str, caption: str, width: float) -> str:
    """Include a file of that name, whichever kind LaTeX takes."""
    return FIGURE.format(name=name, caption=caption, width=width)


def document(parts: Iterable[str]) -> str:
    """Show files that lie beside the document."""
    return DOCUMENT.format(body="\n".join(rf"\input{{{part}}}" for part in parts))

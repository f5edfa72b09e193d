"""The style of a report: light and dark, from a phone to a desktop, on paper too.

Text has a contrast of at least 4.5 to its ground, also within the darkest cell of the matrix.
"""

CSS = """
:root { color-scheme: light dark; --ground: #ffffff; --text: #1b1d21; --dim: #565b63;
  --line: #d5d8dd; --accent: #0b57d0; --wrong: #b3261e; --cell: 11 87 208; }
@media (prefers-color-scheme: dark) {
  :root { --ground: #14161a; --text: #e8eaed; --dim: #b3b8c1; --line: #3c4149;
    --accent: #8ab4f8; --wrong: #ff8a80; --cell: 138 180 248; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 72rem; padding: 1rem; background: var(--ground);
  color: var(--text); font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.25rem; margin: 0; } h2 { font-size: 1.25rem; margin: 2rem 0 .5rem; }
h3 { font-size: 1rem; margin: 1.25rem 0 .5rem; }
.figure { font-size: 2.5rem; font-weight: 600; line-height: 1.2; margin: .5rem 0 0; }
.dim, figcaption { color: var(--dim); } p { margin: .25rem 0; max-width: 46rem; }
li { margin: .5rem 0; max-width: 46rem; }
code { display: block; margin: .25rem 0; padding: .35rem .5rem; border: 1px solid var(--line);
  border-radius: .25rem; font: .875rem/1.5 ui-monospace, monospace; }
td .dim { font-size: .875rem; }
a { color: var(--accent); } .wrong { color: var(--wrong); font-weight: 600; }
.wide { overflow-x: auto; } table { border-collapse: collapse; }
th, td { border: 1px solid var(--line); padding: .35rem .6rem; text-align: right; }
th { font-weight: 600; } th[scope=row], .left { text-align: left; }
table:not(.matrix) td, thead th { white-space: nowrap; } .matrix thead th { white-space: normal; }
.matrix th { max-width: 9rem; min-width: 3.5rem; }
.matrix td { background: rgb(var(--cell) / calc(var(--share, 0) * .3)); min-width: 3rem; }
.matrix a { display: block; min-height: 1.5rem; color: inherit; }
.shots { display: grid; gap: .75rem; grid-template-columns: repeat(auto-fill, minmax(8rem, 1fr)); }
figure { margin: 0; } .shots img { width: 100%; aspect-ratio: 1; object-fit: contain;
  background: var(--line); } figcaption { font-size: .875rem; }
.chart { max-width: 40rem; } .chart > svg { width: 100%; height: auto; display: block; }
.chart text { fill: var(--text); font-size: 13px; } .chart span { margin-right: 1rem; }
.key { width: 24px; height: 8px; } .grid { stroke: var(--line); }
.curve { fill: none; stroke: var(--accent); stroke-width: 2.5; }
.curve-1 { stroke: var(--wrong); stroke-dasharray: 6 4; }
.mark { stroke: var(--text); stroke-dasharray: 2 3; }
:target { outline: 2px solid var(--accent); outline-offset: .5rem; }
@media (max-width: 30rem) { th, td { padding: .3rem .4rem; }
  .shots { grid-template-columns: repeat(auto-fill, minmax(6.5rem, 1fr)); } }
"""

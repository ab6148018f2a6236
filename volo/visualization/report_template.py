"""The template of a report's page, for jinja2."""

STYLE = """
:root { --ink: #0f172a; --soft: #475569; --line: #e2e8f0; --blue: #2563eb; }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body {
  margin: 0 auto; padding: 24px 20px 64px; max-width: 1160px; background: #fff;
  color: var(--ink); font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto,
    "Helvetica Neue", Arial, sans-serif;
}
h1 { margin: 0; font-size: 28px; line-height: 1.2; letter-spacing: -0.02em;
  overflow-wrap: anywhere; }
h2 { margin: 48px 0 4px; font-size: 20px; letter-spacing: -0.01em; }
h3 { margin: 24px 0 8px; font-size: 15px; }
p { margin: 0 0 12px; color: var(--soft); max-width: 80ch; }
header > p { margin-top: 6px; max-width: none; }
code { font: 13px ui-monospace, SFMono-Regular, Menlo, Consolas, monospace;
  overflow-wrap: anywhere; }
svg { display: block; width: 100%; height: auto; }
svg text { font-family: system-ui, -apple-system, "Segoe UI", Roboto, Arial,
  sans-serif !important; }
.cards { display: grid; gap: 12px; margin-top: 20px;
  grid-template-columns: repeat(auto-fit, minmax(148px, 1fr)); }
.card { padding: 12px 14px; border: 1px solid var(--line); border-radius: 10px; }
.card b { display: block; font-size: 24px; line-height: 1.2;
  font-variant-numeric: tabular-nums; letter-spacing: -0.01em; }
.card span { font-size: 13px; color: var(--soft); }
.card:first-child { background: #eff6ff; border-color: #bfdbfe; }
.card:first-child b { color: #1d4ed8; }
.panels { display: grid; gap: 20px; margin-top: 12px;
  grid-template-columns: repeat(auto-fill, minmax(310px, 1fr)); }
figure { margin: 0; }
figcaption { font-size: 13px; font-weight: 600; }
.scroll { overflow-x: auto; max-height: 720px; }
table { width: 100%; border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: 6px 10px; border-bottom: 1px solid var(--line); text-align: left;
  vertical-align: middle; }
th { position: sticky; top: 0; background: #fff; font-size: 13px; color: var(--soft);
  font-weight: 600; white-space: nowrap; }
.num { text-align: right; white-space: nowrap; }
.bar { width: 24%; min-width: 80px; }
.bar i { display: block; height: 8px; border-radius: 4px; background: var(--blue); }
.bar span { display: block; border-radius: 4px; background: #f1f5f9; }
tfoot td { position: sticky; bottom: 0; background: #fff; font-weight: 600;
  border-top: 1px solid var(--line); border-bottom: 0; }
.swatch { display: inline-block; width: 13px; height: 13px; margin-right: 7px;
  border-radius: 3px; vertical-align: -2px; box-shadow: inset 0 0 0 1px #0002; }
td .swatch { margin-left: -20px; }
table:has(.swatch) .class { padding-left: 30px; }
nav { display: flex; flex-wrap: wrap; gap: 4px 18px; margin-top: 16px;
  font-size: 14px; }
a { color: var(--blue); text-decoration: none; }
a:hover { text-decoration: underline; }
.legend { display: flex; flex-wrap: wrap; gap: 4px 16px; margin: 8px 0 16px;
  font-size: 13px; }
.matrix { display: grid; gap: 24px 36px; grid-template-columns: 1.6fr 1fr;
  align-items: start; }
.example { margin: 0 0 20px; }
.example header { display: flex; justify-content: space-between; gap: 12px;
  margin-bottom: 4px; font-size: 13px; }
.example header span { color: var(--soft); overflow-wrap: anywhere; }
.example header b { white-space: nowrap; }
.four { display: grid; gap: 6px; grid-template-columns: repeat(4, 1fr); }
.four figcaption { font-weight: 400; color: var(--soft); font-size: 12px; }
.many { display: grid; gap: 16px;
  grid-template-columns: repeat(auto-fill, minmax(165px, 1fr)); }
.many figcaption { font-weight: 400; line-height: 1.4; margin-top: 4px;
  overflow-wrap: anywhere; }
.many img { aspect-ratio: 1; object-fit: contain; background: #f1f5f9; }
.many small { color: var(--soft); }
img { display: block; width: 100%; height: auto; border-radius: 6px; }
.two { display: grid; gap: 24px 36px; grid-template-columns: minmax(0, 470px) 1fr;
  align-items: start; }
.facts td:first-child { width: 34%; color: var(--soft); }
@media (max-width: 720px) {
  body { padding: 20px 14px 48px; }
  h1 { font-size: 23px; }
  h2 { margin-top: 36px; }
  .matrix, .two { grid-template-columns: minmax(0, 1fr); }
  .drawn { overflow-x: auto; }
  .drawn svg { min-width: 500px; }
  .four { grid-template-columns: repeat(2, 1fr); }
  .many { grid-template-columns: repeat(2, 1fr); }
  .cards { grid-template-columns: repeat(2, 1fr); }
  .bar { display: none; }
  th, td { padding: 6px 3px; }
  th, th.num { white-space: normal; vertical-align: bottom; }
  table { font-size: 13px; }
  th { font-size: 11.5px; }
  table:has(.swatch) .class { padding-left: 22px; }
  .panels { gap: 14px; }
}
@media print { h2 { break-after: avoid; } .example, figure { break-inside: avoid; } }
"""

TEMPLATE = (
    """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}: report</title>
<style>"""
    + STYLE
    + """</style>
</head>
<body>
<header>
  <h1>{{ title }}</h1>
  <p>{{ report.task|capitalize }} into {{ names|length }} classes. Measured on
  {{ '{:,}'.format(report.samples) }} images of <code>{{ report.split }}</code> with
  <code>{{ report.checkpoint_name }}</code>, {{ date }}.</p>
  <div class="cards">
  {% for value, label in cards %}
    <div class="card"><b>{{ value }}</b><span>{{ label }}</span></div>
  {% endfor %}
  </div>
  <nav>
  {% for part in (
    'Training', 'Classes', 'Confusion', 'Images', 'Calibration', 'Model') %}
    <a href="#{{ part|lower }}">{{ part }}</a>
  {% endfor %}
  </nav>
</header>

<h2 id="training">Training</h2>
{% if curves %}
<p>Strong lines are running means of what training logged; dots are validations.</p>
<div class="panels">
{% for name, svg in curves %}
  <figure><figcaption>{{ name }}</figcaption>{{ svg }}</figure>
{% endfor %}
</div>
{% else %}
<p>The work dir has no logs of a training.</p>
{% endif %}

<h2 id="classes">Classes</h2>
<p>In percent. Accuracy is the share of a class's {{ report.unit }} that is predicted
right, its recall; precision is the share of its predictions that is right.
{% if undefined %}"–" marks a class that was never predicted or does not occur; means
leave it out.{% endif %}</p>
<div class="scroll">
<table>
<thead><tr><th class="class">Class</th><th class="bar"></th>
{% for key, heading in columns %}
<th class="num">{{ heading }}</th>
{% endfor %}
<th class="num">{{ 'Pixels' if segmentation else 'Images' }}</th></tr></thead>
<tbody>
{% for row, color in rows %}
<tr><td class="class">
{%- if segmentation %}<i class="swatch" style="background:{{ color }}"></i>{% endif %}
{{- row.name }}</td>
<td class="bar"><span>
<i style="width:{{ (100 * (row[columns[0][0]] or 0))|round(1) }}%"></i></span></td>
{% for key, heading in columns %}
<td class="num">{{ row[key]|percent }}</td>
{% endfor %}
<td class="num">
{%- if segmentation %}{{ '%.1f'|format(100 * row.count / (total or 1)) }}
{%- else %}{{ '{:,}'.format(row.count) }}{% endif %}</td></tr>
{% endfor %}
</tbody>
<tfoot><tr><td class="class">Mean</td><td class="bar"></td>
{% for key, heading in columns %}
<td class="num">{{ report.class_means[key]|percent }}</td>
{% endfor %}
<td></td></tr></tfoot>
</table>
</div>

<h2 id="confusion">Confusion</h2>
<p>Rows are the truth, columns the prediction, in percent of the row.</p>
<div class="matrix">
<div class="drawn">{{ confusion }}</div>
<div>
<h3>Most frequent confusions</h3>
{% if confusions %}
<table>
<thead><tr><th>Truth</th><th>Predicted as</th><th class="num">%</th></tr></thead>
<tbody>
{% for pair in confusions %}
<tr><td>{{ pair.truth }}</td><td>{{ pair.prediction }}</td>
<td class="num">{{ '%.1f'|format(100 * pair.share) }}</td></tr>
{% endfor %}
</tbody>
</table>
{% else %}
<p>None: every prediction is right.</p>
{% endif %}
</div>
</div>

<h2 id="images">Images</h2>
{% if segmentation %}
<p>Ranked by the mean IoU over the classes in an image. The difference marks wrong
pixels in red.</p>
<div class="legend">
{% for name in names %}
  {% if loop.index0 in report.shown_classes %}
  <span><i class="swatch" style="background:{{ colors[loop.index0] }}"></i>
  {{- name }}</span>
  {% endif %}
{% endfor %}
  <span><i class="swatch" style="background:#e2e8f0"></i>no label</span>
  <span><i class="swatch" style="background:#dc2626"></i>wrong (difference)</span>
</div>
{% else %}
<p>Ranked by the probability of the true class.</p>
{% endif %}
{% for heading, examples in groups %}
<h3>{{ heading }}</h3>
{% if segmentation %}
{% for sample, uris in examples %}
<div class="example">
  <header><span title="{{ sample.path }}">{{ sample.path|short }}</span>
  <b>IoU {{ '%.1f'|format(100 * sample.score) }}</b></header>
  <div class="four">
  {% for part, uri in uris.items() %}
    <figure><img loading="lazy" alt="{{ part }}" src="{{ uri }}">
    <figcaption>{{ part }}</figcaption></figure>
  {% endfor %}
  </div>
</div>
{% endfor %}
{% else %}
<div class="many">
{% for sample, uris in examples %}
<figure><img loading="lazy" alt="{{ sample.truth }}" src="{{ uris.image }}">
<figcaption>{% if sample.truth == sample.prediction %}
<b>{{ sample.truth }}</b>, {{ '%.1f'|format(100 * sample.score) }}%
{% else %}
<b>{{ sample.truth }}</b>, {{ '%.1f'|format(100 * sample.score) }}%<br>
predicted <b>{{ sample.prediction }}</b>,
{{ '%.1f'|format(100 * sample.confidence) }}%
{% endif %}<br>
<small title="{{ sample.path }}">{{ sample.path|short }}</small></figcaption></figure>
{% endfor %}
</div>
{% endif %}
{% endfor %}

<h2 id="calibration">Calibration</h2>
<div class="two">
<div>{{ reliability }}</div>
<div>
<p>A calibrated model is right in 80% of the {{ report.unit }} where its confidence is
0.8: its bars end at the dashed line. Red marks where accuracy falls short of the
confidence, dark blue where it exceeds it.</p>
<p>The expected calibration error (ECE), the mean distance from the line, is
<b>{{ '%.4f'|format(report.calibration.ece) }}</b>, from
{{ report.calibration.bins|length }} bins and
{{ '{:,}'.format(report.calibration.count) }} {{ report.unit }}.</p>
</div>
</div>

<h2 id="model">Model and versions</h2>
<table class="facts">
<tbody>
<tr><td>Parameters</td><td>{{ '{:,}'.format(report.model.parameters) }}</td></tr>
<tr><td>Multiply-adds</td><td>{{ '%.2f'|format(report.model.gmac) }} GMACs to predict an
image of {{ report.model.input_size[1] }} x {{ report.model.input_size[0] }}
pixels</td></tr>
<tr><td>Speed</td><td>{{ report.speed.images_per_second|number }} images/s, batches of
{{ report.speed.batch_size }} on {{ report.speed.device }} (threads:
{{ report.speed.threads }}), without loading and metrics</td></tr>
<tr><td>Checkpoint</td><td><code>{{ report.checkpoint }}</code>
{%- if report.trained %}<br>{{ report.trained }}{% endif %}</td></tr>
<tr><td>Config</td><td><code>{{ report.config }}</code></td></tr>
<tr><td>Command</td><td><code>{{ report.command }}</code></td></tr>
{% for name, version in report.versions.items() %}
<tr><td>{{ name }}</td><td>{{ version }}</td></tr>
{% endfor %}
</tbody>
</table>
</body>
</html>
"""
)

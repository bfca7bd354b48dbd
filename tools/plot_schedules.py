"""The picture of every schedule in docs/schedules.md, drawn from the schedules themselves."""

from steepest.schedules import parse

SHOWN = [
    "linear()",
    "cosine()",
    "polynomial(2.0)",
    "one_minus_sqrt()",
    "inverse_sqrt(7)",
    "warmup(0.2)",
    "warmup(0.2) * cosine()",
    "sequence((0.2, warmup()), linear())",
    "wsd(0.1, 0.3)",
    "one_cycle()",
    "cyclic(0.2)",
    "restarts(20, growth=2)",
]
STEPS = 140  # 20 + 40 + 80: the three cycles of restarts(20, growth=2)
COLUMNS, WIDTH, HEIGHT = 3, 290, 150  # panels in a row; one panel with its margins, in pixels
LEFT, TOP, RIGHT, BOTTOM = 30, 34, 14, 22  # margins of a panel


def picture() -> str:
    """Return the SVG: one panel for each schedule, its factor over a run of `STEPS` steps."""
    rows = -(-len(SHOWN) // COLUMNS)
    width, height = COLUMNS * WIDTH, rows * HEIGHT
    panels = [_panel(text, index % COLUMNS * WIDTH, index // COLUMNS * HEIGHT) for index, text in enumerate(SHOWN)]
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">\n'
        "<title>The factor of the learning rate over a run, for each schedule</title>\n"
        "<style>\n"
        "  text { font: 11px ui-monospace, Menlo, 'DejaVu Sans Mono', monospace; fill: #59636e; }\n"
        "  .name { font-size: 12px; fill: #1f2328; }\n"
        "  .axis { stroke: #d1d9e0; fill: none; }\n"
        "  .rate { stroke: #0969da; stroke-width: 2; stroke-linejoin: round; fill: none; }\n"
        "</style>\n"
        f'<rect width="{width}" height="{height}" rx="6" fill="#ffffff"/>\n'
    )
    return head + "".join(panels) + "</svg>\n"


def _panel(text: str, x: int, y: int) -> str:
    schedule = parse(text)
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    points = " ".join(
        f"{LEFT + (right - LEFT) * step / (STEPS - 1):.1f},{bottom - (bottom - TOP) * schedule(step, STEPS):.1f}"
        for step in range(STEPS)
    )
    return (
        f'<g transform="translate({x} {y})">\n'
        f'  <text class="name" x="{LEFT}" y="{TOP - 12}">{text}</text>\n'
        f'  <path class="axis" d="M{LEFT} {TOP}H{right}M{LEFT} {bottom}H{right}"/>\n'
        f'  <text x="{LEFT - 12}" y="{TOP + 4}">1</text><text x="{LEFT - 12}" y="{bottom + 4}">0</text>\n'
        f'  <text x="{LEFT}" y="{bottom + 15}">first step</text>'
        f'<text x="{right}" y="{bottom + 15}" text-anchor="end">last</text>\n'
        f'  <polyline class="rate" points="{points}"/>\n'
        "</g>\n"
    )

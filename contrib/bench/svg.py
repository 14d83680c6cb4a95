"""A small writer of plots: lines over logarithmic axes and grouped bars, legible on a light and on a dark page."""
import math
from xml.sax.saxutils import escape

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 760, 420, 70, 30, 44, 92
STYLE = """
text { font: 13px sans-serif; fill: #24292f; } .title { font-size: 15px; font-weight: bold; } .paper { fill: #ffffff; }
.grid { stroke: #d0d7de; stroke-width: 1; } .axis { stroke: #57606a; stroke-width: 1; }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3; } .paper { fill: #0d1117; } .grid { stroke: #30363d; } .axis { stroke: #8b949e; }
}
"""
# Colours that keep their contrast on both pages; the floors and the direct run are drawn in grey, since they are no contestants.
LOOK = {
    "aegis epoll": ("#2f81f7", ""),
    "aegis io_uring": ("#a371f7", ""),
    "aegis epoll, pool": ("#2f81f7", "6 3"),
    "aegis io_uring, pool": ("#a371f7", "6 3"),
    "nginx": ("#2da44e", ""),
    "haproxy": ("#e0752d", ""),
    "floor epoll": ("#8c959f", "6 3"),
    "floor io_uring": ("#8c959f", "2 3"),
    "floor splice": ("#8c959f", "9 3 2 3"),
    "floor pool": ("#8c959f", "9 3"),
    "floor udp": ("#8c959f", "6 3"),
    "direct": ("#8c959f", "1 4"),
}


def look(name):
    return LOOK.get(name, ("#8c959f", ""))


class Canvas:
    def __init__(self, title):
        self.parts = [f'<text class="title" x="{WIDTH / 2}" y="24" text-anchor="middle">{escape(title)}</text>']

    def line(self, x1, y1, x2, y2, kind):
        self.parts.append(f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>')

    def text(self, x, y, text, anchor="middle", extra=""):
        self.parts.append(f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" {extra}>{escape(text)}</text>')

    def legend(self, names, bars=False):
        x, y = LEFT, HEIGHT - 30
        for name in names:
            width = 46 + 7.4 * len(name)
            if x + width > WIDTH - RIGHT:
                x, y = LEFT, y + 18
            colour, dashes = look(name)
            if bars:
                self.parts.append(f'<rect x="{x}" y="{y - 10}" width="20" height="11" fill="{colour}" {texture(name)}/>')
            else:
                self.parts.append(f'<line x1="{x}" y1="{y - 4}" x2="{x + 22}" y2="{y - 4}" stroke="{colour}" stroke-width="2.5" '
                                  f'stroke-dasharray="{dashes}"/>')
            self.text(x + 27, y, name, "start")
            x += width

    def render(self):
        return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}">\n'
                f'<style>{STYLE}</style>\n<rect class="paper" width="{WIDTH}" height="{HEIGHT}"/>\n' + "\n".join(self.parts) + "\n</svg>\n")


def texture(name):
    """Bars that share a colour differ in strength."""
    return {"floor io_uring": 'fill-opacity="0.6"', "floor splice": 'fill-opacity="0.3"'}.get(name, "")


def spelled(value):
    powers = (1 << 20, 1 << 10) if value % 1024 == 0 else (10**6, 10**3)
    for size, unit in zip(powers, "Mk"):
        if value >= size:
            return f"{value / size:g}{unit}"
    return f"{value:g}"


def log_ticks(low, high):
    """1, 2, 5 in every decade, thinned out over many decades."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    steps = (1, 1.5, 2, 3, 5, 7) if high / low < 12 else (1, 2, 5) if high / low < 300 else (1,)
    return [step * 10.0**decade for decade in decades for step in steps if low * 0.999 <= step * 10.0**decade <= high * 1.001]


def lines(title, x_label, y_label, curves):
    """`curves` is {name: [(x, y)]}; both axes are logarithmic."""
    canvas = Canvas(title)
    xs = sorted({x for points in curves.values() for x, _ in points})
    ys = [y for points in curves.values() for _, y in points if y > 0]
    low_x, high_x = xs[0], max(xs[-1], xs[0] * 2)
    low_y, high_y = min(ys) / 1.15, max(ys) * 1.15
    place_x = lambda x: LEFT + math.log(x / low_x) / math.log(high_x / low_x) * (WIDTH - LEFT - RIGHT)
    place_y = lambda y: HEIGHT - BOTTOM - math.log(y / low_y) / math.log(high_y / low_y) * (HEIGHT - TOP - BOTTOM)
    for tick in log_ticks(low_y, high_y):
        canvas.line(LEFT, place_y(tick), WIDTH - RIGHT, place_y(tick), "grid")
        canvas.text(LEFT - 6, place_y(tick) + 4, spelled(tick), "end")
    for tick in xs:
        canvas.line(place_x(tick), TOP, place_x(tick), HEIGHT - BOTTOM, "grid")
        canvas.text(place_x(tick), HEIGHT - BOTTOM + 17, spelled(tick))
    canvas.line(LEFT, HEIGHT - BOTTOM, WIDTH - RIGHT, HEIGHT - BOTTOM, "axis")
    canvas.line(LEFT, TOP, LEFT, HEIGHT - BOTTOM, "axis")
    canvas.text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - BOTTOM + 36, x_label)
    canvas.text(18, (TOP + HEIGHT - BOTTOM) / 2, y_label, extra=f'transform="rotate(-90 18 {(TOP + HEIGHT - BOTTOM) / 2:.0f})"')
    for name, points in curves.items():
        colour, dashes = look(name)
        points = [(place_x(x), place_y(y)) for x, y in sorted(points) if y > 0]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        canvas.parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2.5" stroke-dasharray="{dashes}"/>')
        canvas.parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in points]
    canvas.legend(curves)
    return canvas.render()


def bars(title, y_label, groups, names):
    """`groups` is [(label, {name: value})], drawn from 0 on a linear axis, with a line at 1.00, the better peer."""
    canvas = Canvas(title)
    names = [name for name in names if any(name in figures for _, figures in groups)]
    highest = max([1.0] + [value for _, figures in groups for value in figures.values()])
    top = min(highest * 1.05, 2.0)
    place_y = lambda y: HEIGHT - BOTTOM - min(y, top) / top * (HEIGHT - TOP - BOTTOM)
    step = 0.25
    for index in range(int(top / step) + 1):
        canvas.line(LEFT, place_y(index * step), WIDTH - RIGHT, place_y(index * step), "grid")
        canvas.text(LEFT - 6, place_y(index * step) + 4, f"{index * step:.2f}", "end")
    slot = (WIDTH - LEFT - RIGHT) / max(1, len(groups))
    width = slot * 0.84 / len(names)
    for number, (label, figures) in enumerate(groups):
        x = LEFT + number * slot + slot * 0.08
        for index, name in enumerate(names):
            if name in figures:
                y = place_y(figures[name])
                canvas.parts.append(f'<rect x="{x + index * width:.1f}" y="{y:.1f}" width="{width * 0.92:.1f}" '
                                    f'height="{HEIGHT - BOTTOM - y:.1f}" fill="{look(name)[0]}" {texture(name)}>'
                                    f'<title>{escape(name)}: {figures[name]:.2f}</title></rect>')
        for row, part in enumerate(label.split("\n")):
            canvas.text(LEFT + (number + 0.5) * slot, HEIGHT - BOTTOM + 17 + 15 * row, part)
    canvas.line(LEFT, place_y(1), WIDTH - RIGHT, place_y(1), "axis")
    canvas.line(LEFT, HEIGHT - BOTTOM, WIDTH - RIGHT, HEIGHT - BOTTOM, "axis")
    canvas.text(18, (TOP + HEIGHT - BOTTOM) / 2, y_label, extra=f'transform="rotate(-90 18 {(TOP + HEIGHT - BOTTOM) / 2:.0f})"')
    canvas.legend(names, bars=True)
    return canvas.render()

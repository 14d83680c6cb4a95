/* Charts over time. All share one cursor, so that what happened at one moment can be read off all of them. */

const cursor = { at: null, changed: [] };

function moveCursor(at) {
	if (cursor.at === at)
		return;
	cursor.at = at;
	for (const tell of cursor.changed)
		tell();
}

/* How far a key moves the cursor, of the time that is shown. */
const KEYS = { ArrowLeft: -1 / 60, ArrowRight: 1 / 60, PageUp: -1 / 6, PageDown: 1 / 6, Home: -1, End: 1 };

const AXIS_HEIGHT = 15;
const HEAD_ROOM = 10;

/* A number that reads well, and its half too, not below the value. */
function roundUp(value) {
	const power = 10 ** Math.floor(Math.log10(value));
	for (const step of [1, 1.2, 1.6, 2, 3, 4, 5, 6, 8])
		if (value <= step * power * 1.0001)
			return step * power;
	return 10 * power;
}

/* From zero; the top is never nearer than `least`, so that one stray event does not look like a mountain. */
class LinearScale {
	constructor(most, least) {
		this.top = roundUp(Math.max(most, least));
		this.ticks = [this.top / 2, this.top];
	}

	part(value) {
		return value / this.top;
	}
}

/* Times span decades. */
class LogScale {
	constructor(most, least_of_all) {
		this.low = Math.floor(Math.log10(Math.max(least_of_all, 0.001)) + 1e-9);
		this.high = Math.max(this.low + 1, Math.ceil(Math.log10(Math.max(most, 0.002)) - 1e-9));
		this.ticks = [];
		const step = this.high - this.low > 3 ? 2 : 1;
		for (let power = this.low + step; power <= this.high; power += step)
			this.ticks.push(10 ** power);
	}

	part(value) {
		return (Math.log10(Math.max(value, 0.001)) - this.low) / (this.high - this.low);
	}
}

class Chart {
	/* options: title, format(value), lines: [{ name, label, look, fill, dash }], log, least, choices: [{ label, prefix, title }] */
	constructor(history, options) {
		this.history = history;
		this.options = options;
		this.span = 300;
		this.prefix = options.choices ? options.choices[0].prefix : "";
		this.title = make("h3", "", options.title);
		this.figures = make("dl", "figures");
		this.values = options.lines.map((line) => {
			const value = make("dd", "", NOTHING);
			const key = make("span", `key ${line.look} ${line.dash ?? ""}`), label = make("dt", "", line.label);
			this.figures.append(make("div", "", ...(options.lines.length > 1 ? [key] : []), label, value));
			return { value, label };
		});
		this.svg = makeSvg("svg", { "aria-hidden": "true" });
		this.plot = make("div", "plot", this.svg);
		this.element = make("section", "chart", make("header", "", this.title, ...this.#choices(), this.figures), this.plot);
		this.#reading();
		this.width = 0;
		new ResizeObserver(() => this.draw()).observe(this.plot);
	}

	#choices() {
		if (!this.options.choices)
			return [];
		const buttons = this.options.choices.map((choice) => {
			const button = makeButton(choice.label, () => {
				this.prefix = choice.prefix;
				for (const each of buttons)
					each.setAttribute("aria-pressed", String(each === button));
				this.draw();
			});
			button.title = choice.title;
			button.setAttribute("aria-pressed", String(choice.prefix === this.prefix));
			return button;
		});
		const group = make("div", "choices", ...buttons);
		group.setAttribute("role", "group");
		group.setAttribute("aria-label", `${this.options.title}: which`);
		return [group];
	}

	/* The cursor, by pointer and by keys. To assistive technology the chart is a slider over time; its value is what it shows there. */
	#reading() {
		const plot = this.plot;
		plot.tabIndex = 0;
		plot.setAttribute("role", "slider");
		plot.setAttribute("aria-label", `${this.options.title}, over time`);
		plot.addEventListener("pointermove", (event) => {
			const box = plot.getBoundingClientRect();
			this.#pick(this.now - (1 - (event.clientX - box.left) / box.width) * this.span);
		});
		plot.addEventListener("pointerleave", () => moveCursor(null));
		plot.addEventListener("blur", () => moveCursor(null));
		plot.addEventListener("keydown", (event) => {
			if (event.key === "Escape")
				moveCursor(null);
			if (!(event.key in KEYS))
				return;
			const step = KEYS[event.key] * this.span;
			event.preventDefault();
			this.#pick(Math.min(this.now, Math.max(this.now - this.span, (cursor.at ?? this.now) + step)), step);
		});
		cursor.changed.push(() => this.draw());
	}

	get now() {
		const history = this.history;
		return history.times[history.last] ?? 0;
	}

	/* Onto the nearest answer, and a step at least. */
	#pick(at, step = 0) {
		const times = this.history.times;
		let index = this.#index(at);
		if (step !== 0 && cursor.at === times[index])
			index = Math.max(0, Math.min(times.length - 1, index + Math.sign(step)));
		moveCursor(times[index] ?? null);
	}

	#index(at) {
		const times = this.history.times;
		let index = times.length - 1;
		while (index > 0 && Math.abs(times[index - 1] - at) <= Math.abs(times[index] - at))
			index--;
		return index;
	}

	column(line) {
		return this.history.series[this.prefix + line.name] ?? [];
	}

	draw() {
		const width = this.plot.clientWidth, height = this.plot.clientHeight;
		if (width === 0)
			return;
		this.#say();
		const first = this.#first();
		const scale = this.#scale(first);
		const place = {
			x: (at) => width - (this.now - at) / this.span * width,
			y: (value) => HEAD_ROOM + (1 - scale.part(value)) * (height - AXIS_HEIGHT - HEAD_ROOM),
		};
		const parts = this.#grid(scale, place, width, height);
		for (const line of this.options.lines)
			parts.push(...this.#line(line, first, place, width));
		parts.push(...this.#labels(scale, place), ...this.#cursor(place, width, height));
		attribute(this.svg, "viewBox", `0 0 ${width} ${height}`);
		this.svg.replaceChildren(...parts);
	}

	/* The first answer within the span, and the one before it, so that the line begins at the edge. */
	#first() {
		const times = this.history.times;
		let first = times.length;
		while (first > 0 && times[first - 1] >= this.now - this.span)
			first--;
		return Math.max(0, first - 1);
	}

	#scale(first) {
		let most = 0, least = Infinity;
		for (const line of this.options.lines) {
			const column = this.column(line);
			for (let i = first; i < column.length; i++)
				if (Number.isFinite(column[i])) {
					most = Math.max(most, column[i]);
					least = Math.min(least, column[i]);
				}
		}
		if (this.options.log)
			return new LogScale(most || 1, least === Infinity ? 0.1 : least);
		return new LinearScale(most, this.options.least ?? 1);
	}

	#grid(scale, place, width, height) {
		const across = (name, y) => makeSvg("line", { class: name, x1: 0, x2: width, y1: y, y2: y });
		const parts = scale.ticks.map((value) => across("grid", place.y(value)));
		parts.push(across("base", height - AXIS_HEIGHT));
		for (const [part, anchor] of [[0, "start"], [0.5, "middle"], [1, "end"]]) {
			const ago = (1 - part) * this.span, text = ago === 0 ? "now" : `\u2212${seconds(ago)}`;
			parts.push(makeSvg("text", { x: part * width, y: height - 3, "text-anchor": anchor }, text));
		}
		return parts;
	}

	#labels(scale, place) {
		const text = (value) => this.options.format(value).replace(/\.0(?=\D|$)/, "");
		return scale.ticks.map((value) => makeSvg("text", { class: "on-paper", x: 0, y: place.y(value) + 3.5 }, text(value)));
	}

	/* The points of a line, in pieces: it breaks where answers are missing. One for each pixel at most, the highest there, so that nothing that
	 * happened is lost. */
	#runs(line, first, place, width) {
		const times = this.history.times, column = this.column(line), gap = Math.max(6, 3.5 * pace.period);
		const runs = [];
		let run = null, pixel = -1;
		for (let i = first; i < times.length; i++) {
			if (!Number.isFinite(column[i]) || (run !== null && times[i] - times[i - 1] > gap))
				run = null;
			if (!Number.isFinite(column[i]))
				continue;
			if (run === null)
				runs.push(run = []);
			const x = place.x(times[i]), y = place.y(column[i]);
			if (run.length > 0 && times.length > width && Math.floor(x) === pixel)
				run[run.length - 1][1] = Math.min(run[run.length - 1][1], y);
			else
				run.push([x, y]);
			pixel = Math.floor(x);
		}
		return runs;
	}

	#line(line, first, place, width) {
		const runs = this.#runs(line, first, place, width);
		const at = ([x, y]) => `${Math.max(0, x).toFixed(1)} ${y.toFixed(1)}`;
		const path = (points) => `M${points.map(at).join("L")}${points.length === 1 ? "h1" : ""}`;
		const below = ([x]) => at([x, place.y(0)]);
		const parts = [];
		if (line.fill)
			for (const points of runs) {
				const outline = `${path(points)}L${below(points[points.length - 1])}L${below(points[0])}Z`;
				parts.push(makeSvg("path", { class: `fill ${line.look}`, d: outline }));
			}
		parts.push(makeSvg("path", { class: `series ${line.look} ${line.dash ?? ""}`, d: runs.map(path).join("") }));
		return parts;
	}

	#cursor(place, width, height) {
		if (cursor.at === null || cursor.at < this.now - this.span)
			return [];
		const x = place.x(cursor.at), wall = this.history.walls[this.#index(cursor.at)];
		const anchor = x < 40 ? "start" : x > width - 40 ? "end" : "middle";
		return [
			makeSvg("line", { class: "cursor", x1: x, x2: x, y1: HEAD_ROOM, y2: height - AXIS_HEIGHT }),
			makeSvg("text", { class: "on-paper", x, y: height - 3, "text-anchor": anchor }, clock(wall)),
		];
	}

	/* The figures above the chart: of now, or of where the cursor is. */
	#say() {
		const index = cursor.at === null ? this.history.last : this.#index(cursor.at);
		const words = this.options.lines.map((line, i) => {
			const text = this.options.format(this.column(line)[index] ?? NaN);
			say(this.values[i].value, text);
			say(this.values[i].label, line.label === "now" && cursor.at !== null ? "then" : line.label);
			return `${line.label} ${text}`;
		});
		attribute(this.plot, "aria-valuetext", `${index < 0 ? "" : clock(this.history.walls[index])}: ${words.join(", ")}`);
		attribute(this.plot, "aria-valuemin", String(-this.span));
		attribute(this.plot, "aria-valuemax", "0");
		attribute(this.plot, "aria-valuenow", String(cursor.at === null ? 0 : Math.round(cursor.at - this.now)));
	}
}

/* A small line in a table. */
function drawSpark(cell, values) {
	let svg = cell.firstElementChild;
	if (svg === null)
		cell.append(svg = makeSvg("svg", { class: "spark", viewBox: "0 0 76 16", "aria-hidden": "true" }, makeSvg("path", {})));
	const most = Math.max(1, ...values);
	const x = (i) => 76 - (values.length - 1 - i) * 76 / (SPARK_MOST - 1);
	const points = values.map((value, i) => `${x(i).toFixed(1)} ${(15 - value / most * 14).toFixed(1)}`);
	attribute(svg.firstElementChild, "d", points.length > 1 ? `M${points.join("L")}` : "");
}

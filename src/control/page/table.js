/* A table that is brought up to date in place: sorted by its heads, filtered, grouped, and cut to what a browser can bear. */

const TABLE_ROWS = 100;

/* Names as people sort them; what is not known is less than all that is. */
function compare(a, b) {
	if (typeof a === "string")
		return a.localeCompare(b, "en", { numeric: true });
	return (Number.isNaN(a) ? -1 : a) - (Number.isNaN(b) ? -1 : b);
}

class Table {
	/* options: caption, key(row), columns, group(row) -> key, drawGroup(cell, key), text(row) to filter by, keep(row) to filter by,
	 * empty: what to say without rows.
	 * A column: title, hint, number, value(row) to sort by (none: not sortable), draw(cell, row), more: only with all columns, udp, tls:
	 * only where there are datagrams, or TLS. */
	constructor(options) {
		this.options = options;
		this.rows = [];
		this.sort = { column: null, descending: false };
		this.filter = "";
		this.all = false;
		this.more = false;
		this.kinds = { udp: false, tls: false };
		this.drawn = new Map();
		this.groups = new Map();
		this.table = make("table", "", make("caption", "unseen", options.caption));
		this.head = make("tr", "");
		this.table.append(make("thead", "", this.head));
		const scroll = make("div", "scroll", this.table);
		scroll.tabIndex = 0; /* to scroll it by keys */
		scroll.setAttribute("role", "region");
		scroll.setAttribute("aria-label", options.caption);
		this.empty = make("p", "empty", options.empty);
		this.rest = makeButton("", () => {
			this.all = true;
			this.draw();
		}, "more");
		this.rest.hidden = true;
		this.element = make("div", "", scroll, this.empty, this.rest);
		this.#heads();
	}

	get columns() {
		return this.options.columns.filter((column) => (this.more || !column.more) && Object.entries(this.kinds).every(([kind, shown]) => shown || !column[kind]));
	}

	#heads() {
		this.head.replaceChildren(...this.columns.map((column) => {
			const th = make("th", column.number ? "number" : "");
			th.scope = "col";
			if (column.hint)
				th.title = column.hint;
			if (!column.value) {
				th.append(column.title);
				return th;
			}
			th.append(makeButton(column.title, () => this.#sortBy(column)));
			if (this.sort.column === column)
				th.setAttribute("aria-sort", this.sort.descending ? "descending" : "ascending");
			return th;
		}));
	}

	/* Numbers first from the top, names from A; the other way round; as in the settings. */
	#sortBy(column) {
		const first = Boolean(column.number);
		if (this.sort.column !== column)
			this.sort = { column, descending: first };
		else if (this.sort.descending === first)
			this.sort = { column, descending: !first };
		else
			this.sort = { column: null, descending: false };
		const at = [...this.head.children].indexOf(document.activeElement?.closest("th"));
		this.#heads();
		this.head.children[at]?.querySelector("button")?.focus();
		this.draw();
	}

	showMore(more) {
		this.more = more;
		this.drawn.clear();
		this.#heads();
		this.draw();
	}

	/* The columns that are for some rows alone. */
	showWhere(kind, shown) {
		if (shown === this.kinds[kind])
			return;
		this.kinds[kind] = shown;
		this.drawn.clear();
		this.#heads();
	}

	update(rows) {
		this.rows = rows;
		this.draw();
	}

	#chosen() {
		const words = this.filter.toLowerCase().split(/\s+/).filter(Boolean);
		let rows = this.rows;
		if (this.options.keep)
			rows = rows.filter(this.options.keep);
		if (words.length > 0)
			rows = rows.filter((row) => {
				const text = this.options.text(row).toLowerCase();
				return words.every((word) => text.includes(word));
			});
		const { column, descending } = this.sort;
		if (column === null)
			return rows;
		const sign = descending ? -1 : 1;
		return [...rows].sort((a, b) => sign * compare(column.value(a), column.value(b)));
	}

	draw() {
		const rows = this.#chosen();
		const shown = this.all ? rows : rows.slice(0, TABLE_ROWS);
		const bodies = new Map();
		const alive = new Set();
		for (const row of shown) {
			const key = this.options.key(row);
			alive.add(key);
			const group = this.options.group ? this.options.group(row) : "";
			if (!bodies.has(group))
				bodies.set(group, []);
			bodies.get(group).push(this.#row(key, row));
		}
		for (const key of this.drawn.keys())
			if (!alive.has(key))
				this.drawn.delete(key);
		const drawn = [...bodies].map(([group, lines]) => this.#body(group, lines));
		arrange(this.table, [this.table.caption, this.table.tHead, ...drawn]);
		for (const group of this.groups.keys())
			if (!bodies.has(group))
				this.groups.delete(group);
		this.table.parentElement.hidden = rows.length === 0;
		this.empty.hidden = rows.length > 0;
		say(this.empty, this.rows.length > 0 ? "None matches." : this.options.empty);
		this.rest.hidden = shown.length === rows.length;
		say(this.rest, `Show all ${count(rows.length)}`);
	}

	#body(group, lines) {
		let body = this.groups.get(group);
		if (body === undefined) {
			body = make("tbody", "");
			this.groups.set(group, body);
			if (this.options.group) {
				const cell = make("th", "");
				cell.scope = "rowgroup";
				body.append(make("tr", "group", cell));
			}
		}
		const head = this.options.group ? [body.firstElementChild] : [];
		if (this.options.group) {
			const cell = head[0].firstElementChild;
			cell.colSpan = this.columns.length;
			this.options.drawGroup(cell, group);
		}
		arrange(body, [...head, ...lines]);
		return body;
	}

	#row(key, row) {
		const columns = this.columns;
		let line = this.drawn.get(key);
		if (line === undefined) {
			line = make("tr", "", ...columns.map((column, i) => {
				const cell = make(i === 0 ? "th" : "td", `${column.number ? "number" : ""}${column.long ? "text" : ""}`);
				if (i === 0)
					cell.scope = "row";
				return cell;
			}));
			this.drawn.set(key, line);
		}
		columns.forEach((column, i) => column.draw(line.children[i], row));
		return line;
	}
}

/* --- columns ---------------------------------------------------------------------------------------------------------------------- */

/* more: what else the column has; level(row) colours a cell. */
function textColumn(title, get, format = String, more = {}) {
	return { title, value: get, draw: (cell, row) => write(cell, format(get(row)), more.level?.(row) ?? ""), ...more };
}

function numberColumn(title, get, format = count, more = {}) {
	return { ...textColumn(title, get, format, more), number: true };
}

function meterColumn(title, get, most, hint) {
	return { title, hint, number: true, value: get, draw: (cell, row) => writeMeter(cell, get(row), most(row)) };
}

function sparkColumn(history, key) {
	const draw = (cell, row) => drawSpark(cell, history.sparks.get(key(row)) ?? []);
	return { title: "Last minute", hint: "New connections each second", draw };
}

/* --- cells ------------------------------------------------------------------------------------------------------------------------ */

/* A plain text, muted where it says nothing. */
function write(cell, text, level = "") {
	say(cell, text);
	cell.classList.toggle("muted", text === NOTHING || (text === "0" && cell.tagName !== "TH"));
	for (const name of ["good", "warn", "bad", "idle"])
		cell.classList.toggle(name, name === level);
}

/* The same pieces in each row, made once: part(cell, "name", "second") is the span of that name. */
function part(cell, name, names = "", tag = "span") {
	cell.parts ??= {};
	if (cell.parts[name] === undefined) {
		/* With a space between them, for who hears or copies it. */
		if (cell.lastChild !== null)
			cell.append(" ");
		cell.parts[name] = make(tag, names);
		cell.append(cell.parts[name]);
	}
	return cell.parts[name];
}

function optional(node, text) {
	node.hidden = text === "";
	say(node, text);
}

/* "12 of 100" with a bar, or the number alone where there is no limit. */
function writeMeter(cell, value, most) {
	say(part(cell, "value"), most > 0 ? `${count(value)} / ${count(most)}` : count(value));
	const meter = part(cell, "meter", "meter");
	meter.hidden = most === 0;
	if (most === 0)
		return;
	if (meter.firstElementChild === null)
		meter.append(make("i", ""));
	const filled = Math.min(1, value / most);
	style(meter, `meter ${filled >= 1 ? "bad" : filled >= 0.9 ? "warn" : ""}`);
	meter.firstElementChild.style.width = `${(filled * 100).toFixed(1)}%`;
}

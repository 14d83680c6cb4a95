/* What stands above a table, and the tables of listeners, workers and reasons. */

/* Buttons of which one is pressed, each with how many it would show. */
class Choices {
	constructor(label, choices, onChoice) {
		this.choices = choices;
		this.buttons = choices.map(([name, choice]) => makeButton(name, (event) => {
			for (const button of this.buttons)
				button.setAttribute("aria-pressed", String(button === event.currentTarget));
			onChoice(choice);
		}));
		this.buttons[0].setAttribute("aria-pressed", "true");
		this.buttons.slice(1).forEach((button) => button.setAttribute("aria-pressed", "false"));
		this.element = make("div", "choices", ...this.buttons);
		this.element.setAttribute("role", "group");
		this.element.setAttribute("aria-label", label);
	}

	count(list) {
		this.choices.forEach(([name, choice], i) => say(this.buttons[i], `${name} ${count(list.filter(choice).length)}`));
	}
}

/* What stands above a table: choices, a field to filter by, and all columns. */
function makeBar(table, label, choices, more) {
	const input = make("input", "");
	input.type = "search";
	input.placeholder = label;
	input.setAttribute("aria-label", label);
	input.spellcheck = false;
	input.addEventListener("input", () => {
		table.filter = input.value;
		table.draw();
	});
	const bar = make("div", "bar-above", ...(choices ? [choices] : []), input);
	if (more) {
		const button = makeButton("All columns", () => {
			button.setAttribute("aria-pressed", String(!table.more));
			table.showMore(!table.more);
		}, "end");
		button.setAttribute("aria-pressed", "false");
		bar.append(button);
	}
	return bar;
}

/* --- the tables ------------------------------------------------------------------------------------------------------------------- */

function makeListeners(history, section) {
	const per_second = (listener, name) => history.rate(listenerKey(listener), name);
	const flow = (title, name, format) => numberColumn(title, (row) => per_second(row, name), format);
	const level = (name, bad) => (row) => per_second(row, name) > 0 ? bad : "";
	const table = new Table({
		caption: "Listeners",
		empty: "There are no listeners.",
		key: (listener) => listener.name,
		columns: [
			textColumn("Listener", (row) => row.name),
			textColumn("Address", (row) => row.address),
			textColumn("Upstream", (row) => row.upstream),
			meterColumn("Active", (row) => row.active, (row) => row.max, "Connections now, and how many there may be"),
			flow("New/s", "total", rate),
			sparkColumn(history, listenerKey),
			flow("From clients", "received", bytesRate),
			flow("To clients", "sent", bytesRate),
			numberColumn("Total", (row) => row.total),
			numberColumn("Turned away", (row) => row.rejected, count, { level: level("rejected", "warn") }),
			numberColumn("Errors", (row) => row.errors, count, { level: level("errors", "bad") }),
			numberColumn("Retries", (row) => row.retries),
			{ ...flow("Datagrams/s", "datagrams", rate), udp: true, hint: "Received, from clients and from servers" },
			{ ...numberColumn("Dropped", drops, countIfAny, { level: level("drops", "warn") }), udp: true, hint: "Datagrams that were not passed on" },
			{ title: "First byte p50 / p99", hint: "Since the start", number: true, value: firstByte, draw: drawFirstByte },
		],
	});
	section.append(table.element);
	return (status) => {
		table.showWhere("udp", status.listeners.some(isUdp));
		table.update(status.listeners);
	};
}

const firstByte = (listener) => listener.latency.first_byte.p99_ms;

function drawFirstByte(cell, listener) {
	const times = listener.latency.first_byte;
	write(cell, times.count === 0 ? NOTHING : `${milliseconds(times.p50_ms)} / ${milliseconds(times.p99_ms)}`);
}

function makeWorkers(history, section) {
	const table = new Table({
		caption: "Workers",
		empty: "There are no workers.",
		key: (worker) => worker.pid,
		columns: [
			textColumn("Worker", (row) => row.slot, String),
			textColumn("State", (row) => row.state, String, { level: (row) => row.state === "running" ? "" : "warn" }),
			numberColumn("Pid", (row) => row.pid, String),
			numberColumn("Gen.", (row) => row.generation, String, { hint: "Generation" }),
			numberColumn("CPU", (row) => row.cpu, (cpu) => cpu < 0 ? NOTHING : `# ${cpu}`),
			numberColumn("Active", (row) => row.connections),
			numberColumn("Accepts/s", (row) => history.rate(workerKey(row), "total"), rate),
			numberColumn("Pauses", (row) => row.accept_pauses, count, { hint: "Accepting paused for want of room" }),
			numberColumn("No buffer", (row) => row.buffer_exhausted, count, { hint: "No buffer for what was read" }),
			numberColumn("Loop lag", (row) => row.loop_lag_ms, milliseconds,
				{ hint: "How late its event loop is", level: (row) => row.loop_lag_ms >= LAG_WARN_MS ? "warn" : "" }),
		],
	});
	section.append(table.element);
	return (status) => table.update(status.workers);
}

function makeEnds(history, section) {
	const table = new Table({
		caption: "Why connections ended",
		empty: "No connection has ended yet.",
		key: (row) => row.reason,
		columns: [
			textColumn("Reason", (row) => row.reason),
			numberColumn("Count", (row) => row.number),
			numberColumn(`Last ${RECENT_SECONDS} s`, (row) => row.recent, count,
				{ level: (row) => row.recent > 0 ? { ERROR: "bad", REJECTED: "warn" }[row.kind] ?? "" : "" }),
			{ title: "Meaning", long: true, draw: (cell, row) => write(cell, row.text) },
		],
	});
	section.append(table.element);
	return (status) => {
		const numbers = {};
		for (const listener of status.listeners)
			for (const reason in listener.closes)
				numbers[reason] = (numbers[reason] ?? 0) + listener.closes[reason];
		table.update(Object.keys(numbers).filter((reason) => numbers[reason] > 0).map((reason) => {
			const [kind, text] = REASONS[reason] ?? ["", ""];
			return { reason, number: numbers[reason], recent: history.since(`ended ${reason}`), kind, text };
		}));
	};
}

/* What is asked for only when someone wants it: the live connections, and why a client's connections went as they did. */

/* Before a server is chosen there is none. Of clients of TLS whose hello was read: by which name. */
const serverOf = (row) => row.server ? `${row.upstream}/${row.server}` : row.upstream || NOTHING;
const whereTo = (row) => row.sni ? `${serverOf(row)} (${row.sni})` : serverOf(row);

/* By which TLS either side is reached. */
const tlsOf = (row) => [["client", row.client_tls], ["server", row.server_tls]].filter(([, tls]) => tls !== undefined);
const tlsText = (row) => tlsOf(row).map(([side, tls]) => `${side} ${tls.version} ${tls.cipher}${tls.resumed ? " resumed" : ""}`).join(", ") || NOTHING;

/* What looks like an address is asked for: of a hundred thousand connections the answer has the first thousand. */
function clientOf(filter) {
	const word = filter.trim();
	return /^[0-9a-f.:[\]/]+$/i.test(word) && /[.:]/.test(word) ? `?client=${encodeURIComponent(word)}` : "";
}

function makeConnections(section, note, onWhy) {
	const table = new Table({
		caption: "Live connections",
		empty: "There are none.",
		key: (row) => row.id,
		text: (row) => `${row.id} ${row.client} ${row.listener} ${whereTo(row)} ${row.step} ${row.protocol}`,
		columns: [
			{ title: "Client", value: (row) => row.client, draw: (cell, row) => drawClient(cell, row, onWhy) },
			textColumn("Id", (row) => row.id),
			textColumn("Step", (row) => row.step),
			textColumn("Listener", (row) => row.listener),
			textColumn("Server", whereTo),
			{ ...textColumn("TLS", tlsText), tls: true, hint: "Which TLS the client and the server speak with Aegis" },
			numberColumn("Age", (row) => row.age_ms, milliseconds),
			numberColumn("Idle", (row) => row.idle_ms, milliseconds),
			numberColumn("From client", (row) => row.up_bytes, bytes),
			numberColumn("To client", (row) => row.down_bytes, bytes),
			{ ...numberColumn("Datagrams from", (row) => row.up_datagrams ?? NaN, countIfAny), udp: true, hint: "From the client" },
			{ ...numberColumn("Datagrams to", (row) => row.down_datagrams ?? NaN, countIfAny), udp: true, hint: "To the client" },
		],
	});
	const bar = makeBar(table, "Find a connection", null, false);
	const error = make("p", "error", "");
	error.setAttribute("role", "alert");
	const button = makeButton("Show live connections", async () => {
		button.disabled = true;
		const answer = await askOnce(`connections${clientOf(table.filter)}`, error);
		button.disabled = false;
		if (answer === null)
			return;
		say(button, "Ask again");
		const rows = answer.connections, silent = answer.silent_workers?.length ?? 0;
		const missing = silent > 0 ? `, ${plural(silent, "worker")} did not answer` : answer.truncated ? ", there are more" : "";
		const old = (answer.elders ?? []).reduce((sum, elder) => sum + elder.connections, 0);
		const before = old > 0 ? `, ${old} of a master before are not listed` : "";
		say(note, `${plural(rows.length, "connection")}${missing}${before}, as of ${clock(Date.now())}`);
		table.element.hidden = false;
		bar.lastElementChild.hidden = false;
		table.showWhere("udp", rows.some((row) => row.protocol === "udp"));
		table.showWhere("tls", rows.some((row) => tlsOf(row).length > 0));
		table.update(rows);
	});
	bar.prepend(button);
	bar.lastElementChild.hidden = true;
	table.element.hidden = true;
	section.append(bar, error, table.element);
}

function drawClient(cell, row, onWhy) {
	if (cell.button === undefined) {
		cell.button = makeButton("", () => onWhy(cell.client), "link mono");
		cell.append(cell.button);
	}
	cell.client = row.client;
	say(cell.button, row.client);
	attribute(cell.button, "title", `Why did the connections of ${row.client} go as they did?`);
}

function makeWhy(section) {
	const input = make("input", "mono");
	input.placeholder = "192.0.2.7 or 192.0.2.7:51234";
	input.setAttribute("aria-label", "Address of a client");
	input.spellcheck = false;
	input.autocomplete = "off";
	const error = make("p", "error", "");
	error.setAttribute("role", "alert");
	const answerBox = make("div", "");
	answerBox.setAttribute("aria-live", "polite");
	const form = make("form", "bar-above", input, make("button", "", "Ask"));
	form.addEventListener("submit", (event) => {
		event.preventDefault();
		ask();
	});
	section.append(form, error, answerBox);

	async function ask() {
		const address = input.value.trim();
		if (address === "")
			return input.focus();
		const answer = await askOnce(`why?address=${encodeURIComponent(address)}`, error);
		if (answer === null)
			return answerBox.replaceChildren();
		const cases = answer.connections;
		const found = `${plural(cases.length, "connection")} of ${address}, as of ${clock(Date.now())}.`;
		const none = `Nothing is recorded of ${address}. The recorder holds the most recent connections of each worker only.`;
		answerBox.replaceChildren(make("p", "muted", cases.length > 0 ? found : none), ...cases.map(drawCase));
	}

	return (address) => {
		input.value = address;
		section.scrollIntoView();
		input.focus({ preventScroll: true });
		ask();
	};
}

function drawCase(connection) {
	const open = !connection.ended;
	const reason = connection.reason ?? "";
	const level = open ? "good" : { ERROR: "bad", REJECTED: "warn" }[REASONS[reason]?.[0]] ?? "";
	const title = make("h3", "",
		make("span", `mono`, connection.client),
		make("span", level, open ? "still open" : reason),
		make("span", "note", `${moment(connection.began)}${open ? "" : ` to ${moment(connection.ended)}`}`),
		make("span", "note", `${connection.listener}, ${connection.id}`));
	const steps = make("ol", "steps", ...connection.steps.map((step) => make("li", "",
		make("span", "at mono", step.at_ms === 0 ? "0 ms" : `+${milliseconds(step.at_ms)}`),
		make("span", "headline", step.step),
		make("span", "text", step.text))));
	return make("div", "case", title, ...(!open && REASONS[reason] ? [make("p", "muted", REASONS[reason][1])] : []), steps);
}

/* A time of the API: seconds since 1970, or a text that stands for itself. */
function moment(value) {
	if (typeof value === "number")
		return clock(value * 1000);
	return typeof value === "string" && !Number.isNaN(Date.parse(value)) ? clock(Date.parse(value)) : String(value);
}

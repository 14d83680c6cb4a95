/* Asking, and what is shown when nobody answers. */

const ANSWER_SECONDS = 4;
const AGAIN_MS = 300;
const pace = { period: 1, paused: false, timer: 0, asking: false, failures: 0 };
const trouble = { since: 0, shown: "" };
let token = ""; /* never anywhere but here */
let lastAnswer = 0;
let view = null;

class Refused extends Error {}

/* The JSON of a GET. Throws Refused when the token is missing or wrong, and Error with a sentence for everything else. */
async function get(path) {
	const headers = token === "" ? {} : { Authorization: `Bearer ${token}` };
	let response;
	try {
		const signal = AbortSignal.timeout(ANSWER_SECONDS * 1000);
		response = await fetch(path, { headers, cache: "no-store", credentials: "omit", redirect: "error", signal });
	} catch (error) {
		throw new Error(error.name === "TimeoutError" ? `no answer within ${ANSWER_SECONDS} s` : "the connection failed");
	}
	if (response.status === 401)
		throw new Refused("the token is missing or wrong");
	const answer = await response.json().catch(() => null);
	if (!response.ok)
		throw new Error(answer?.error ?? `it answered with status ${response.status}`);
	if (typeof answer !== "object" || answer === null)
		throw new Error("what it answers makes no sense");
	return answer;
}

/* For what was asked for by hand: the answer, or null with the error shown. */
async function askOnce(path, error) {
	try {
		const answer = await get(path);
		say(error, "");
		return answer;
	} catch (failure) {
		if (failure instanceof Refused)
			askToken("");
		say(error, `Aegis did not answer: ${failure.message}.`);
		return null;
	}
}

function askToken(error) {
	const dialog = $("token");
	say($("token-error"), error);
	if (!dialog.open)
		dialog.showModal();
}

async function tick() {
	clearTimeout(pace.timer);
	if (pace.paused || pace.asking)
		return;
	pace.asking = true;
	const began = performance.now();
	try {
		const status = await get("status");
		lastAnswer = Date.now();
		pace.failures = 0;
		answered();
		view.show(status);
	} catch (failure) {
		if (failure instanceof Refused)
			askToken(token === "" ? "" : "That was not the right one.");
		/* At a reload a new process takes over who answers here: once is no news. */
		if (pace.failures++ > 0 || lastAnswer === 0 || failure instanceof Refused)
			unanswered(failure);
	}
	pace.asking = false;
	const took = performance.now() - began;
	if (pace.failures === 1)
		return void setTimeout(tick, AGAIN_MS);
	/* A big instance is not asked more often than it, and this browser, can bear; a tab in the background asks seldom. */
	const wait = Math.max(pace.period * 1000 - took, took * 3, document.hidden ? 5000 : 0);
	if (!$("token").open)
		pace.timer = setTimeout(tick, wait);
}

function answered() {
	if (trouble.since !== 0 && view.events.before !== null)
		view.events.add("good", `Aegis answers again, after ${seconds((Date.now() - trouble.since) / 1000)}`);
	trouble.since = 0;
	trouble.shown = "";
	document.documentElement.classList.remove("stale");
	$("banner").hidden = true;
	drawPulse();
}

function unanswered(failure) {
	if (trouble.since === 0) {
		trouble.since = Date.now();
		if (lastAnswer !== 0)
			view.events.add("bad", `Aegis does not answer: ${failure.message}`);
	}
	trouble.shown = failure.message;
	document.documentElement.classList.add("stale");
	document.title = "Not answering \u2013 Aegis";
	say($("state"), "not answering");
	style($("state"), "pill bad");
	const banner = $("banner"), seen = lastAnswer === 0 ? "" : `What you see is of ${clock(lastAnswer)}. `;
	say(banner, `Aegis does not answer since ${clock(trouble.since)}: ${failure.message}. ${seen}Trying again and again.`);
	banner.hidden = false;
	drawPulse();
}

function drawPulse() {
	if (pace.paused)
		say($("pulse"), `paused at ${clock(lastAnswer)}`);
	else
		say($("pulse"), lastAnswer === 0 ? "asking \u2026" : `as of ${clock(lastAnswer)}`);
}

class View {
	constructor() {
		this.history = new History();
		this.events = new Events($("event-list"), $("announce"));
		this.charts = makeCharts(this.history, $("traffic"));
		const tables = { servers: makeServers, listeners: makeListeners, certificates: makeCertificates, workers: makeWorkers, ends: makeEnds };
		this.tables = Object.entries(tables).map(([section, makeTable]) => makeTable(this.history, $(section)));
		makeConnections($("connections"), $("connections-note"), makeWhy($("why")));
	}

	show(status) {
		this.history.take(status);
		this.events.take(status);
		this.#identity(status);
		const found = drawAttention($("attention"), status, this.history);
		const bad = found.filter(([level]) => level === "bad").length;
		document.title = bad > 0 ? `(${bad}) ${found[0][1].replace(/\.$/, "")} \u2013 Aegis` : "Aegis";
		for (const update of this.tables)
			update(status);
		/* One chart less where there is no line to wait in, and the other way round. */
		const lines = status.upstreams.some(hasLine) || this.history.series.waiting.some((value) => value > 0);
		this.charts.waiting.element.hidden = !lines;
		this.charts.lag.element.hidden = lines;
		this.draw();
	}

	draw() {
		for (const chart of Object.values(this.charts))
			chart.draw();
	}

	#identity(status) {
		say($("state"), status.state);
		style($("state"), `pill ${status.state === "running" ? "good" : "warn"}`);
		const facts = [
			["version", status.version], ["up", uptime(status.uptime_seconds)], ["generation", `${status.generation}`],
			["engine", status.engine], ["settings", status.config_file || "command line"],
		];
		const list = $("facts");
		facts.forEach(([name, value], i) => {
			const item = list.children[i] ?? list.appendChild(make("div", "", make("dt", "", name), make("dd", "", "")));
			say(item.lastElementChild, value);
		});
	}
}

/* --- what the visitor chooses ----------------------------------------------------------------------------------------------------- */

function drawTheme(media) {
	const chosen = $("theme").value;
	document.documentElement.dataset.theme = chosen === "auto" ? (media.matches ? "dark" : "light") : chosen;
}

function chooser(id, otherwise, onChange) {
	const select = $(id), stored = recall(id, otherwise);
	if ([...select.options].some((option) => option.value === stored))
		select.value = stored;
	select.addEventListener("change", () => {
		remember(id, select.value);
		onChange(select.value);
	});
	onChange(select.value);
}

function begin() {
	const dark = matchMedia("(prefers-color-scheme: dark)");
	dark.addEventListener("change", () => drawTheme(dark));
	chooser("theme", "auto", () => drawTheme(dark));
	view = new View();
	chooser("window", "300", (value) => {
		for (const chart of Object.values(view.charts))
			chart.span = Number(value);
		view.draw();
	});
	chooser("period", "1", (value) => {
		pace.period = Number(value);
		tick();
	});
	$("pause").addEventListener("click", () => {
		pace.paused = !pace.paused;
		$("pause").setAttribute("aria-pressed", String(pace.paused));
		drawPulse();
		tick();
	});
	$("token-form").addEventListener("submit", (event) => {
		event.preventDefault();
		token = $("token-value").value.trim();
		$("token-value").value = "";
		$("token").close();
	});
	$("token").addEventListener("close", () => tick());
	document.addEventListener("visibilitychange", () => {
		if (!document.hidden)
			tick();
	});
	say($("events-note"), `since ${clock(Date.now())} and what was known then`);
}

begin();

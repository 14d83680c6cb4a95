/* Which charts there are. */

const whole = (value) => Number.isFinite(value) ? count(Math.round(value)) : NOTHING;

function percentiles() {
	return ["p50", "p95", "p99"].map((name) => ({ name: `_${name}`, label: name, look: `line-${name}` }));
}

const CHARTS = {
	active: {
		title: "Active connections", format: whole, least: 10,
		lines: [{ name: "active", label: "now", look: "line-1", fill: true }],
	},
	opened: {
		title: "New connections", format: rate, least: 10,
		lines: [{ name: "opened", label: "per second", look: "line-1", fill: true }],
	},
	throughput: {
		title: "Throughput", format: bytesRate, least: 10000,
		lines: [
			{ name: "sent", label: "to clients", look: "line-1", fill: true },
			{ name: "received", label: "from clients", look: "line-2", dash: "dashed" },
		],
	},
	latency: {
		title: `Latency, last ${RECENT_SECONDS} s`, format: milliseconds, log: true, lines: percentiles(),
		choices: [
			{ label: "first byte", prefix: "first_byte", title: "From the client's first byte to the server's first byte" },
			{ label: "connect", prefix: "connect", title: "Connecting to a server" },
			{ label: "whole", prefix: "connection", title: "From accepting a connection to its end" },
		],
	},
	failed: {
		title: "Failed and turned away", format: rate, least: 5,
		lines: [
			{ name: "errors", label: "errors/s", look: "line-bad" },
			{ name: "rejected", label: "turned away/s", look: "line-warn", dash: "dashed" },
		],
	},
	waiting: {
		title: "Clients waiting in line", format: whole, least: 10,
		lines: [{ name: "waiting", label: "now", look: "line-3", fill: true }],
	},
	lag: {
		title: "Worst delay of an event loop", format: milliseconds, least: 1,
		lines: [{ name: "lag", label: "now", look: "line-3" }],
	},
};

/* All of them, by name. */
function makeCharts(history, parent) {
	const charts = Object.fromEntries(Object.entries(CHARTS).map(([name, options]) => [name, new Chart(history, options)]));
	parent.append(...Object.values(charts).map((chart) => chart.element));
	return charts;
}

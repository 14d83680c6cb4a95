/* What stands out right now, worst first: the question of whoever opens this page at three in the morning. */

const LAG_WARN_MS = 50;
const FULL_WARN = 0.9;
const NAMED_MOST = 6;
const SHORTAGES = [
	["accept_pauses", "Accepting paused for want of room or descriptors."],
	["buffer_exhausted", "Buffer memory ran out; data waits in the kernel."],
	["log_dropped", "Log lines are dropped; the log's disk or reader is too slow."],
];

/* The first few, each in its words. */
function list(rows, words) {
	const more = rows.length - NAMED_MOST;
	return rows.slice(0, NAMED_MOST).map(words).join("; ") + (more > 0 ? `; and ${count(more)} more` : "");
}

/* [level, headline, more] each. */
function findings(status, history) {
	const found = [];
	const tell = (level, headline, more = "") => found.push([level, headline, more]);
	if (status.state !== "running" && status.state !== "reloading")
		tell("warn", `Aegis is ${status.state}.`, /^drain/.test(status.state) ? "It takes no new connections." : "");
	for (const upstream of status.upstreams)
		tellUpstream(upstream, tell);
	tellEnds(history, tell);
	tellDrops(status, history, tell);
	tellFull("All listeners together hold", status.connections, tell);
	for (const listener of status.listeners)
		tellFull(`Listener ${listener.name} holds`, listener, tell);
	tellWorkers(status, tell);
	tellCertificates(status, tell);
	for (const [counter, text] of SHORTAGES)
		if (history.since(counter) > 0)
			tell("warn", text);
	const reloads = status.reloads;
	if (reloads.failed > 0 && !reloads.last_ok)
		tell("warn", "The last reload failed; the settings before stay.", `${clock(reloads.last_unix * 1000)}: ${reloads.last_note}`);
	const order = ["bad", "warn", "idle"];
	return found.sort((a, b) => order.indexOf(a[0]) - order.indexOf(b[0]));
}

function tellUpstream(upstream, tell) {
	const { name, servers } = upstream;
	const trouble = servers.filter(isTrouble), usable = servers.filter((server) => server.usable);
	const withWhy = (server) => `${server.name}: ${why(server)}`;
	if (servers.length > 0 && usable.length === 0)
		tell("bad", `${name}: no server is usable.`, list(servers, withWhy));
	else if (trouble.length > 0)
		tell("bad", `${name}: ${count(trouble.length)} of ${plural(servers.length, "server")} ${trouble.length === 1 ? "gets" : "get"} no new connections.`,
			list(trouble, withWhy));
	const starting = usable.filter((server) => server.state === "slow start" || server.state === "breaker half-open");
	if (starting.length > 0)
		tell("idle", `${name}: ${plural(starting.length, "server")} coming back.`, list(starting, withWhy));
	const wanted = servers.filter((server) => server.override !== "none");
	if (wanted.length > 0)
		tell("idle", `${name}: ${plural(wanted.length, "server")} set by the operator.`, list(wanted, (server) => `${server.name}: ${server.override}`));
	const full = servers.filter((server) => server.max > 0 && server.active >= server.max);
	if (full.length > 0)
		tell("warn", `${name}: ${plural(full.length, "server")} full.`, list(full, (server) => `${server.name}: ${pair(server.active, server.max)}`));
	tellLine(upstream, tell);
}

function tellLine({ name, waiting, queue_max }, tell) {
	if (waiting === 0)
		return;
	const most = queue_max > 0 ? `, of at most ${count(queue_max)}` : "";
	tell(queue_max > 0 && waiting >= 0.8 * queue_max ? "bad" : "warn", `${name}: ${plural(waiting, "client waits", "clients wait")} in line${most}.`);
}

function tellEnds(history, tell) {
	const span = Math.round(history.recentSeconds);
	for (const [counter, kind, level, words] of [["errors", "ERROR", "bad", "failed"], ["rejected", "REJECTED", "warn", "turned away"]]) {
		const number = history.since(counter);
		if (number === 0)
			continue;
		const reasons = Object.keys(REASONS).filter((reason) => REASONS[reason][0] === kind);
		const numbers = reasons.map((reason) => [history.since(`ended ${reason}`), reason]).sort((a, b) => b[0] - a[0]);
		const [most, reason] = numbers[0];
		const mostly = most === 0 ? "" : `${most === number ? "All" : "Most"} for ${reason}: ${REASONS[reason][1]}.`;
		tell(level, `${plural(number, "connection")} ${words} in the last ${span} s.`, mostly);
	}
}

function tellDrops(status, history, tell) {
	const numbers = Object.keys(status.udp.drops).map((reason) => [history.since(`dropped ${reason}`), reason]).filter(([number]) => number > 0);
	const all = sum(numbers, ([number]) => number);
	if (all > 0)
		tell("warn", `${plural(all, "datagram")} dropped in the last ${Math.round(history.recentSeconds)} s.`,
			list(numbers.sort((a, b) => b[0] - a[0]), ([number, reason]) => `${reason}: ${count(number)}`));
}

function tellFull(who, { active, max }, tell) {
	if (max > 0 && active >= FULL_WARN * max)
		tell(active >= max ? "bad" : "warn", `${who} ${count(active)} of at most ${plural(max, "connection")}.`);
}

function tellWorkers(status, tell) {
	const slow = status.workers.filter((worker) => worker.loop_lag_ms >= LAG_WARN_MS);
	if (slow.length > 0)
		tell("warn", `${plural(slow.length, "worker")} late.`, list(slow, (worker) => `worker ${worker.slot}: ${milliseconds(worker.loop_lag_ms)} behind`));
	const old = status.workers.filter((worker) => worker.generation < status.generation && worker.connections > 0);
	const held = sum(old, (worker) => worker.connections);
	if (old.length > 0)
		tell("idle", `Older generations still drain: ${plural(held, "connection")} in ${plural(old.length, "worker")}.`);
}

/* For each level one line, the soonest first. */
function tellCertificates(status, tell) {
	const soonest = [...status.certificates].sort((a, b) => a.not_after_unix - b.not_after_unix);
	const at = (level) => soonest.filter((certificate) => certificateLevel(certificate) === level);
	const named = (certificate) => `${certificate.name} (${certificate.listener}) ${certificateText(certificate)}`;
	const expired = at("bad"), soon = at("warn");
	if (expired.length > 0)
		tell("bad", `${plural(expired.length, "certificate has", "certificates have")} expired.`, list(expired, named));
	if (soon.length > 0)
		tell("warn", `${plural(soon.length, "certificate needs", "certificates need")} attention.`, list(soon, named));
}

function calm(status, history) {
	const servers = sum(status.upstreams, (upstream) => upstream.servers.length);
	const usable = sum(status.upstreams, (upstream) => upstream.servers.filter((server) => server.usable).length);
	const span = Math.round(history.recentSeconds);
	const ends = span > 0 ? `, no connection failed or was turned away in the last ${span} s` : "";
	return ["good", "Nothing stands out.", `${count(usable)} of ${plural(servers, "server")} usable${ends}.`];
}

function drawAttention(box, status, history) {
	const found = findings(status, history);
	if (found.length === 0)
		found.push(calm(status, history));
	while (box.children.length > found.length)
		box.lastElementChild.remove();
	found.forEach(([level, headline, more], i) => {
		let item = box.children[i];
		if (item === undefined) {
			const words = make("div", "", make("span", "headline", ""), " ", make("span", "muted", ""));
			item = make("li", "", makeIcon("note", level), words);
			box.append(item);
		}
		setIcon(item.firstElementChild, { bad: "down", warn: "warn", idle: "note", good: "calm" }[level], level);
		const [title, text] = item.lastElementChild.children;
		style(title, `headline ${level === "idle" ? "" : level} ${level === "good" ? "calm" : ""}`);
		say(title, headline);
		say(text, more);
	});
	return found;
}

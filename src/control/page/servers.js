/* The table of servers, by upstream. */

const pair = (one, other) => `${count(one)} / ${count(other)}`;
const checkTime = ({ server }) => hasCheck(server) ? server.health.latency_ms : NaN;

const MORE_SERVER_COLUMNS = [
	{ title: "Checks ok / failed", number: true, value: ({ server }) => server.health.failed,
		draw: (cell, { server }) => write(cell, pair(server.health.passed, server.health.failed)) },
	{ title: "Breaker", value: ({ server }) => server.breaker.trips,
		draw: (cell, { server }) => write(cell, `${server.breaker.state}, opened ${count(server.breaker.trips)}\u00d7`) },
	numberColumn("Ejected", ({ server }) => server.ejections),
	{ title: "Pool hits / misses", number: true, value: ({ server }) => server.pool.hits,
		draw: (cell, { server }) => write(cell, pair(server.pool.hits, server.pool.misses)) },
	{ title: "Addresses", draw: (cell, { server }) => write(cell, server.addresses.join(", ") || NOTHING) },
].map((column) => ({ ...column, more: true }));

function makeServers(history, section) {
	let upstreams = new Map(), keep = () => true;
	const key = ({ upstream, server }) => serverKey(upstream, server);
	const per_second = (row, name) => history.rate(key(row), name);
	const table = new Table({
		caption: "Servers by upstream",
		empty: "There are no servers.",
		key,
		group: ({ upstream }) => upstream.name,
		drawGroup: (cell, name) => drawUpstream(cell, upstreams.get(name)),
		text: ({ upstream, server }) => `${upstream.name}/${server.name} ${server.address} ${stateText(server)}`,
		keep: (row) => keep(row.server),
		columns: [
			{ title: "Server", value: (row) => row.server.name, draw: drawServer },
			{ title: "State", value: (row) => row.server.state, draw: (cell, row) => drawState(cell, row.server) },
			{ title: "Last check", hint: "What it said, how long it took, when it was", value: checkTime, draw: drawCheck },
			meterColumn("Active", ({ server }) => server.active, ({ server }) => server.max, "Connections with a client, and how many there may be"),
			numberColumn("Hot", ({ server }) => server.hot, count, { hint: "Connections that are ready for a client" }),
			numberColumn("New/s", (row) => per_second(row, "total"), rate),
			sparkColumn(history, key),
			numberColumn("From server", (row) => per_second(row, "received"), bytesRate),
			numberColumn("To server", (row) => per_second(row, "sent"), bytesRate),
			{ title: "Weight", hint: "In force now, and set", number: true, value: ({ server }) => server.weight_now, draw: drawWeight },
			numberColumn("Total", ({ server }) => server.total),
			numberColumn("Failed", ({ server }) => server.failures, count,
				{ hint: "Connections to it that failed", level: (row) => per_second(row, "failures") > 0 ? "bad" : "" }),
			...MORE_SERVER_COLUMNS,
		],
	});
	const kinds = [["all", () => true], ["usable", (server) => server.usable], ["not usable", (server) => !server.usable]];
	const choices = new Choices("Which servers", kinds, (choice) => {
		keep = choice;
		table.draw();
	});
	section.append(makeBar(table, "Find a server", choices.element, true), table.element);
	return (status) => {
		upstreams = new Map(status.upstreams.map((upstream) => [upstream.name, upstream]));
		const list = [...eachServer(status)].map(([upstream, server]) => ({ upstream, server }));
		choices.count(list.map((row) => row.server));
		table.update(list);
	};
}

function drawServer(cell, { server }) {
	say(part(cell, "name"), server.name);
	optional(part(cell, "address", "second"), server.address === server.name ? "" : server.address);
	optional(part(cell, "backup", "tag"), server.backup ? "backup" : "");
}

function drawCheck(cell, { server }) {
	const text = checkText(server);
	const level = hasCheck(server) && server.health.state === "down" ? "bad" : "";
	write(part(cell, "result"), text === "" ? NOTHING : text, level);
	const { latency_ms, checked_seconds_ago } = server.health;
	optional(part(cell, "more", "second"), hasCheck(server) ? `${milliseconds(latency_ms)}, ${seconds(checked_seconds_ago)} ago` : "");
}

function drawWeight(cell, { server }) {
	const { weight, weight_now } = server;
	write(cell, weight_now === weight ? count(weight) : `${count(weight_now)} / ${count(weight)}`);
}

const hasLine = (upstream) => upstream.queue_max > 0 || upstream.waiting > 0;

function drawUpstream(cell, upstream) {
	const usable = upstream.servers.filter((server) => server.usable).length, all = upstream.servers.length;
	say(part(cell, "name", "", "b"), upstream.name);
	const words = part(cell, "usable");
	say(words, `${usable} of ${all} usable`);
	style(words, usable === 0 ? "bad" : upstream.servers.some(isTrouble) ? "warn" : "");
	say(part(cell, "active"), `${count(sum(upstream.servers, (server) => server.active))} active`);
	const line = part(cell, "line");
	line.hidden = !hasLine(upstream);
	style(line, upstream.waiting > 0 ? "warn" : "");
	say(part(line, "title"), "waiting in line ");
	writeMeter(part(line, "meter"), upstream.waiting, upstream.queue_max);
}
